"""Agents share what they stored: borrowing, offers, forks, and deletions beside them."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from activities.errors import SnapshotConflict, SnapshotFenced, SnapshotNotFound, SnapshotOvertaken
from activities.snapshots import layout
from activities.snapshots.chain import ChainReader
from activities.snapshots.condemned import Condemned, Sentence
from activities.snapshots.offers import Markers
from activities.snapshots.sealing import PLAIN, Key, KeyRing
from activities.snapshots.sharing import Bounds
from tests.support.fleet import DAY, Fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from activities.ports.snapshots import SnapshotInfo
    from activities.ports.store import ObjectInfo

BIG = random.Random(1).randbytes(6 << 20)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.fixture
def eager(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, Bounds(borrow=0, offer=0))


async def _condemn(fleet: Fleet, *packs: str) -> None:
    await Condemned(fleet.store).change(lambda found: found | {pack: Sentence() for pack in packs})


async def test_an_ordinary_snapshot_makes_three_requests(fleet: Fleet) -> None:
    agent = await fleet.agent("a").claim()
    agent.write(b"file", b"1")
    await agent.take()
    agent.write(b"file", b"2")
    fleet.store.log.clear()
    info = await agent.take()
    assert [line.split("/")[0] + " " + line.split("/")[-2] for line in fleet.store.log] == [
        "PUT agents packs",
        "PUT agents manifests",
        "PUT agents a",
    ]
    assert info.requests == 3
    fleet.store.log.clear()
    assert (await agent.take()).unchanged
    assert fleet.store.log == ["HEAD agents/a/head.json"]


async def test_every_request_of_a_snapshot_is_counted(eager: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those for the head, for what others offer, and for what is offered to others."""
    listing = eager.store.list

    def noted(prefix: str) -> AsyncIterator[ObjectInfo]:
        eager.store.log.append(f"LIST {prefix}")
        return listing(prefix)

    monkeypatch.setattr(eager.store, "list", noted)
    infos: list[tuple[SnapshotInfo, int]] = []
    for uid in ("a", "b"):
        agent = await eager.agent(uid).claim()
        agent.write(b"big", BIG)
        # As a worker that has just started: it knows nothing of the head.
        agent.engine._heads.forget(uid)
        eager.store.log.clear()
        infos.append((await agent.take(), len(eager.store.log)))
        eager.store.log.clear()
        infos.append((await agent.take(), len(eager.store.log)))
    assert [info.unchanged for info, _ in infos] == [False, True, False, True]
    assert [info.requests for info, _ in infos] == [made for _, made in infos]


async def test_snapshots_at_the_same_time_count_their_own_requests(fleet: Fleet) -> None:
    agents = [await fleet.agent(uid).claim() for uid in "abc"]
    for agent in agents:
        agent.write(b"file", agent.uid.encode())
    fleet.store.log.clear()
    infos = await asyncio.gather(*(agent.take() for agent in agents))
    assert sum(info.requests for info in infos) == len(fleet.store.log)
    assert len({info.requests for info in infos}) == 1


async def test_what_one_agent_stored_in_bulk_others_borrow(fleet: Fleet) -> None:
    first, second = await fleet.agent("a").claim(), await fleet.agent("b").claim()
    for agent in (first, second):
        agent.write(b"0-first", BIG[: 4 << 20])
        agent.write(b"big", BIG)
    stored = (await first.take()).bytes_new_stored
    assert stored > 5 << 20
    assert await fleet.keys("/shared") == ["agents/a/snapshots/shared"]
    assert await fleet.keys("chunks/") == ["chunks/a/00000001"]
    info = await second.take()
    # Nobody was asked for the first 4 MiB.
    assert info.bytes_new_stored < stored - (1 << 20)
    assert await fleet.keys("chunks/b") == ["chunks/b/00000001"]
    third = await fleet.agent("c").claim()
    third.write(b"big", BIG)
    assert (await third.take()).bytes_new_stored < 5 << 20
    await first.engine.delete_agent("a")
    assert await second.read(info.ref, "big") == BIG
    assert await fleet.keys("chunks/a") == []


