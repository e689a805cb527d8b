"""What a running command writes: its newest text for a live view, and the whole of it in the store as it grows.

The pieces of a stream are objects named by their first byte's offset. Each is written once, never over another, and
begins where the one before it ends: an attempt that follows another goes on behind the pieces it finds, whatever their
sizes, and two attempts at once build one chain. In key order they are the stream.
"""

import asyncio
import time

from activities.errors import ObjectExists, StoreUnavailable
from activities.ports.store import ObjectStore
from hibernaut.contracts import StoreKeys
from hibernaut.contracts.live import LIVE_TAIL

CHUNK_BYTES = 1 << 20
"""A piece is written when so much is pending."""
CHUNK_S = 2.0
"""Or when something has been pending for so many seconds."""
TAIL_LINES = 20
STREAMS = ("stdout", "stderr")


class Tail:
    """The last lines of a stream as text."""

    def __init__(self) -> None:
        """Nothing was written yet."""
        self._bytes = b""
        self.total = 0
        """Bytes fed so far."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self.total += len(data)
        # A character has four bytes at most.
        self._bytes = (self._bytes + data[-4 * LIVE_TAIL :])[-4 * LIVE_TAIL :]

    def read(self) -> tuple[str, int]:
        """The newest text, and the offset in the stream at which it ends: never within a character."""
        data = self._bytes
        held = _unfinished(data)
        data = data[: len(data) - held]
        if self.total > len(self._bytes):
            # What is kept may begin within a character.
            data = data[_continuation(data) :]
        text = data.decode("utf-8", "replace").replace("\0", "\ufffd")
        lines = text.splitlines(keepends=True)[-TAIL_LINES:]
        return "".join(lines)[-LIVE_TAIL:], self.total - held


class OutputLog:
    """The output of one command on its way to the store. Used by one task at a time."""

    def __init__(self, store: ObjectStore, agent_uid: str, exec_id: str) -> None:
        """Write nothing yet: short output of a short command needs no object."""
        self._streams = {name: _Chain(store, agent_uid, exec_id, name) for name in STREAMS}

    async def write(self, stream: str, data: bytes) -> None:
        """Take the next bytes of a stream; returns when there is room for more."""
        chain = self._streams[stream]
        chain.add(data)
        while chain.pending >= CHUNK_BYTES:
            await chain.cut()

    async def tick(self) -> None:
        """Write what has been pending for long."""
        now = time.monotonic()
        await asyncio.gather(*(chain.cut() for chain in self._streams.values() if chain.waited(now) >= CHUNK_S))

    async def finish(self, *, wanted: tuple[str, ...]) -> None:
        """The command ended: complete the streams in `wanted`, and those of which a part is written already."""
        for name, chain in self._streams.items():
            if name in wanted or await chain.begun():
                while chain.pending:
                    await chain.cut()


class _Chain:
    """The objects of one stream."""

    def __init__(self, store: ObjectStore, uid: str, exec_id: str, stream: str) -> None:
        self._store = store
        self._uid, self._exec_id, self._stream = uid, exec_id, stream
        self._lock = asyncio.Lock()
        self._buffer = bytearray()
        self._since = 0.0
        self._at = 0
        """Offset of the first byte that is pending."""
        self._owed = 0
        """Bytes still to come that are in the store already."""

    @property
    def pending(self) -> int:
        return len(self._buffer)

    def add(self, data: bytes) -> None:
        known = min(self._owed, len(data))
        self._owed -= known
        self._at += known
        if not self._buffer:
            self._since = time.monotonic()
        self._buffer += memoryview(data)[known:]

    def waited(self, now: float) -> float:
        return now - self._since if self._buffer else 0.0

    async def begun(self) -> bool:
        """Whether this attempt or one before it has written a part."""
        return self._at > 0 or (self.pending > 0 and await self._store.head(self._key(0)) is not None)

    async def cut(self) -> None:
        """Write one object of what is pending, or learn that it is written already."""
        async with self._lock:
            piece = bytes(memoryview(self._buffer)[:CHUNK_BYTES])
            if not piece:
                return
            end = self._at + len(piece)
            try:
                await self._store.put(self._key(self._at), piece, if_none_match=True)
            except ObjectExists:
                end = await self._reach()
            known = min(end - self._at, len(self._buffer))
            self._owed = end - self._at - known
            del self._buffer[:known]
            self._at += known
            self._since = time.monotonic()

    async def _reach(self) -> int:
        """Where the chain ends that is in the store."""
        end = 0
        prefix = StoreKeys.exec_chunks(self._uid, self._exec_id, self._stream)
        sizes = {info.key: info.size async for info in self._store.list(prefix)}
        while size := sizes.get(self._key(end), 0):
            end += size
        if end <= self._at:
            raise StoreUnavailable(f"the pieces of {self._exec_id}'s {self._stream} in the store do not join")
        return end

    def _key(self, offset: int) -> str:
        return StoreKeys.exec_chunk(self._uid, self._exec_id, self._stream, offset)


def _unfinished(data: bytes) -> int:
    """How many bytes at the end begin a character that goes on after them."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:  # noqa: PLR2004  # not 10xxxxxx: this byte begins a character
            size = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1  # noqa: PLR2004
            return back if size > back else 0
    return 0


def _continuation(data: bytes) -> int:
    """How many bytes at the start belong to a character that began before."""
    for index, byte in enumerate(data[:3]):
        if byte & 0xC0 != 0x80:  # noqa: PLR2004  # 10xxxxxx continues a character of UTF-8
            return index
    return min(len(data), 3)
