"""Sees to it that a host has a watchdog: a worker starts one that outlives it, unless one is there."""

import asyncio
import fcntl
import logging
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress

from workers.settings import CHECKOUT, HostSettings
from workers.watchdog.folder import HostFolder

_PASSED = ("DOCKER_", "LC_", "PYTHON", "SSL_CERT_")
_PASSED_NAMES = frozenset({"HOME", "LANG", "PATH", "TMPDIR", "TZ"})
_started: list[subprocess.Popen[bytes]] = []
"""Those this process has started: held until they end, as Python complains of a child that is let go of."""

_log = logging.getLogger(__name__)


def watched(folder: HostFolder) -> bool:
    """Whether a watchdog holds this host's lock."""
    try:
        with folder.lock.open(encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


async def guards(folder: HostFolder) -> bool:
    """The same, as a test of health."""
    return watched(folder)


def environment(settings: HostSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """What a watchdog is given: it lives long, and needs no secret."""
    passed = {name: value for name, value in environ.items() if name in _PASSED_NAMES or name.startswith(_PASSED)}
    return passed | {
        "HIBERNAUT_HOME": str(settings.home.absolute()),
        "HIBERNAUT_HOST_ID": settings.host_id,
        **({"HIBERNAUT_DOCKER_HOST": settings.docker_host} if settings.docker_host else {}),
    }


def spawn(settings: HostSettings, folder: HostFolder) -> subprocess.Popen[bytes]:
    """Start a watchdog that belongs to nobody."""
    with folder.log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "workers.watchdog", "--spare"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(settings, os.environ),
            cwd=CHECKOUT,
            # It goes on whatever happens to the worker, its process group and its terminal.
            start_new_session=True,
        )


@asynccontextmanager
async def guarded(settings: HostSettings) -> AsyncGenerator[None]:
    """See to it that there is a watchdog, now and until the block ends; it stays when the block ends.

    Its start is not waited for: the lease of a worker that has just come up is good for many times as long.
    """
    folder = HostFolder(settings.home, settings.host_id)
    folder.make()
    task = asyncio.create_task(_keep(settings, folder))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _keep(settings: HostSettings, folder: HostFolder) -> None:
    ours: subprocess.Popen[bytes] | None = None
    while True:
        # Asked also so that one that has ended leaves no entry in the process table.
        _started[:] = [process for process in _started if process.poll() is None]
        if not watched(folder) and (ours is None or ours not in _started):
            ours = await asyncio.to_thread(spawn, settings, folder)
            _started.append(ours)
            _log.info("started a watchdog, pid %d; its log is %s", ours.pid, folder.log)
        await asyncio.sleep(settings.lease_seconds / 5)
