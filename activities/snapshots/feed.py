"""Fetches the frames that entries need, in the order in which they lie in the store, and hands them out verified.

It is a bounded number of bytes ahead of whoever takes them: a restore of any size needs the same memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from activities.errors import ObjectNotFound, SnapshotDamaged
from activities.snapshots.capture import Cancelled, Piece
from activities.snapshots.chunking import digest_of
from activities.snapshots.packs import open_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from activities.ports.store import ObjectStore
    from activities.snapshots.capture import Control
    from activities.snapshots.entries import Entry
    from activities.snapshots.packs import Location
    from activities.snapshots.sealing import Sealer

_GAP_BYTES = 512 << 10
_RANGE_BYTES = 4 << 20
_AHEAD = 6
"""Ranges being fetched or waiting to be taken: with those being taken, 32 MiB."""
_TICK_S = 0.5
_THREADS = 2

Frame = tuple[str, int, int, int]
"""Pack, offset, stored bytes, plain bytes."""


class _Answer(NamedTuple):
    frames: list[Frame]
    data: bytes


class Feed:
    """The content of some entries. Close it."""

    def __init__(
        self,
        store: ObjectStore,
        chunks: Mapping[bytes, Location],
        entries: Iterable[Entry],
        control: Control,
        *,
        sealer: Sealer,
    ) -> None:
        """Begin to fetch what these entries need; call it on the event loop."""
        self._store = store
        self.chunks = chunks
        self._control = control
        self._sealer = sealer
        self._wanted: dict[Frame, dict[bytes, Location]] = defaultdict(dict)
        for entry in entries:
            for digest in entry.chunks:
                location = chunks[digest]
                self._wanted[location.frame][digest] = location
        self.plain_bytes = sum(frame[3] for frame in self._wanted)
        self._total = sum(frame[2] for frame in self._wanted)
        self._done = 0
        self.requests = 0
        self._closed = False
        self.failed = False
        """Whether something could not be fetched; whoever takes the content is told what."""
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(_AHEAD)
        self._answers: asyncio.Queue[_Answer | BaseException | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run())

    def close(self) -> None:
        """Stop fetching; whoever waits for more is told that the caller gave up."""
        self._task.cancel()
        # What has come is not taken any more.
        self._closed = True

    def pieces(self) -> Iterator[Piece]:
        """Yield what is wanted, each frame once among all threads that call this; for threads beside the loop.

        Raises:
            SnapshotDamaged: A pack is missing or a chunk does not match its digest.
            SnapshotSealed: A frame is sealed with a key that is not known here.
            Cancelled: The caller gave up.
        """
        while (answer := self._next()) is not None:
            yield from self._opened(answer)
            # The loop may be gone when whoever takes this was left behind.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._room.release)

    async def each(self, work: Callable[[Piece], None]) -> None:
        """Have threads do something with every piece; see `pieces` for what is raised."""

        def do(answer: _Answer) -> None:
            for piece in self._opened(answer):
                work(piece)

        async def work_on() -> None:
            try:
                while (answer := await self._take()) is not None:
                    await asyncio.to_thread(do, answer)
                    self._room.release()
            except BaseException:
                # What is still to come is of no use.
                self.close()
                raise

        ended = await asyncio.gather(*(work_on() for _ in range(_THREADS)), return_exceptions=True)
        errors = [error for error in ended if error is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, Cancelled)):
            raise error

    def _next(self) -> _Answer | None:
        taking = asyncio.run_coroutine_threadsafe(self._take(), self._loop)
        try:
            while True:
                try:
                    return taking.result(timeout=_TICK_S)
                except TimeoutError:
                    if taking.done():
                        # It came just now, or timed out itself.
                        return taking.result()
                    self._control.check()
        finally:
            taking.cancel()

    async def _take(self) -> _Answer | None:
        answer = await self._answers.get()
        if isinstance(answer, _Answer):
            if self._closed:
                raise Cancelled
            return answer
        # The end, or what went wrong, is for everybody who asks.
        self._answers.put_nowait(answer)
        if answer is None:
            return None
        raise answer

    def _opened(self, answer: _Answer) -> Iterator[Piece]:
        start = answer.frames[0][1]
        for frame in answer.frames:
            pack, offset, stored, plain = frame
            held = answer.data[offset - start : offset - start + stored]
            content = open_frame(held, plain, self._sealer)
            chunks = self._wanted[frame]
            whole = memoryview(content)
            for digest, location in chunks.items():
                if digest_of(whole[location.start : location.start + location.length]) != digest:
                    msg = f"A chunk in the pack {pack} does not match its digest."
                    raise SnapshotDamaged(msg)
            yield Piece(frame, held, content, chunks)

    async def _run(self) -> None:
        ended: BaseException | None = Cancelled()
        try:
            async with asyncio.TaskGroup() as group:
                for pack, frames in _ranges(self._wanted):
                    await self._room.acquire()
                    group.create_task(self._fetch(pack, frames))
            ended = None
        except* Exception as errors:  # noqa: BLE001 - it is told to whoever takes the content
            ended, self.failed = errors.exceptions[0], True
        finally:
            self._answers.put_nowait(ended)

    async def _fetch(self, pack: str, frames: list[Frame]) -> None:
        start = frames[0][1]
        length = frames[-1][1] + frames[-1][2] - start
        self.requests += 1
        try:
            data = await self._store.get_range(pack, start, length)
        except ObjectNotFound:
            msg = f"The pack {pack} is missing from the store."
            raise SnapshotDamaged(msg) from None
        self._done += length
        self._control.text = f"fetched {self._done >> 20} of {self._total >> 20} MiB"
        self._answers.put_nowait(_Answer(frames, data))


def _ranges(frames: Iterable[Frame]) -> Iterator[tuple[str, list[Frame]]]:
    """Group frames that lie close together in a pack: one request for each group."""
    group: list[Frame] = []
    for frame in sorted(frames):
        if group:
            pack, offset, stored, _ = group[-1]
            near = pack == frame[0] and 0 <= frame[1] - (offset + stored) <= _GAP_BYTES
            if not near or frame[1] + frame[2] - group[0][1] > _RANGE_BYTES:
                yield group[0][0], group
                group = []
        group.append(frame)
    if group:
        yield group[0][0], group
