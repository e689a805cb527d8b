"""Snapshots listed, shown and compared over a store, written by the real engine with an in-memory capture."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from activities.adapters.local_store import LocalStore
from activities.errors import ImageMismatch, SnapshotDamaged, SnapshotNotFound
from activities.snapshots import layout
from activities.snapshots.engine import Engine
from activities.snapshots.entries import Entry, Kind
from activities.snapshots.history import History
from tests.support.memory_capture import MemoryCapture

if TYPE_CHECKING:
    from pathlib import Path

UID = "uid"


class CountingStore(LocalStore):
    """Counts what is read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gets: Counter[str] = Counter()

    async def get(self, key: str) -> bytes:
        self.gets[key] += 1
        return await super().get(key)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path)


@pytest.fixture
def memory() -> MemoryCapture:
    return MemoryCapture()


@pytest.fixture
def history(store: CountingStore) -> History:
    return History(store)


async def take(store: CountingStore, memory: MemoryCapture, count: int) -> list[str]:
    """So many snapshots, each with one more file."""
    engine = Engine(store, memory)
    refs: list[str] = []
    for number in range(1, count + 1):
        memory.add(Entry(b"f%d" % number, Kind.FILE, mode=0o644), b"x" * number)
        parent = refs[-1] if refs else None
        info = await engine.take(
            "c", agent_uid=UID, generation=3, number=number, parent=parent, progress=lambda _: None
        )
        refs.append(info.ref)
    store.gets.clear()
    return refs


async def name(store: CountingStore, called: str, ref: str) -> None:
    await store.put(layout.names_prefix(UID) + called, ref.encode())


async def test_a_list_has_the_newest_first_and_reads_no_more_than_its_page(
    store: CountingStore, memory: MemoryCapture, history: History
) -> None:
    refs = await take(store, memory, 7)
    await name(store, "release", refs[5])
    await name(store, "also", refs[5])
    page = await history.page(UID, newest=refs[6], limit=3)
    assert [row.number for row in page.snapshots] == [7, 6, 5]
    assert (page.total, page.before) == (7, 5)
    assert [row.newest for row in page.snapshots] == [True, False, False]
    assert [row.names for row in page.snapshots] == [(), ("also", "release"), ()]
    row = page.snapshots[0]
    assert (row.parent, row.kind, row.capture, row.generation) == (refs[5], "delta", "host", 3)
    assert (row.added, row.changed, row.deleted, row.files, row.bytes_total) == (1, 0, 0, 7, 28)
    stored = await store.head(row.ref)
    assert stored is not None
    assert (row.manifest_bytes, row.bytes_new > stored.size) == (stored.size, True)
    assert row.created is not None
    assert {key for key in store.gets if "manifests" in key} == set(refs[4:])

    rest = await history.page(UID, newest=refs[6], before=page.before, limit=10)
    assert [row.number for row in rest.snapshots] == [4, 3, 2, 1]
    assert rest.before is None
    assert rest.snapshots[-1].kind == "full"
    # A manifest never changes: the second look reads none, and sees names given since.
    store.gets.clear()
    await name(store, "first", refs[0])
    again = await history.page(UID, newest=refs[5], limit=200)
    assert [row.newest for row in again.snapshots] == [False, True] + [False] * 5
    assert again.snapshots[-1].names == ("first",)
    assert not [key for key in store.gets if "manifests" in key]


async def test_an_agent_without_snapshots(history: History) -> None:
    page = await history.page(UID, newest=None)
    assert (page.snapshots, page.total, page.before) == ((), 0, None)


async def test_a_damaged_manifest_is_a_row_that_says_so(
    store: CountingStore, memory: MemoryCapture, history: History
) -> None:
    refs = await take(store, memory, 3)
    whole = await store.get(refs[1])
    await store.put(refs[1], whole[:-1])
    rows = (await history.page(UID, newest=refs[2])).snapshots
    assert [bool(row.damage) for row in rows] == [False, True, False]
    assert (rows[1].number, rows[1].manifest_bytes) == (2, len(whole) - 1)
    assert "digest" in rows[1].damage
    # What builds on it can be shown as far as its own manifest goes.
    detail = await history.show(refs[2], newest=refs[2])
    assert (detail.snapshot.number, detail.snapshot.files, detail.biggest) == (3, 3, ())
    assert "damaged" in detail.damage
    with pytest.raises(SnapshotDamaged):
        await history.show(refs[1], newest=None)
    # Once it is mended, the list says that too.
    await store.put(refs[1], whole)
    assert not any(row.damage for row in (await history.page(UID, newest=None)).snapshots)


