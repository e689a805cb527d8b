"""Packs: objects of about 16 MiB that hold chunks in compressed frames of about 1 MiB.

A pack is its frames, one after the other; where each chunk lies is written in the manifest. A pack bears the BLAKE3
digest of its bytes as its name: writing it twice is harmless, and so is writing one that no manifest comes to name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import zstandard

from activities.errors import SnapshotDamaged
from activities.snapshots.chunking import cut, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from activities.snapshots.chunking import Readable

FRAME_BYTES = 1 << 20
PACK_BYTES = 16 << 20
MAX_FRAME_BYTES = 8 << 20
"""Larger frames are refused when read."""
LEVEL = 1


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
    """Takes contents in, hands finished packs out, and remembers where each new chunk went.

    Not thread-safe: one thread reads the files.
    """

    def __init__(self, known: Container[bytes], prefix: str, put: Callable[[str, bytes], None]) -> None:
        """Start with the digests that need no storing, the prefix of pack keys, and what stores a pack."""
        self._known = known
        self._prefix = prefix
        self._put = put
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)
        self._frame = bytearray()
        self._pack: list[bytes] = []
        self._pack_bytes = 0
        self._packs: list[str] = []
        self._frames: list[_Frame] = []
        self._placed: dict[bytes, tuple[int, int, int]] = {}
        self.stored_bytes = 0
        self.read_bytes = 0

    def add(self, source: Readable) -> tuple[tuple[bytes, ...], int]:
        """Store a content; return its chunks' digests and its bytes."""
        digests: list[bytes] = []
        size = 0
        for chunk in cut(source):
            size += len(chunk)
            digests.append(self._add_chunk(chunk))
        self.read_bytes += size
        return tuple(digests), size

    def finish(self) -> dict[bytes, Location]:
        """Hand out the last pack; return where every new chunk lies."""
        self._end_frame()
        self._end_pack()
        return {
            digest: Location(self._packs[frame.pack], frame.offset, frame.stored, frame.plain, start, length)
            for digest, (number, start, length) in self._placed.items()
            for frame in (self._frames[number],)
        }

    def _add_chunk(self, chunk: bytes) -> bytes:
        digest = digest_of(chunk)
        if digest not in self._known and digest not in self._placed:
            self._placed[digest] = (len(self._frames), len(self._frame), len(chunk))
            self._frame += chunk
            if len(self._frame) >= FRAME_BYTES:
                self._end_frame()
        return digest

    def _end_frame(self) -> None:
        if not self._frame:
            return
        stored = self._compressor.compress(self._frame)
        if self._pack_bytes + len(stored) > PACK_BYTES:
            self._end_pack()
        self._frames.append(_Frame(len(self._packs), self._pack_bytes, len(stored), len(self._frame)))
        self._pack.append(stored)
        self._pack_bytes += len(stored)
        self._frame = bytearray()

    def _end_pack(self) -> None:
        if not self._pack:
            return
        data = b"".join(self._pack)
        key = f"{self._prefix}{digest_of(data).hex()}"
        self._packs.append(key)
        self.stored_bytes += len(data)
        self._pack, self._pack_bytes = [], 0
        self._put(key, data)


def open_frame(stored: bytes, plain: int) -> bytes:
    """Decompress a frame of a known size.

    Raises:
        SnapshotDamaged: It is no frame of this size.
    """
    if plain > MAX_FRAME_BYTES:
        msg = f"A frame of {plain} bytes is larger than any that is written."
        raise SnapshotDamaged(msg)
    try:
        # The size a frame claims is what the library allocates, whatever maximum it is given.
        if zstandard.frame_content_size(stored) not in (plain, -1):
            msg = "A frame of a pack claims another size than the manifest."
            raise SnapshotDamaged(msg)
        data = zstandard.ZstdDecompressor().decompress(stored, max_output_size=plain)
    except zstandard.ZstdError as error:
        msg = "A frame of a pack cannot be decompressed."
        raise SnapshotDamaged(msg) from error
    if len(data) != plain:
        msg = f"A frame of a pack has {len(data)} bytes where the manifest says {plain}."
        raise SnapshotDamaged(msg)
    return data