async def test_a_cache_of_offers_is_kept_in_a_folder_and_may_be_thrown_away(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "store", Bounds(borrow=0, offer=0))
    first = await fleet.agent("a").claim()
    first.write(b"file", b"content" * 1000)
    await first.take()
    for number, harm in enumerate((b"", b"", b"no database at all, but a file of that name")):
        other = await fleet.agent(f"b{number}").claim()
        cache = other.engine._taking._sharing.offered
        file = cache._scratch._file = tmp_path / "cache" / "chunks.sqlite"
        if harm:
            file.write_bytes(harm * 100)
        other.write(b"file", b"content" * 1000)
        fleet.store.log.clear()
        await other.take()
        assert [line for line in fleet.store.log if line.startswith("PUT") and "/packs/" in line] == []
        assert len([line for line in fleet.store.log if line.startswith("GET chunks/")]) == (0 if number == 1 else 1)
        cache.close()


async def test_chunks_of_condemned_packs_are_stored_anew(eager: Fleet) -> None:
    first, second = await eager.agent("a").claim(), await eager.agent("b").claim()
    first.write(b"file", b"content" * 1000)
    await first.take()
    (pack,) = await eager.keys("/packs/")
    await _condemn(eager, pack)
    second.write(b"other", b"content" * 1000)
    info = await second.take()
    manifest, _ = await ChainReader(eager.store).manifest(info.ref)
    assert pack not in manifest.packs
    assert await second.read(info.ref, "other") == b"content" * 1000


async def test_nothing_is_borrowed_that_is_sealed_otherwise(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, Bounds(borrow=0, offer=0))
    rings = [KeyRing([Key("old", b"1" * 32)]), KeyRing([Key("new", b"2" * 32), Key("old", b"1" * 32)])]
    stored: list[int] = []
    for number, ring in enumerate((PLAIN, PLAIN, rings[0], rings[0], rings[1], rings[1])):
        fleet.sealer = ring
        agent = await fleet.agent(f"a{number}").claim()
        agent.write(b"file", b"content" * 1000)
        packs = len(await fleet.keys("/packs/"))
        ref = (await agent.take()).ref
        assert await agent.read(ref, "file") == b"content" * 1000
        stored.append(len(await fleet.keys("/packs/")) - packs)
    assert stored == [1, 0, 1, 0, 1, 0]


async def test_a_pack_that_is_gone_is_borrowed_no_second_time(eager: Fleet) -> None:
    first, second = await eager.agent("a").claim(), await eager.agent("b").claim()
    first.write(b"file", b"content" * 1000)
    await first.take()
    await eager.store.delete(await eager.keys("/packs/"))
    second.write(b"other", b"content" * 1000)
    with pytest.raises(SnapshotOvertaken):
        await second.take()
    info = await second.take(1)
    assert await second.read(info.ref, "other") == b"content" * 1000


