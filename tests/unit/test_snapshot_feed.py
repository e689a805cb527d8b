"""The feed of a restore: what goes wrong is told as what it is, whoever meets it, and ends everything else."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from typing import TYPE_CHECKING

import pytest

from activities.adapters.host_parts import Board
from activities.adapters.host_restore import RootWriter
from activities.adapters.local_store import LocalStore
from activities.errors import SnapshotDamaged
from activities.snapshots import feed as feeds
from activities.snapshots.capture import Cancelled, Control
from activities.snapshots.entries import Entry, Kind
from activities.snapshots.feed import Feed
from activities.snapshots.fetch import held
from activities.snapshots.packs import Location, PackWriter
from activities.snapshots.sealing import PLAIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from activities.snapshots.capture import Piece


class _Counting(LocalStore):
    """Counts what is asked for."""

    asked = 0

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        self.asked += 1
        return await super().get_range(key, start, length)


async def _stored(store: LocalStore, count: int) -> tuple[list[Entry], dict[bytes, Location]]:
    """Store files of random bytes, a frame each."""
    packs: dict[str, bytes] = {}
    writer = PackWriter(set[bytes](), "packs/", packs.__setitem__)
    entries: list[Entry] = []
    for number in range(count):
        data = random.Random(number).randbytes(200_000)
        entries.append(Entry(b"f%d" % number, Kind.FILE, mode=0o600, size=len(data), chunks=writer.add_small(data)))
        writer._end_frame()
    locations = writer.finish()
    writer.close()
    for key, data in packs.items():
        await store.put(key, data)
    return entries, locations


async def _damage(store: LocalStore, location: Location) -> None:
    data = bytearray(await store.get(location.pack))
    data[location.offset + location.stored // 2] ^= 1
    await store.put(location.pack, bytes(data))


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "_RANGE_BYTES", 200_000)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root").mkdir()
    descriptor = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("bad", range(6))
async def test_damage_is_told_whichever_thread_meets_it(tmp_path: Path, root: int, bad: int) -> None:
    store = LocalStore(tmp_path / "store")
    entries, locations = await _stored(store, 12)
    await _damage(store, locations[entries[bad].chunks[0]])
    control = Control()
    feed = Feed(store, locations, entries, control, sealer=PLAIN)
    writer = RootWriter(root, feed, control)
    with pytest.raises(SnapshotDamaged):
        await asyncio.to_thread(writer.apply, {entry.path: entry for entry in entries})
    feed.close()


async def test_damage_ends_the_fetching(tmp_path: Path) -> None:
    store = _Counting(tmp_path / "store")
    entries, locations = await _stored(store, 120)
    await _damage(store, sorted(locations.values())[2])
    feed = Feed(store, locations, entries, Control(), sealer=PLAIN)
    with pytest.raises(SnapshotDamaged):
        await held(feed)
    assert store.asked < 30


async def test_what_comes_at_the_very_moment_of_a_look_at_the_clock_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each wait ends, and only then what was waited for is there.
    monkeypatch.setattr(feeds, "_TICK_S", 0.000_001)
    store = LocalStore(tmp_path / "store")
    entries, locations = await _stored(store, 60)
    feed = Feed(store, locations, entries, Control(), sealer=PLAIN)
    seen: list[bytes] = []
    lock = threading.Lock()

    def take() -> None:
        for piece in feed.pieces():
            with lock:
                seen.extend(piece.chunks)

    await asyncio.gather(asyncio.to_thread(take), asyncio.to_thread(take))
    assert sorted(seen) == sorted(digest for entry in entries for digest in entry.chunks)


async def test_one_that_is_closed_ends_whoever_waits(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    entries, locations = await _stored(store, 30)
    feed = Feed(store, locations, entries, Control(), sealer=PLAIN)
    begun = threading.Event()

    def take() -> list[Piece]:
        taken: list[Piece] = []
        for piece in feed.pieces():
            taken.append(piece)
            begun.set()
        return taken

    taking = asyncio.ensure_future(asyncio.to_thread(take))
    await asyncio.to_thread(begun.wait)
    feed.close()
    with pytest.raises(Cancelled):
        await asyncio.wait_for(taking, 20)


def test_parts_of_a_file_with_holes_go_where_they_belong() -> None:
    extents = ((4096, 10), (8192, 20), (20000, 5))
    digests = (b"a" * 32, b"b" * 32, b"c" * 32)
    lengths = dict(zip(digests, (7, 13, 15), strict=True))
    entry = Entry(b"f", Kind.FILE, size=30000, chunks=digests, extents=extents)
    chunks = {digest: Location("p", 0, 1, length, 0, length) for digest, length in lengths.items()}
    board = Board([entry], chunks, Control())
    placed: dict[int, tuple[bytes, int]] = {}
    for digest in digests:
        (part,) = board.take(digest)
        left = lengths[digest]
        for offset, length in board.runs(part):
            for at in range(min(length, left)):
                placed[offset + at] = (digest, lengths[digest] - left + at)
            left -= min(length, left)
        assert left == 0
    data = [(digest, at) for digest in digests for at in range(lengths[digest])]
    where = [offset + at for offset, length in extents for at in range(length)]
    assert placed == dict(zip(where, data, strict=True))
