"""How a client waits for what a server will do in its own time: by looking, at intervals that grow."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hibernaut.errors import Unavailable
from hibernaut.models import AgentState, AgentStatus

FIRST_INTERVAL = 0.05
LAST_INTERVAL = 1.0
"""Seconds between two looks: at first, and after a while."""
GROWTH = 1.25
GRACE = 45.0
"""How long a wait outlives servers that do not answer: a worker or a Temporal server that restarts is soon back."""

T = TypeVar("T")


class Pace:
    """Sleeps between two looks, a little longer each time."""

    def __init__(self) -> None:
        """Begin fast."""
        self._interval = FIRST_INTERVAL

    async def sleep(self) -> None:
        """Sleep until the next look."""
        await asyncio.sleep(self._interval)
        self._interval = min(LAST_INTERVAL, self._interval * GROWTH)

    def reset(self) -> None:
        """Something happened: look often again."""
        self._interval = FIRST_INTERVAL


class Every:
    """True at most once in so many seconds, and not at first."""

    def __init__(self, seconds: float) -> None:
        """Begin counting now."""
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time again; begins anew when it is."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


async def poll(look: Callable[[], Awaitable[T | None]]) -> T:
    """Look until something true is seen."""
    pace = Pace()
    while not (found := await look()):
        await pace.sleep()
    return found


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Try again for a while when a server is away: what is waited for is durable, so waiting is all it takes."""
    ends = time.monotonic() + GRACE
    while True:
        try:
            return await call()
        except Unavailable as error:
            if not error.retryable or time.monotonic() > ends:
                raise
            await asyncio.sleep(LAST_INTERVAL)


def ensure_not_cancelled() -> None:
    """Raise CancelledError when the current task is being cancelled.

    Temporal's client turns a cancellation into an error of its own, after which a retry loop would go on for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def asleep(status: AgentStatus, settled: bool) -> bool:  # noqa: FBT001  # the shape of every such condition
    """Whether an agent sleeps: idle without a container is too, once it is clear that none is on its way."""
    if status.lease is not None:
        return False
    never_began = status.turn == 0 and status.generation == 0
    idle = status.state in {AgentState.IDLE, AgentState.WAITING_APPROVAL} and (never_began or settled)
    return idle or status.state in {AgentState.HIBERNATED, AgentState.PAUSED}


def awake(status: AgentStatus, _settled: bool) -> bool:  # noqa: FBT001  # the same
    """Whether an agent holds a sandbox and keeps it: a lease alone may be about to be given up."""
    resting = status.state in {AgentState.IDLE, AgentState.PAUSED, AgentState.WAITING_APPROVAL}
    working = status.state is AgentState.RUNNING and status.current_message_id is not None
    return status.lease is not None and (resting or working)
