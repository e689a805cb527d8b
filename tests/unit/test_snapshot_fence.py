"""The fence: of two generations of an agent's sandbox only the later one writes snapshots."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from activities.adapters.local_store import LocalStore
from activities.errors import SnapshotDamaged, SnapshotFenced, StoreUnavailable
from activities.ports.snapshots import SnapshotInfo
from activities.ports.store import ObjectInfo
from activities.snapshots.engine import Engine
from activities.snapshots.entries import Entry, Kind
from activities.snapshots.head import Heads
from activities.snapshots.layout import manifest_key, manifests_prefix
from hibernaut.contracts import StoreKeys
from tests.support.memory_capture import MemoryCapture

UID = "uid"
HEAD = StoreKeys.head(UID)


class CountingStore(LocalStore):
    """Counts requests, and may do something before one."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.counts: Counter[str] = Counter()
        self.refuse_head = False

    async def head(self, key: str) -> ObjectInfo | None:
        self.counts[f"HEAD {key}"] += 1
        return await super().head(key)

    async def get(self, key: str) -> bytes:
        self.counts[f"GET {key}"] += 1
        return await super().get(key)

    async def put(self, key: str, data: bytes, *, if_none_match: bool = False) -> None:
        self.counts[f"PUT {key}"] += 1
        await super().put(key, data, if_none_match=if_none_match)

    async def replace(self, key: str, data: bytes, *, if_match: str | None) -> str:
        self.counts[f"PUT {key}"] += 1
        if self.refuse_head:
            raise StoreUnavailable("The store is away.")
        return await super().replace(key, data, if_match=if_match)


class Sandbox:
    """One generation on a host of its own, whose worker knows what it has seen itself."""

    def __init__(self, store: LocalStore, generation: int) -> None:
        self.generation = generation
        self.files = MemoryCapture()
        self.engine = Engine(store, self.files)

    async def acquire(self) -> "Sandbox":
        await self.engine.claim(agent_uid=UID, generation=self.generation)
        await self.engine.prepare(f"c{self.generation}", agent_uid=UID, generation=self.generation)
        return self

    def write(self, content: bytes) -> None:
        self.files.add(Entry(b"file", Kind.FILE), content)

    async def take(self, number: int, parent: str | None = None) -> SnapshotInfo:
        return await self.engine.take(
            f"c{self.generation}",
            agent_uid=UID,
            generation=self.generation,
            number=number,
            parent=parent,
            progress=lambda _text: None,
        )


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path)


async def _head(store: LocalStore) -> dict[str, object]:
    return dict(json.loads(await store.get(HEAD)))


async def _manifests(store: LocalStore) -> list[str]:
    return [info.key async for info in store.list(manifests_prefix(UID))]


async def test_the_head_follows_the_snapshots(store: CountingStore) -> None:
    box = await Sandbox(store, 1).acquire()
    assert await _head(store) == {"format": "hibernaut-head/1", "generation": 1, "number": 0, "ref": None}
    box.write(b"1")
    first = await box.take(1)
    assert await _head(store) == {"format": "hibernaut-head/1", "generation": 1, "number": 1, "ref": first.ref}


async def test_a_snapshot_costs_one_more_request_and_an_unchanged_one_no_write(store: CountingStore) -> None:
    box = await Sandbox(store, 1).acquire()
    box.write(b"1")
    first = await box.take(1)
    box.write(b"2")
    store.counts.clear()
    second = await box.take(2, first.ref)
    assert {key: count for key, count in store.counts.items() if HEAD in key} == {f"PUT {HEAD}": 1}
    store.counts.clear()
    assert (await box.take(3, second.ref)).unchanged
    assert store.counts == {f"HEAD {HEAD}": 1}


async def test_the_next_generation_refuses_a_late_snapshot_and_leaves_no_trace_of_it(store: CountingStore) -> None:
    old = await Sandbox(store, 1).acquire()
    old.write(b"1")
    first = await old.take(1)
    old.write(b"late")
    new = await Sandbox(store, 2).acquire()
    with pytest.raises(SnapshotFenced, match="Generation 2 of agent uid has taken over"):
        await old.take(2, first.ref)
    assert await _manifests(store) == [first.ref]
    assert (await _head(store))["generation"] == 2
    new.write(b"new")
    third = await new.take(3, first.ref)
    assert await _manifests(store) == [first.ref, third.ref]
    with pytest.raises(SnapshotFenced):
        await old.take(4, first.ref)
    assert await _head(store) == {"format": "hibernaut-head/1", "generation": 2, "number": 3, "ref": third.ref}