async def test_a_snapshot_that_takes_too_long_is_given_up(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = await fleet.agent("a").claim()
    agent.write(b"file", b"1")
    put = fleet.store.put

    async def slow(key: str, data: bytes, *, if_none_match: bool = False) -> None:
        await put(key, data, if_none_match=if_none_match)
        fleet.ahead += timedelta(hours=7)

    monkeypatch.setattr(fleet.store, "put", slow)
    with pytest.raises(SnapshotOvertaken):
        await agent.take()
    assert await fleet.keys("manifests/") == []
    monkeypatch.undo()
    assert not (await agent.take()).unchanged


async def test_late_packs_are_written_under_other_keys(fleet: Fleet) -> None:
    keys: list[set[str]] = []
    for ahead in (timedelta(), timedelta(), DAY):
        fleet.ahead = ahead
        agent = fleet.agent("a")
        agent.write(b"file", b"1")
        fleet.store.fail_at = len(fleet.store.log) + 2
        with pytest.raises(RuntimeError):
            await agent.take()
        fleet.store.fail_at = None
        keys.append(set(await fleet.keys("/packs/")))
    assert len(keys[0]) == 1
    # The very first attempts may lie on both sides of the end of a period.
    assert len(keys[1]) <= 2
    assert len(keys[2]) == len(keys[1]) + 1


async def test_a_fork_stores_no_pack_and_outlives_its_source(fleet: Fleet) -> None:
    source = await fleet.agent("a").claim()
    source.write(b"file", b"1")
    await source.take()
    source.write(b"other", b"2")
    ref = (await source.take()).ref
    packs = await fleet.keys("/packs/")
    fork = fleet.agent("b")
    info = await fork.engine.fork(ref, agent_uid="b", generation=1)
    assert (info.ref, info.parent) == (layout.manifest_key("b", 1), ref)
    assert (info.added, info.changed, info.deleted, info.files_total) == (0, 0, 0, 2)
    assert await fleet.keys("/packs/") == packs
    again = await fleet.agent("b").engine.fork(ref, agent_uid="b", generation=1)
    assert again.ref == info.ref
    deleted = await source.engine.delete_agent("a")
    assert (deleted.shared, deleted.packs, deleted.manifests) == (True, 0, 2)
    await fork.restore(info.ref)
    assert fork.content() == source.content()
    fork.number = 1
    fork.write(b"file", b"3")
    second = await fork.take()
    assert second.parent == info.ref
    assert await fork.read(second.ref, "other") == b"2"
    for _ in range(2):
        fleet.ahead += 3 * DAY
        await fleet.upkeep.collect()
    assert await fork.read(second.ref, "other") == b"2"


async def test_forks_that_cannot_be(fleet: Fleet) -> None:
    source = await fleet.agent("a").claim()
    source.write(b"file", b"1")
    ref = (await source.take()).ref
    other = await fleet.agent("b").claim()
    other.write(b"file", b"2")
    await other.take()
    engine = fleet.agent("c").engine
    with pytest.raises(SnapshotConflict):
        await engine.fork(ref, agent_uid="a", generation=1)
    with pytest.raises(SnapshotConflict):
        await engine.fork(ref, agent_uid="b", generation=1)
    with pytest.raises(SnapshotNotFound):
        await engine.fork(layout.manifest_key("a", 9), agent_uid="c", generation=1)
    await engine.claim(agent_uid="d", generation=2)
    with pytest.raises(SnapshotFenced):
        await engine.fork(ref, agent_uid="d", generation=1)


async def test_a_fork_whose_source_is_deleted_meanwhile_leaves_nothing_that_counts(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await fleet.agent("a").claim()
    source.write(b"file", b"1")
    ref = (await source.take()).ref
    deleting = fleet.agent("a").engine
    put = Markers.put

    async def deleted_first(markers: Markers, uid: str) -> None:
        await put(markers, uid)
        state = ChainReader.state

        async def read_then_gone(reader: ChainReader, wanted: str | None) -> object:
            found = await state(reader, wanted)
            await deleting.delete_agent("a")
            return found

        monkeypatch.setattr(ChainReader, "state", read_then_gone)

    monkeypatch.setattr(Markers, "put", deleted_first)
    with pytest.raises(SnapshotNotFound):
        await fleet.agent("b").engine.fork(ref, agent_uid="b", generation=1)
    assert await fleet.keys("manifests/") == []


async def test_an_agent_that_shares_nothing_leaves_nothing(fleet: Fleet) -> None:
    agent = await fleet.agent("a").claim()
    agent.write(b"file", b"1")
    await agent.take()
    assert not (await agent.engine.delete_agent("a")).shared
    assert await fleet.keys("") == []
