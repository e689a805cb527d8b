"""`python -m workers.egress`: the egress proxy of this host, until SIGINT, SIGTERM, or nothing is left to serve."""

import asyncio
import ctypes
import fcntl
import logging
import os
import resource
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from activities.adapters import egress_wire as wire
from activities.egress.journal import EgressLog
from hibernaut.errors import HibernautError
from workers.egress.folder import egress_folder, release
from workers.egress.serve import Doorkeeper, upstream_trust
from workers.settings import HostSettings

NOBODY = 65_534
RESOLVERS = 64
"""Threads that wait for the resolver."""
_PR_SET_DUMPABLE = 4
WAIT_S = 10.0
"""Seconds to wait for the end of the proxy before."""


def main() -> int:
    """Serve; 0 in the end or when there is one already, 1 when it cannot start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = HostSettings.load()
    except HibernautError as error:
        print(f"The egress proxy cannot start. {error}", file=sys.stderr)  # noqa: T201  # said to whoever started it
        return 1
    folder = egress_folder(settings)
    kept = folder / "log"
    kept.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("a+", encoding="utf-8") as lock:
        if not _taken(lock):
            return 0
        keeper_release = release(settings)
        control = wire.listening(folder)
        # Loads what names are encoded with: once rights are given up its file may be out of reach.
        "localhost".encode("idna")
        sink = EgressLog(kept)
        try:
            upstream = upstream_trust(settings.egress_ca_file)
        except OSError as error:
            print(f"HIBERNAUT_EGRESS_CA_FILE cannot be used: {error}", file=sys.stderr)  # noqa: T201  # as above
            return 1
        _give_up_rights(kept)
        logging.getLogger("workers.egress").info("the egress proxy of host %s serves", settings.host_id)
        asyncio.run(_serve(Doorkeeper(sink, keeper_release, settings.egress_reachable, upstream), control))
    return 0


async def _serve(keeper: Doorkeeper, control: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolver"))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, keeper.ended.set)
    await keeper.run(control)
    # Whoever still resolves a name must not hold up the end.
    logging.shutdown()
    os._exit(0)


def _give_up_rights(kept: Path) -> None:
    """Be nobody, with the folder of the log and as many open files as the machine lets a process have."""
    # It is to hold values of secrets: what dies leaves nothing of its memory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if os.geteuid() != 0:
        _be_unreadable()
        return
    for path in (kept, *kept.iterdir()):
        # The folder is nobody's already: what a link there leads to stays whose it is.
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    _be_unreadable()


def _be_unreadable() -> None:
    """Let no other process of the same user read this one's memory."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_DUMPABLE")


def _taken(lock: IO[str]) -> bool:
    """Take the lock, which the kernel frees however we end; False when another proxy keeps it."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        else:
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            return True


if __name__ == "__main__":
    sys.exit(main())
