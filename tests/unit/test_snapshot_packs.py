"""Chunks and packs: content is cut, stored once, fetched and verified."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings, strategies as st

from activities.adapters.local_store import LocalStore
from activities.errors import SnapshotDamaged
from activities.snapshots.capture import Control
from activities.snapshots.chunking import MAXIMUM_BYTES, SMALL_BYTES, cut, digest_of
from activities.snapshots.entries import Entry, Kind
from activities.snapshots.feed import Feed
from activities.snapshots.fetch import Spool
from activities.snapshots.packs import FRAME_BYTES, MAX_FRAME_BYTES, PACK_BYTES, PackWriter, open_frame
from activities.snapshots.sealing import PLAIN

if TYPE_CHECKING:
    from pathlib import Path


class _Dribble:
    """Hands out little at a time, as pipes do."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data = io.BytesIO(data)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._data.read(min(size, self._step))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 3 * SMALL_BYTES), st.integers(1000, 400_000))
def test_chunks_make_up_the_content(size: int, step: int) -> None:
    data = random.Random(size).randbytes(size)
    chunks = list(cut(_Dribble(data, step)))
    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= MAXIMUM_BYTES for chunk in chunks)
    assert chunks == list(cut(io.BytesIO(data)))
    if size <= SMALL_BYTES:
        assert len(chunks) == bool(size)


def test_an_insertion_moves_few_chunks() -> None:
    data = random.Random(1).randbytes(8_000_000)
    before = {digest_of(chunk) for chunk in cut(io.BytesIO(data))}
    after = {digest_of(chunk) for chunk in cut(io.BytesIO(data[:4_000_000] + b"inserted" + data[4_000_000:]))}
    assert len(after - before) <= 4


async def test_what_is_packed_is_fetched_again(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    packs: dict[str, bytes] = {}
    writer = PackWriter({digest_of(b"known")}, "packs/", packs.__setitem__)
    generator = random.Random(2)
    contents = {b"f%d" % number: generator.randbytes(generator.randrange(200_000)) for number in range(300)}
    contents |= {b"same": contents[b"f7"], b"big": generator.randbytes(5_000_000), b"empty": b""}
    entries: list[Entry] = []
    for path, content in contents.items():
        chunks, size = writer.add(io.BytesIO(content))
        entries.append(Entry(path, Kind.FILE, size=size, chunks=chunks))
    assert writer.add(io.BytesIO(b"known")) == ((digest_of(b"known"),), 5)
    locations = writer.finish()
    assert digest_of(b"known") not in locations
    assert writer.stored_bytes == sum(map(len, packs.values())) < sum(map(len, contents.values())) + 100_000
    assert len(packs) > 1
    for key, data in packs.items():
        assert key == f"packs/{digest_of(data).hex()}"
        assert len(data) <= PACK_BYTES
        await store.put(key, data)
    assert max(location.plain for location in locations.values()) < FRAME_BYTES + MAXIMUM_BYTES
    spool = Spool(locations, tmp_path)
    feed = Feed(store, locations, entries, Control(), sealer=PLAIN)
    await spool.fill(feed)
    assert feed.requests <= 3 * len(packs)
    for entry in spool.in_order(entries):
        assert b"".join(spool.content(entry)) == contents[entry.path]
    spool.close()


@pytest.mark.parametrize("harm", ["flip", "cut", "swap", "remove"])
async def test_damaged_packs_are_noticed_before_anything_is_used(tmp_path: Path, harm: str) -> None:
    store = LocalStore(tmp_path)
    packs: dict[str, bytes] = {}
    writer = PackWriter(set[bytes](), "packs/", packs.__setitem__)
    chunks, size = writer.add(io.BytesIO(b"content" * 1000))
    locations = writer.finish()
    ((key, data),) = packs.items()
    other = zstandard.ZstdCompressor(level=1).compress(b"CONTENT" * 1000)
    harmed = {"flip": data[:-1] + bytes([data[-1] ^ 1]), "cut": data[:-1], "swap": other, "remove": b""}[harm]
    if harm != "remove":
        await store.put(key, harmed)
    spool = Spool(locations, tmp_path)
    with pytest.raises(SnapshotDamaged):
        await spool.fill(
            Feed(store, locations, [Entry(b"f", Kind.FILE, size=size, chunks=chunks)], Control(), sealer=PLAIN)
        )
    spool.close()


def test_a_frame_that_would_fill_the_memory() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(100_000_000))
    for claimed in (1000, 100_000_000, MAX_FRAME_BYTES):
        with pytest.raises(SnapshotDamaged):
            open_frame(bomb, claimed)
