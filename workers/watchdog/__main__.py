"""`python -m workers.watchdog [--spare]`: freeze this host's sandboxes when it is cut off; until SIGINT or SIGTERM."""

import argparse
import fcntl
import logging
import os
import signal
import sys
import time
from threading import Event
from typing import IO

from activities.adapters.docker_client import Daemon
from hibernaut.errors import HibernautError
from workers.audit_spool import spool_of
from workers.settings import HostSettings
from workers.watchdog.folder import HostFolder
from workers.watchdog.watch import INTERVAL_S, Watchdog

log = logging.getLogger("workers.watchdog")


def main() -> int:
    """Watch; 0 after a signal, 1 when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m workers.watchdog", description="The watchdog of a sandbox host.")
    parser.add_argument(
        "--spare", action="store_true", help="end when there is another one, or nothing is left to watch over"
    )
    spare: bool = parser.parse_args().spare
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    try:
        settings = HostSettings.load()
    except HibernautError as error:
        print(f"The watchdog cannot start. {error}", file=sys.stderr)  # noqa: T201  # said to whoever started it
        return 1
    folder = HostFolder(settings.home, settings.host_id)
    folder.make()
    with folder.lock.open("a+", encoding="utf-8") as lock:
        while not _taken(lock):
            if spare or stop.wait(INTERVAL_S):
                return 0
        log.info("watching over host %s, from %s", settings.host_id, folder.path)
        audit = spool_of(settings)
        Watchdog(folder, Daemon(settings.docker_host), settings.host_id, audit).run(stop, stays=not spare)
    return 0


def _taken(lock: IO[str]) -> bool:
    """Take the lock, which the kernel frees however we end; False when another watchdog has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    lock.truncate(0)
    lock.write(f"{os.getpid()} {time.time():.0f}\n")
    lock.flush()
    return True


if __name__ == "__main__":
    sys.exit(main())
