"""How an image's archive is cut, and what a pack says of itself."""

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from pyfastcdc import FastCDC

from activities.adapters.local_store import LocalStore
from activities.errors import SnapshotDamaged, SnapshotSealed
from activities.snapshots.chunking import digest_of
from activities.snapshots.image_format import MAX_CHUNK_BYTES, MAX_PACK_BYTES, pack_key
from activities.snapshots.image_packs import (
    AVERAGE_BYTES,
    MAXIMUM_BYTES,
    MINIMUM_BYTES,
    PACK_BYTES,
    Pack,
    PackBuilder,
    cut,
    frame_of,
    read_table,
)
from activities.snapshots.packs import open_frame
from activities.snapshots.sealing import PLAIN, Sealer
from tests.support.images import RING, content


def _in_pieces(data: bytes, size: int) -> list[bytes]:
    chunks: list[bytes] = []
    rest = b""
    for start in range(0, len(data), size):
        rest += data[start : start + size]
        found, done = cut(rest, last=start + size >= len(data))
        chunks += found
        rest = rest[done:]
    assert rest == b""
    return chunks


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 6 * MAXIMUM_BYTES), st.integers(50_000, 3 * MAXIMUM_BYTES))
def test_the_cuts_do_not_depend_on_how_the_archive_comes(size: int, step: int) -> None:
    data = content(size, size)
    whole = FastCDC(AVERAGE_BYTES, min_size=MINIMUM_BYTES, max_size=MAXIMUM_BYTES).cut_buf(data)
    assert _in_pieces(data, step) == [bytes(chunk.data) for chunk in whole]


def test_limits_leave_room_for_what_is_written() -> None:
    assert MAXIMUM_BYTES <= MAX_CHUNK_BYTES
    assert PACK_BYTES + MAXIMUM_BYTES < MAX_PACK_BYTES


def test_a_layer_that_is_moved_keeps_its_chunks() -> None:
    layer = content(4_000_000, 1)
    before = {digest_of(chunk) for chunk in _in_pieces(bytes(7_168) + layer, 1_000_000)}
    after = [digest_of(chunk) for chunk in _in_pieces(content(999_936, 2) + layer + bytes(1_024), 1_000_000)]
    moved = [digest for digest in after if digest in before]
    assert len(moved) >= len(before) - 3


def _pack(sealer: Sealer, contents: list[bytes]) -> Pack:
    builder = PackBuilder(sealer)
    for chunk in contents:
        frame = frame_of(chunk, sealer)
        assert builder.fits(frame)
        builder.add(digest_of(chunk), frame, len(chunk))
    return builder.finish()


# The table of many is longer than what is read of a pack at first.
@pytest.mark.parametrize("count", [1, 3_000])
@pytest.mark.parametrize("sealer", [PLAIN, RING], ids=["plain", "sealed"])
async def test_a_pack_says_what_is_in_it(tmp_path: Path, sealer: Sealer, count: int) -> None:
    contents = [content(700, seed) for seed in range(count)]
    pack = _pack(sealer, contents)
    store = LocalStore(tmp_path)
    await store.put(pack_key(pack.digest), pack.data)
    info = await store.head(pack_key(pack.digest))
    assert info is not None
    table = await read_table(store, info, sealer)
    assert table == pack.places
    for chunk in contents:
        place = table[digest_of(chunk)]
        assert open_frame(pack.data[place.offset : place.offset + place.stored], place.plain, sealer) == chunk
    if sealer is RING:
        with pytest.raises(SnapshotSealed):
            await read_table(store, info, PLAIN)


async def test_no_pack_bears_the_name_of_another() -> None:
    one, two = (_pack(PLAIN, [b"the same"]) for _ in range(2))
    assert one.digest == digest_of(one.data).hex() != two.digest


@pytest.mark.parametrize("harm", ["end", "table", "frames", "short", "empty", "text"])
async def test_a_damaged_table_is_not_believed(tmp_path: Path, harm: str) -> None:
    pack = _pack(PLAIN, [content(700, seed) for seed in range(5)])
    data = bytearray(pack.data)
    match harm:
        case "end":
            data[-1] ^= 1
        case "table":
            data[-60] ^= 1
        case "frames":
            del data[:-30]
        case "short":
            del data[-10:]
        case "empty":
            data.clear()
        case _:
            data = bytearray(b"text, not a pack" * 100)
    store = LocalStore(tmp_path)
    await store.put(pack_key(pack.digest), bytes(data))
    info = await store.head(pack_key(pack.digest))
    assert info is not None
    with pytest.raises(SnapshotDamaged):
        await read_table(store, info, PLAIN)