async def test_a_snapshot_pruned_while_it_is_listed_is_left_out(
    store: CountingStore, memory: MemoryCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = await take(store, memory, 3)
    get = store.get

    async def pruned(key: str) -> bytes:
        await store.delete([refs[1]])
        return await get(key)

    monkeypatch.setattr(store, "get", pruned)
    page = await History(store).page(UID, newest=refs[2])
    assert [row.number for row in page.snapshots] == [3, 1]


async def test_all_there_is_to_say_of_one(store: CountingStore, memory: MemoryCapture, history: History) -> None:
    refs = await take(store, memory, 3)
    detail = await history.show(refs[2], newest=refs[2])
    assert detail.snapshot == (await history.page(UID, newest=refs[2])).snapshots[0]
    assert [(link.number, link.kind) for link in detail.chain] == [(3, "delta"), (2, "delta"), (1, "full")]
    assert all(link.manifest_bytes > 0 for link in detail.chain)
    assert [(file.path, file.size) for file in detail.biggest] == [("/f3", 3), ("/f2", 2), ("/f1", 1)]
    assert len(detail.packs) == 3
    assert [pack.new for pack in detail.packs].count(True) == 1
    assert all(pack.size is not None and 0 < pack.used <= pack.size for pack in detail.packs)
    await store.delete([detail.packs[0].key])
    assert (await history.show(refs[2], newest=None)).packs[0].size is None


async def test_what_a_snapshot_may_be_called(store: CountingStore, memory: MemoryCapture, history: History) -> None:
    refs = await take(store, memory, 2)
    await name(store, "release", refs[0])
    await name(store, "broken", "nonsense")

    async def found(which: str, newest: str | None = refs[1]) -> str | None:
        return await history.resolve(UID, which, newest=newest)

    assert [await found(which) for which in ("1", "00000002", "latest", "release", refs[0])] == [
        refs[0], refs[1], refs[1], refs[0], refs[0],
    ]  # fmt: skip
    assert await found("image") is None
    for which in ("nothing", "broken", "-1", "..", "a/b", "", "x" * 300, "1" * 13, "caf\udce9"):
        with pytest.raises(SnapshotNotFound):
            await found(which)
    with pytest.raises(SnapshotNotFound, match="no snapshot yet"):
        await found("latest", None)
    for call in (history.show(layout.manifest_key(UID, 9), newest=None), history.parent(layout.manifest_key(UID, 9))):
        with pytest.raises(SnapshotNotFound):
            await call
    assert [await history.parent(ref) for ref in refs] == [None, refs[0]]


async def test_paths_and_changes_come_in_pieces(store: CountingStore, memory: MemoryCapture, history: History) -> None:
    for number in range(1_200):
        memory.add(Entry(b"many%04d" % number, Kind.FIFO))
    refs = await take(store, memory, 2)
    batches = [batch async for batch in history.paths(refs[1])]
    assert [len(batch) for batch in batches] == [500, 500, 203]
    assert [one.path for one in batches[0][:3]] == ["/", "/f1", "/f2"]
    assert [one.path async for batch in history.changes(refs[0], refs[1]) for one in batch] == ["/f2"]
    assert sum([len(batch) async for batch in history.changes(None, refs[0])]) == 1_201


async def test_snapshots_of_different_images_are_not_compared(
    store: CountingStore, memory: MemoryCapture, history: History
) -> None:
    refs = await take(store, memory, 1)
    memory.image_id = "sha256:other"
    engine = Engine(store, memory)
    info = await engine.take("c", agent_uid=UID, generation=3, number=2, parent=refs[0], progress=lambda _: None)
    with pytest.raises(ImageMismatch, match="different images"):
        [batch async for batch in history.changes(refs[0], info.ref)]
