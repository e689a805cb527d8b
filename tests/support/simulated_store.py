"""A store in memory whose every request waits for its turn: who is served next, and how late it is, is a test's to say.

No time passes but what the schedule lets pass, and nothing runs in threads: a seed decides everything that happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from activities.errors import ObjectExists, ObjectNotFound, PreconditionFailed
from activities.ports.store import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterable
    from random import Random

    from tests.support.simulated_pace import Pace

ACTOR: ContextVar[str] = ContextVar("actor", default="nobody")
PAGE = 3
"""Keys that a listing sees at one moment."""


@dataclass(slots=True)
class _Waiting:
    actor: str
    not_before: datetime
    turn: asyncio.Future[None]


@dataclass(slots=True)
class Object:
    """One object."""

    data: bytes
    etag: str
    modified: datetime


@dataclass(slots=True)
class Schedule:
    """Lets one request at a time happen, and time pass in between."""

    random: Random
    pace: Pace
    now: datetime = datetime(2026, 3, 1, tzinfo=UTC)
    stalls: float = 0.03
    """Odds that a request is held up."""
    turns: int = 0
    waiting: list[_Waiting] = field(default_factory=list[_Waiting])
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, "asyncio.Task[None]"])
    frozen: set[str] = field(default_factory=set[str])
    """Actors that are never served: killed, or asleep."""
    freezing: dict[str, int] = field(default_factory=dict[str, int])
    """After how many more turns an actor freezes."""

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something as an actor of this name."""

        async def acting() -> None:
            ACTOR.set(name)
            await work

        task = self.tasks[name] = asyncio.ensure_future(acting())
        return task

    def uptime(self) -> float:
        """Return the seconds that passed."""
        return self.now.timestamp()

    async def turn(self, delay: float = 0) -> None:
        """Wait until it is this actor's turn, at the earliest in `delay` seconds."""
        turn = asyncio.get_running_loop().create_future()
        self.waiting.append(_Waiting(ACTOR.get(), self.now + timedelta(seconds=delay), turn))
        await turn

    async def run(self) -> None:
        """Serve until every actor is done; raise what one raised."""
        while True:
            await _settled()
            for task in [task for task in self.tasks.values() if task.done()]:
                if not task.cancelled():
                    task.result()
            self.waiting = [one for one in self.waiting if not one.turn.done()]
            served = [one for one in self.waiting if one.actor not in self.frozen]
            if not served:
                left = [name for name, task in self.tasks.items() if not task.done() and name not in self.frozen]
                assert not left, f"{left} wait for nothing"
                return
            self._serve(served)

    async def end(self) -> None:
        """Give up whoever is frozen."""
        self.frozen.clear()
        for task in self.tasks.values():
            task.cancel()
        while not all(task.done() for task in self.tasks.values()):
            await _settled()
            # Whoever asks for something on the way out is dead as well.
            for one in self.waiting:
                one.turn.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    def _serve(self, served: list[_Waiting]) -> None:
        self.turns += 1
        ready = [one for one in served if one.not_before <= self.now]
        if not ready:
            self.now = min(one.not_before for one in served)
            return
        for odds, longest in self.pace.leaps:
            if self.random.random() < odds:
                self.now += timedelta(seconds=self.random.uniform(0, longest))
        self.now += timedelta(seconds=self.random.uniform(0, self.pace.turn))
        chosen = self.random.choice(ready)
        if self.random.random() < self.stalls:
            # The others may do a lot meanwhile.
            chosen.not_before = self.now + timedelta(seconds=10 ** self.random.uniform(*self.pace.stall))
            return
        chosen.turn.set_result(None)
        if chosen.actor in self.freezing:
            self.freezing[chosen.actor] -= 1
            if self.freezing[chosen.actor] <= 0:
                del self.freezing[chosen.actor]
                self.frozen.add(chosen.actor)


async def _settled() -> None:
    """Let everything run until it waits."""
    ready: Any = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    while True:
        await asyncio.sleep(0)
        if not ready:
            return


class SimulatedStore:
    """Implements `ObjectStore`. A request takes effect at its turn, and may be answered much later."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.objects: dict[str, Object] = {}
        self.on_delete: Callable[[str], None] = _nothing
        self.last_deleted: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes:
        async with self._request():
            return self._at(key).data

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        return (await self.get(key))[start : start + length]

    async def put(self, key: str, data: bytes, *, if_none_match: bool = False) -> None:
        async with self._request():
            if if_none_match and key in self.objects:
                raise ObjectExists(key)
            self._write(key, data)

    async def stream(self, key: str, *, start: int = 0) -> AsyncIterator[bytes]:
        yield (await self.get(key))[start:]

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        data = b"".join([chunk async for chunk in chunks])
        await self.put(key, data)
        return len(data)

    async def head(self, key: str) -> ObjectInfo | None:
        async with self._request():
            return self._info(key) if key in self.objects else None

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """A page at a time: what changes meanwhile is seen where it lies further on."""
        last = ""
        while True:
            async with self._request():
                keys = sorted(key for key in self.objects if key.startswith(prefix) and key > last)
                page = [self._info(key) for key in keys[:PAGE]]
            for info in page:
                yield info
            if len(keys) <= PAGE:
                return
            last = page[-1].key

    async def list_folders(self, prefix: str) -> AsyncIterator[str]:
        async with self._request():
            names = {key[len(prefix) :].partition("/") for key in self.objects if key.startswith(prefix)}
        for folder in sorted({f"{prefix}{name}/" for name, slash, _ in names if slash}):
            yield folder

    async def delete(self, keys: Iterable[str]) -> None:
        """One after the other, in any order."""
        wanted = list(keys)
        self.schedule.random.shuffle(wanted)
        for key in wanted:
            async with self._request():
                found = self.objects.pop(key, None)
                if found is not None:
                    self.last_deleted = {key: found.data}
                    self.on_delete(key)

    async def replace(self, key: str, data: bytes, *, if_match: str | None) -> str:
        async with self._request():
            found = self.objects.get(key)
            if (found.etag if found is not None else None) != if_match:
                raise PreconditionFailed(key)
            return self._write(key, data)

    async def close(self) -> None:
        """Nothing is open."""

    def _at(self, key: str) -> Object:
        if key not in self.objects:
            raise ObjectNotFound(key)
        return self.objects[key]

    def _write(self, key: str, data: bytes) -> str:
        # As S3 does it: the same bytes have the same ETag.
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        self.objects[key] = Object(data, etag, self.schedule.now)
        return etag

    def _info(self, key: str) -> ObjectInfo:
        found = self.objects[key]
        return ObjectInfo(key, len(found.data), found.etag, found.modified)

    @contextlib.asynccontextmanager
    async def _request(self) -> AsyncGenerator[None]:
        await self.schedule.turn()
        yield
        if self.schedule.random.random() < 0.3:
            await self.schedule.turn()


@contextlib.contextmanager
def without_threads() -> Generator[None]:
    """Have what is meant for threads run where it is called."""

    async def here(work: Callable[..., object], *args: object, **kwargs: object) -> object:
        return work(*args, **kwargs)

    kept = asyncio.to_thread
    asyncio.to_thread = here  # type: ignore[assignment]
    try:
        yield
    finally:
        asyncio.to_thread = kept


def _nothing(_: str) -> None:
    pass
