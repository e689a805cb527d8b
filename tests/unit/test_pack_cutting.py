"""Packs cut down to what is needed: it stays where it lies, and nothing else is in them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import zstandard

from activities.errors import SnapshotDamaged
from activities.snapshots.cutting import cut, is_cut
from activities.snapshots.packs import Location, PackWriter, open_frame
from activities.snapshots.sealing import OVERHEAD, PLAIN, Key, KeyRing, key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from activities.snapshots.sealing import Sealer

CANARY = b"canary 71c0ffee "
RINGS = {"plain": PLAIN, "sealed": KeyRing([Key("k", b"k" * 32)])}
_SECRET = CANARY * 40
_SHARED = random.Random(2).randbytes(300_000)


@pytest.fixture(params=sorted(RINGS))
def ring(request: pytest.FixtureRequest) -> Sealer:
    return RINGS[request.param]


def _packed(contents: list[bytes], sealer: Sealer) -> tuple[bytes, dict[bytes, Location]]:
    """Pack contents, each of which is one chunk; by content, where it lies."""
    stored: list[bytes] = []
    writer = PackWriter((), "p/", lambda _, data: stored.append(data), sealer=sealer, salt=b"salt" * 4)
    digests = [writer.add_chunk(content) for content in contents]
    places = writer.finish()
    writer.close()
    assert len(stored) == 1
    return stored[0], {content: places[digest] for content, digest in zip(contents, digests, strict=True)}


def _content(data: bytes, place: Location, sealer: Sealer) -> bytes:
    frame = open_frame(data[place.offset : place.offset + place.stored], place.plain, sealer)
    return frame[place.start : place.start + place.length]


def _frames(data: bytes, places: dict[bytes, Location], sealer: Sealer) -> bytes:
    """All that a pack says, whoever needs it."""
    found, end = b"", data.rfind(b"HIBERNAUT-CUT-1\n") if is_cut(data) else len(data)
    for offset, stored, plain in {place[1:4] for place in places.values()}:
        held = data[offset : offset + stored]
        # What was overwritten opens no more, and the trailer may lie there by now.
        if offset + stored <= end and any(held):
            found += open_frame(held, plain, sealer)
    return found


def _contents(seed: int) -> list[bytes]:
    chance = random.Random(seed)
    kinds: list[Callable[[int], bytes]] = [
        chance.randbytes,
        lambda size: (CANARY * size)[:size],
        lambda size: bytes(chance.choice(b"abcdef") for _ in range(size)),
        bytes,
    ]
    sizes = (1, 7, 60, 900, 40_000)
    found = {chance.choice(kinds)(chance.choice(sizes)) + b"%d" % number for number in range(chance.randint(1, 12))}
    return sorted(found)


@pytest.mark.parametrize("seed", range(60))
def test_what_is_needed_stays_where_it_is_and_the_rest_is_gone(seed: int, ring: Sealer) -> None:
    contents = _contents(seed)
    data, places = _packed(contents, ring)
    needed = [content for content in contents if random.Random(f"{seed} {content[-9:]!r}").random() < 0.5]
    after = cut(data, {places[content] for content in needed}, ring)
    for content in needed:
        assert _content(after, places[content], ring) == content
    left = _frames(after, places, ring)
    gone = [content for content in contents if content not in needed and len(content.strip(b"\0")) > 30]
    assert not [content for content in gone if content in left]
    assert cut(after, {places[content] for content in needed}, ring) == after
    if len(needed) == len(contents):
        assert after == data
    else:
        assert is_cut(after)
    # Once more, with less: as when the next agent is deleted.
    rest = cut(after, {places[content] for content in needed[:1]}, ring)
    assert all(_content(rest, places[content], ring) == content for content in needed[:1])


def test_a_frame_that_is_cut_is_as_long_as_before_and_any_zstd_reads_it(ring: Sealer) -> None:
    data, places = _packed([_SECRET, b"x" * 500, _SHARED], ring)
    place = places[_SHARED]
    after = cut(data, {place}, ring)
    frame = after[place.offset : place.offset + place.stored]
    assert key_of(frame) == key_of(data)
    opened = ring.open(frame, b"frame")
    assert len(opened) == place.stored - (OVERHEAD if ring.key_id else 0)
    # The command of the same name reads all frames there are and refuses anything else.
    reader = zstandard.ZstdDecompressor().stream_reader(opened, read_across_frames=True)
    content = reader.read()
    assert content[place.start : place.start + place.length] == _SHARED
    assert CANARY not in content


def test_a_pack_that_was_cut_and_then_changed_is_found(ring: Sealer) -> None:
    data, places = _packed([_SECRET, _SHARED], ring)
    after = bytearray(cut(data, {places[_SHARED]}, ring))
    assert is_cut(bytes(after))
    after[len(after) // 2] ^= 1
    assert not is_cut(bytes(after))
    assert not is_cut(data)
    assert is_cut(cut(data, set(), ring))


def test_frames_that_overlap_are_not_cut() -> None:
    data, places = _packed([_SECRET, _SHARED], PLAIN)
    place = places[_SHARED]
    with pytest.raises(SnapshotDamaged, match="overlap"):
        cut(data, {place, place._replace(offset=place.offset + 1)}, PLAIN)
