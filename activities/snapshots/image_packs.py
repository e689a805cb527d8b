"""Chunks of images and the packs they lie in.

A chunk is compressed by itself: any image may name any chunk of any other's packs. Every pack has a table of what is in
it, so that an attempt that died leaves its work to the next, and a name that is never given twice, so that removing one
that nobody names takes nothing from a writer that is under way.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

import zstandard
from blake3 import blake3
from pydantic import TypeAdapter, ValidationError
from pyfastcdc import FastCDC

from activities.errors import ObjectNotFound, SnapshotDamaged
from activities.snapshots.image_format import Digest, Offset, Place, Plain, Stored, pack_key, pack_of
from activities.snapshots.sealing import FRAME, Sealer

if TYPE_CHECKING:
    from activities.ports.store import ObjectInfo, ObjectStore

AVERAGE_BYTES = 256 << 10
"""Of the sandbox image, 1 MiB on average would store 2 % less the first time, and twice as much when it is rebuilt with
one file in a hundred changed; 64 KiB half as much then, with four times the table and 7 % more the first time."""
MINIMUM_BYTES = 64 << 10
MAXIMUM_BYTES = 1 << 20
PACK_BYTES = 16 << 20
LEVEL = 3

MAGIC = b"HIBERNAUT-IMGP1\n"
TABLE = b"image table"
"""The context in which the tables of packs are sealed."""
_SALT_BYTES = 16
_LENGTH_BYTES = 8
_END_BYTES = 32 + _LENGTH_BYTES
_TAIL_BYTES = 64 << 10
"""Read in the first request for a table: what nearly all of them take."""
_MAX_TABLE_BYTES = 8 << 20

_Rows = list[tuple[Digest, Offset, Stored, Plain]]
_ROWS: TypeAdapter[_Rows] = TypeAdapter(_Rows)


class Pack(NamedTuple):
    """A finished pack."""

    digest: str
    data: bytes
    places: dict[bytes, Place]


def cut(data: bytes, *, last: bool) -> tuple[list[bytes], int]:
    """Cut the chunks off the beginning of what remains of an archive.

    Args:
        data: What comes next of the archive.
        last: Whether nothing comes after it; else a chunk whose end may depend on what comes is left.

    Returns:
        The chunks, and how many bytes they take.
    """
    chunks: list[bytes] = []
    done = 0
    for chunk in FastCDC(AVERAGE_BYTES, min_size=MINIMUM_BYTES, max_size=MAXIMUM_BYTES).cut_buf(data):
        if not last and chunk.offset + MAXIMUM_BYTES > len(data):
            break
        chunks.append(bytes(chunk.data))
        done += chunk.length
    return chunks, done


def frame_of(chunk: bytes, sealer: Sealer) -> bytes:
    """What is stored of a chunk."""
    return sealer.seal(zstandard.ZstdCompressor(level=LEVEL).compress(chunk), FRAME)


class PackBuilder:
    """Collects frames until a pack is full."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._begin()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to finish."""
        return not self._rows

    def fits(self, frame: bytes) -> bool:
        """Whether a frame may be added."""
        return self.is_empty or self._size + len(frame) <= PACK_BYTES

    def add(self, digest: bytes, frame: bytes, plain: int) -> None:
        """Add the frame of a chunk of `plain` bytes."""
        self._rows[digest] = (self._size, len(frame), plain)
        self._parts.append(frame)
        self._size += len(frame)

    def finish(self) -> Pack:
        """Return the pack and begin another."""
        rows = [(digest.hex(), *row) for digest, row in self._rows.items()]
        table = self._sealer.seal(zstandard.ZstdCompressor().compress(json.dumps(rows).encode()), TABLE)
        end = blake3(table).digest() + len(table).to_bytes(_LENGTH_BYTES, "little")
        data = b"".join([*self._parts, table, end])
        name = blake3(data).hexdigest()
        pack = Pack(name, data, {digest: Place(name, *row) for digest, row in self._rows.items()})
        self._begin()
        return pack

    def _begin(self) -> None:
        self._parts = [MAGIC, os.urandom(_SALT_BYTES)]
        self._size = len(MAGIC) + _SALT_BYTES
        self._rows: dict[bytes, tuple[int, int, int]] = {}


async def read_table(store: ObjectStore, info: ObjectInfo, sealer: Sealer) -> dict[bytes, Place]:
    """Return where each chunk lies in a pack.

    Raises:
        SnapshotDamaged: It has no table that can be read.
        SnapshotSealed: The table is sealed with a key that is not known here.
    """
    digest = pack_of(info.key)
    tail = await _tail(store, info, _TAIL_BYTES)
    length = int.from_bytes(tail[-_LENGTH_BYTES:], "little")
    if digest is None or length > min(info.size, _MAX_TABLE_BYTES):
        raise SnapshotDamaged(f"{info.key} is no pack of images.")
    if length + _END_BYTES > len(tail):
        tail = await _tail(store, info, length + _END_BYTES)
    table = tail[-_END_BYTES - length : -_END_BYTES]
    if blake3(table).digest() != tail[-_END_BYTES:-_LENGTH_BYTES]:
        raise SnapshotDamaged(f"The table of the pack {info.key} is damaged.")
    try:
        packed = sealer.open(table, TABLE)
        # What the frame claims is what the library allocates.
        if not 0 <= zstandard.frame_content_size(packed) <= _MAX_TABLE_BYTES:
            raise SnapshotDamaged(f"The table of the pack {info.key} is larger than any that is written.")
        rows = _ROWS.validate_json(zstandard.ZstdDecompressor().decompress(packed))
    except (zstandard.ZstdError, ValidationError):
        raise SnapshotDamaged(f"The table of the pack {info.key} cannot be read.") from None
    return {bytes.fromhex(chunk): Place(digest, *row) for chunk, *row in rows}


async def _tail(store: ObjectStore, info: ObjectInfo, length: int) -> bytes:
    start = max(info.size - length, 0)
    try:
        return await store.get_range(pack_key(pack_of(info.key) or ""), start, info.size - start)
    except ObjectNotFound:
        raise SnapshotDamaged(f"The pack {info.key} is gone.") from None
