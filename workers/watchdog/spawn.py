"""Sees to it that a host has a watchdog: a worker starts one that outlives it, unless one is there."""

import asyncio
import fcntl
import logging
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from activities.beside import beside
from workers import detached
from workers.settings import HostSettings
from workers.watchdog.folder import HostFolder

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


@asynccontextmanager
async def guarded(settings: HostSettings) -> AsyncGenerator[None]:
    """See to it that there is a watchdog, now and until the block ends; it stays when the block ends.

    Its start is not waited for: the lease of a worker that has just come up is good for many times as long.
    """
    folder = HostFolder(settings.home, settings.host_id)
    folder.make()
    async with beside(_keep(settings, folder)):
        yield


async def _keep(settings: HostSettings, folder: HostFolder) -> None:
    ours: subprocess.Popen[bytes] | None = None
    while True:
        # Asked also so that one that has ended leaves no entry in the process table.
        detached.reap()
        if not watched(folder) and (ours is None or ours.poll() is not None):
            ours = await asyncio.to_thread(detached.start, settings, folder.log, "workers.watchdog", "--spare")
            _log.info("started a watchdog, pid %d; its log is %s", ours.pid, folder.log)
        await asyncio.sleep(settings.lease_seconds / 5)
