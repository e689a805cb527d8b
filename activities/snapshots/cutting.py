"""Cuts a pack down to the chunks that are still needed: these stay where they lie, everything else is overwritten.

Manifests name places in a pack, and none of them is written twice. So a frame keeps its place and its number of bytes:
what nobody needs in it becomes zeros before it is compressed again, and what that saves is filled up with a frame of
zstd's that is no data.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import zstandard
from blake3 import blake3

from activities.errors import SnapshotDamaged
from activities.snapshots.chunking import DIGEST_BYTES
from activities.snapshots.packs import SKIPPABLE, open_frame
from activities.snapshots.sealing import FRAME, OVERHEAD, key_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from activities.snapshots.packs import Location
    from activities.snapshots.sealing import Sealer

MAGIC = b"HIBERNAUT-CUT-1\n"
"""Begins the trailer of a pack that was cut; the BLAKE3 digest of all bytes before it follows."""
_TRAILER_BYTES = len(MAGIC) + DIGEST_BYTES
_LEVELS = (3, 1, 9, 19)
"""Of zstd: what is cut is nearly always smaller than before at the first."""
_SKIPPABLE_HEAD = 8


def cut(data: bytes, needed: Collection[Location], sealer: Sealer) -> bytes:
    """Return a pack's bytes with nothing in them but these chunks, each where it was.

    Raises:
        SnapshotDamaged: It does not hold them, or cannot be cut.
        SnapshotSealed: It is sealed with a key that is not known here.
    """
    frames: dict[tuple[int, int, int], set[tuple[int, int]]] = {}
    for place in needed:
        frames.setdefault((place.offset, place.stored, place.plain), set()).add((place.start, place.length))
    if any(offset + stored > following for (offset, stored, _), (following, *_) in pairwise(sorted(frames))):
        msg = "Frames of a pack overlap in what manifests say."
        raise SnapshotDamaged(msg)
    buffer = bytearray(max((offset + stored for offset, stored, _ in frames), default=0))
    for (offset, stored, plain), ranges in frames.items():
        before = data[offset : offset + stored]
        buffer[offset : offset + stored] = _cut_frame(before, plain, ranges, sealer)
    body = bytes(buffer)
    if body == data[: len(body)] and _is_no_data(data[len(body) :]):
        return data
    return body + MAGIC + blake3(body).digest()


def is_cut(data: bytes) -> bool:
    """Tell whether a pack was cut, and is as it was then: its name is that of the bytes before."""
    body, trailer = data[:-_TRAILER_BYTES], data[-_TRAILER_BYTES:]
    return trailer == MAGIC + blake3(body).digest()


def _is_no_data(rest: bytes) -> bool:
    """Tell whether nothing follows the last frame but what a writer puts there to tell packs apart."""
    if len(rest) < _SKIPPABLE_HEAD:
        return not rest
    magic, length = struct.unpack_from("<II", rest)
    return magic == SKIPPABLE and length == len(rest) - _SKIPPABLE_HEAD


def _cut_frame(stored: bytes, plain: int, ranges: set[tuple[int, int]], sealer: Sealer) -> bytes:
    content = open_frame(stored, plain, sealer)
    places = sorted(ranges)
    # What was small beside something like it is the first of its kind now: then the filling is to be like it.
    fillings = b"\0", b"".join(content[start : start + length] for start, length in places)
    ways = [_filled(content, places, filling) for filling in fillings]
    if content in ways:
        return stored
    is_sealed = key_of(stored) is not None
    room = len(stored) - (OVERHEAD if is_sealed else 0)
    packed = _packed(ways[0], room) or _packed(ways[1], room)
    if packed is None:
        msg = f"A frame of a pack does not come down to {room} bytes again without what nobody needs."
        raise SnapshotDamaged(msg)
    return sealer.seal(packed, FRAME) if is_sealed else packed


def _filled(content: bytes, ranges: Iterable[tuple[int, int]], filling: bytes) -> bytes:
    """Return as many bytes in which these ranges are as they were, and all else is the filling, over and over."""
    left = bytearray((filling * (len(content) // len(filling) + 1))[: len(content)])
    for start, length in ranges:
        left[start : start + length] = content[start : start + length]
    return bytes(left)


def _packed(content: bytes, room: int) -> bytes | None:
    """Compress to exactly so many bytes; None when there is no way to."""
    found: bytes | None = None
    for level in _LEVELS:
        packed = zstandard.ZstdCompressor(level=level).compress(content)
        left = room - len(packed)
        if left == 0:
            return packed
        if left >= _SKIPPABLE_HEAD:
            return packed + struct.pack("<II", SKIPPABLE, left - _SKIPPABLE_HEAD) + bytes(left - _SKIPPABLE_HEAD)
        if left > 0 and found is None:
            # Too little room for a frame: readers end at the end of the first.
            found = packed + bytes(left)
    return found
