"""Sandboxes that a worker of this host held still for a snapshot as it was killed go on when the next worker starts."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from activities.adapters.docker_freeze import Freezer

WAIT_S = 5.0
"""Seconds a start waits for it; a daemon that takes longer must not keep the worker from its other work."""


@asynccontextmanager
async def recovered(freezer: Freezer) -> AsyncGenerator[None]:
    """Let go on what was left frozen, before the block or while it runs; what the watchdog has marked stays frozen."""
    task = asyncio.create_task(asyncio.to_thread(freezer.recover_all))
    try:
        await asyncio.wait({task}, timeout=WAIT_S)
        yield
    finally:
        task.cancel()
