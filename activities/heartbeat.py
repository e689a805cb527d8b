"""Heartbeats that go on while an activity waits for something silent."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from temporalio import activity

from activities.beside import beside

INTERVAL_S = 1.0


@dataclass(slots=True)
class Pulse:
    """The details of the next heartbeat; set by the work, read by the beat."""

    details: tuple[object, ...] = field(default=())

    def say(self, *details: object) -> None:
        """Replace the details: what a client sees of the running activity."""
        self.details = details


@asynccontextmanager
async def beating(interval_s: float = INTERVAL_S) -> AsyncGenerator[Pulse]:
    """Heartbeat every `interval_s` seconds until the block ends."""
    pulse = Pulse()

    async def beat() -> None:
        while True:
            activity.heartbeat(*pulse.details)
            await asyncio.sleep(interval_s)

    async with beside(beat()):
        yield pulse
