"""Packs: objects of about 8 MiB that hold chunks in compressed frames of about 1 MiB.

A pack is its frames, one after the other; where each chunk lies is written in the manifest. A pack bears the BLAKE3
digest of its bytes as its name: writing it twice is harmless, and so is writing one that no manifest comes to name.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from activities.errors import SnapshotDamaged
from activities.snapshots.chunking import cut, digest_of
from activities.snapshots.sealing import FRAME, PLAIN, Sealer

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from activities.snapshots.chunking import Readable

FRAME_BYTES = 1 << 20
PACK_BYTES = 8 << 20
MAX_FRAME_BYTES = 8 << 20
"""Larger frames are refused when read."""
LEVEL = 1
SKIPPABLE = 0x184D2A50
"""Magic number of a zstd frame that is no data."""
_THREADS = 2
_WAITING = 6
"""Frames being compressed or waiting for it: the reader waits for room, which bounds the memory."""


class Location(NamedTuple):
    """Where a chunk lies."""

    pack: str
    """Key of the pack."""
    offset: int
    """Of the frame in the pack."""
    stored: int
    """Bytes of the frame in the pack."""
    plain: int
    """Bytes of the frame when decompressed."""
    start: int
    """Of the chunk in the decompressed frame."""
    length: int
    """Bytes of the chunk."""

    @property
    def frame(self) -> tuple[str, int, int, int]:
        """The frame alone: (pack, offset, stored, plain)."""
        return self[:4]


class _Frame(NamedTuple):
    pack: int
    offset: int
    stored: int
    plain: int


class PackWriter:
    """Takes contents in, hands finished packs out, and remembers where each new chunk went. Close it.

    Not thread-safe: one thread reads the files. Frames are compressed and sealed by threads of its own beside it.
    """

    def __init__(
        self,
        known: Container[bytes],
        prefix: str,
        put: Callable[[str, bytes], None],
        *,
        level: int = LEVEL,
        sealer: Sealer = PLAIN,
        borrow: Callable[[bytes, int], Location | None] | None = None,
        salt: bytes = b"",
    ) -> None:
        """Start with what is known.

        Args:
            known: Digests that need no storing.
            prefix: Of the keys of packs.
            put: Stores a pack under its key; may wait.
            level: Of zstd, for what is new.
            sealer: Seals the frames.
            borrow: Finds a chunk of this digest and length that another agent has stored.
            salt: Makes packs of the same content differ in their bytes, and so in their keys, where it differs.
        """
        self._known = known
        self._prefix = prefix
        self._put = put
        self._level = level
        self.sealer = sealer
        self._borrow = borrow
        self._salt = salt
        self._local = threading.local()
        self._pool: ThreadPoolExecutor | None = None
        self._frame: list[bytes] = []
        self._frame_bytes = 0
        self._opened = 0
        self._pending: deque[tuple[Future[bytes], int]] = deque()
        self._pack: list[bytes] = []
        self._pack_bytes = 0
        self._packs: list[str] = []
        self._frames: list[_Frame] = []
        self._placed: dict[bytes, tuple[int, int, int]] = {}
        self.borrowed: dict[bytes, Location] = {}
        """Chunks found at other agents."""
        self.stored_bytes = 0
        self.read_bytes = 0

    def add(self, source: Readable) -> tuple[tuple[bytes, ...], int]:
        """Store a content; return its chunks' digests and its bytes."""
        digests: list[bytes] = []
        size = 0
        for chunk in cut(source):
            size += len(chunk)
            digests.append(self.add_chunk(chunk))
        self.read_bytes += size
        return tuple(digests), size

    def add_small(self, data: bytes) -> tuple[bytes, ...]:
        """Store a content of at most `SMALL_BYTES` that is at hand; return its chunks' digests."""
        self.read_bytes += len(data)
        return (self.add_chunk(data),) if data else ()

    def finish(self) -> dict[bytes, Location]:
        """Hand out the last pack; return where every chunk lies that was not known, those of others included."""
        self._end_frame()
        while self._pending:
            self._settle_one()
        self._end_pack()
        placed = {
            digest: Location(self._packs[frame.pack], frame.offset, frame.stored, frame.plain, start, length)
            for digest, (number, start, length) in self._placed.items()
            for frame in (self._frames[number],)
        }
        return placed | self.borrowed

    def close(self) -> None:
        """Let the threads end."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def add_chunk(self, chunk: bytes) -> bytes:
        """Store one chunk; return its digest."""
        digest = digest_of(chunk)
        if digest in self._known or digest in self._placed or digest in self.borrowed:
            return digest
        found = self._borrow(digest, len(chunk)) if self._borrow is not None else None
        if found is not None:
            self.borrowed[digest] = found
            return digest
        self._placed[digest] = (self._opened, self._frame_bytes, len(chunk))
        self._frame.append(chunk)
        self._frame_bytes += len(chunk)
        if self._frame_bytes >= FRAME_BYTES:
            self._end_frame()
        return digest

    def _end_frame(self) -> None:
        if not self._frame:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="pack")
        while len(self._pending) >= _WAITING:
            self._settle_one()
        self._pending.append((self._pool.submit(self._compress, self._frame), self._frame_bytes))
        self._opened += 1
        self._frame, self._frame_bytes = [], 0

    def _compress(self, chunks: list[bytes]) -> bytes:
        compressor = getattr(self._local, "compressor", None)
        if compressor is None:
            # One for each thread: it cannot do two things at once.
            compressor = self._local.compressor = zstandard.ZstdCompressor(level=self._level)
        return self.sealer.seal(compressor.compress(b"".join(chunks)), FRAME)

    def _settle_one(self) -> None:
        """Take up the oldest frame, in order: packs of the same contents come out the same."""
        future, plain = self._pending.popleft()
        stored = future.result()
        if self._pack_bytes + len(stored) > PACK_BYTES:
            self._end_pack()
        self._frames.append(_Frame(len(self._packs), self._pack_bytes, len(stored), plain))
        self._pack.append(stored)
        self._pack_bytes += len(stored)

    def _end_pack(self) -> None:
        if not self._pack:
            return
        data = b"".join(self._pack) + _skipped(self._salt)
        key = f"{self._prefix}{digest_of(data).hex()}"
        self._packs.append(key)
        self.stored_bytes += len(data)
        self._pack, self._pack_bytes = [], 0
        self._put(key, data)


def _skipped(salt: bytes) -> bytes:
    """Return bytes that zstd passes over."""
    return struct.pack("<II", SKIPPABLE, len(salt)) + salt if salt else b""


def open_frame(stored: bytes, plain: int, sealer: Sealer = PLAIN) -> bytes:
    """Decompress a frame of a known size.

    Raises:
        SnapshotDamaged: It is no frame of this size.
        SnapshotSealed: It is sealed with a key that is not known here.
    """
    if plain > MAX_FRAME_BYTES:
        msg = f"A frame of {plain} bytes is larger than any that is written."
        raise SnapshotDamaged(msg)
    frame = sealer.open(stored, FRAME)
    try:
        # The size a frame claims is what the library allocates, whatever maximum it is given.
        if zstandard.frame_content_size(frame) not in (plain, -1):
            msg = "A frame of a pack claims another size than the manifest."
            raise SnapshotDamaged(msg)
        data = zstandard.ZstdDecompressor().decompress(frame, max_output_size=plain)
    except zstandard.ZstdError as error:
        msg = "A frame of a pack cannot be decompressed."
        raise SnapshotDamaged(msg) from error
    if len(data) != plain:
        msg = f"A frame of a pack has {len(data)} bytes where the manifest says {plain}."
        raise SnapshotDamaged(msg)
    return data