async def test_an_unchanged_snapshot_of_a_replaced_generation_is_refused_too(store: CountingStore) -> None:
    old = await Sandbox(store, 1).acquire()
    old.write(b"1")
    first = await old.take(1)
    await Sandbox(store, 2).acquire()
    with pytest.raises(SnapshotFenced):
        await old.take(2, first.ref)


async def test_a_worker_that_knows_nothing_is_refused_before_it_stores_anything(store: CountingStore) -> None:
    await Sandbox(store, 2).acquire()
    late = Sandbox(store, 1)
    late.write(b"late")
    store.counts.clear()
    with pytest.raises(SnapshotFenced):
        await late.take(1)
    assert not [key for key in store.counts if key.startswith("PUT")]


async def test_a_generation_claims_upward_only(store: CountingStore) -> None:
    await Sandbox(store, 3).acquire()
    await Sandbox(store, 3).acquire()
    with pytest.raises(SnapshotFenced):
        await Sandbox(store, 2).acquire()
    await Sandbox(store, 4).acquire()
    assert (await _head(store))["generation"] == 4


async def test_of_claims_at_the_same_time_the_latest_holds(store: CountingStore) -> None:
    claims = [Heads(store).claim(UID, generation) for generation in range(1, 9)]
    await asyncio.gather(*claims, return_exceptions=True)
    assert (await _head(store))["generation"] == 8


async def test_a_retry_finishes_what_an_attempt_left_between_manifest_and_head(store: CountingStore) -> None:
    box = await Sandbox(store, 1).acquire()
    box.write(b"1")
    store.refuse_head = True
    with pytest.raises(StoreUnavailable):
        await box.take(1)
    assert await _manifests(store) == [manifest_key(UID, 1)]
    assert (await _head(store))["ref"] is None
    store.refuse_head = False
    again = await box.take(1)
    assert (again.number, again.unchanged) == (1, False)
    assert (await _head(store))["ref"] == manifest_key(UID, 1)


async def test_a_retry_that_finds_its_manifest_is_refused_when_the_next_generation_came_between(
    store: CountingStore,
) -> None:
    old = await Sandbox(store, 1).acquire()
    old.write(b"1")
    store.refuse_head = True
    with pytest.raises(StoreUnavailable):
        await old.take(1)
    store.refuse_head = False
    await Sandbox(store, 2).acquire()
    with pytest.raises(SnapshotFenced):
        await old.take(1)
    assert await _manifests(store) == []


async def test_another_worker_of_the_same_generation_goes_on(store: CountingStore) -> None:
    first_worker = await Sandbox(store, 1).acquire()
    first_worker.write(b"1")
    first = await first_worker.take(1)
    second_worker = Sandbox(store, 1)
    second_worker.write(b"2")
    second = await second_worker.take(2, first.ref)
    first_worker.write(b"3")
    third = await first_worker.take(3, second.ref)
    assert (await _head(store))["ref"] == third.ref


async def test_a_deleted_agent_takes_no_more_snapshots(store: CountingStore) -> None:
    box = await Sandbox(store, 1).acquire()
    box.write(b"1")
    first = await box.take(1)
    await Engine(store, MemoryCapture()).delete_agent(UID)
    assert [info.key async for info in store.list("agents/")] == []
    box.write(b"2")
    with pytest.raises(SnapshotFenced, match="deleted"):
        await box.take(2, first.ref)
    assert await _manifests(store) == []


async def test_a_head_of_another_format_stops_the_line(store: CountingStore) -> None:
    await store.put(HEAD, b'{"format": "hibernaut-head/2", "generation": 1}')
    with pytest.raises(SnapshotDamaged, match=r"head\.json"):
        await Sandbox(store, 1).acquire()
