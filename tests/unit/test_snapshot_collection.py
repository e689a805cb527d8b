"""Collection and verification of a store of snapshots."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from activities.errors import SnapshotNotFound
from activities.ports.upkeep import Retention, VerifyProgress
from activities.snapshots.chain import ChainReader
from activities.snapshots.condemned import Condemned
from activities.snapshots.layout import manifest_key
from activities.snapshots.timing import Timing
from tests.support.fleet import DAY, Fleet

if TYPE_CHECKING:
    from pathlib import Path

NOTHING = Retention()


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


async def test_packs_that_nothing_names_are_deleted_in_the_end(fleet: Fleet) -> None:
    agent = await fleet.grown(4)
    leftover = fleet.agent("b")
    leftover.write(b"file", b"never came to its manifest")
    fleet.store.fail_at = len(fleet.store.log) + 2
    with pytest.raises(RuntimeError):
        await leftover.take()
    fleet.store.fail_at = None
    await fleet.upkeep.prune("a", NOTHING)
    first = await fleet.upkeep.collect()
    assert (first.packs_seen, first.manifests_seen, first.condemned, first.swept) == (5, 2, 3, 0)
    assert (await fleet.upkeep.collect()).condemned == 0
    assert len(await fleet.keys("/packs/")) == 5
    fleet.ahead += 2 * DAY
    last = await fleet.upkeep.collect()
    assert (last.swept, last.waiting, last.more) == (3, 0, False)
    assert last.bytes_swept > 0
    assert len(await fleet.keys("/packs/")) == 2
    assert agent.ref is not None
    await ChainReader(fleet.store).state(agent.ref)
    fleet.store.log.clear()
    await fleet.upkeep.collect()
    # What manifests say is remembered.
    assert [line for line in fleet.store.log if line.startswith("GET") and "manifests" in line] == []


async def test_young_packs_are_let_alone(fleet: Fleet) -> None:
    leftover = fleet.agent("b")
    leftover.write(b"file", b"its manifest is on its way")
    fleet.store.fail_at = len(fleet.store.log) + 2
    with pytest.raises(RuntimeError):
        await leftover.take()
    fleet.store.fail_at = None
    fleet.ahead += timedelta(hours=23)
    assert (await fleet.upkeep.collect()).condemned == 0
    fleet.ahead += timedelta(hours=2)
    assert (await fleet.upkeep.collect()).condemned == 1


async def test_what_is_named_again_is_released(fleet: Fleet) -> None:
    agent = await fleet.grown(3)
    kept = await fleet.store.get(manifest_key("a", 1))
    await fleet.upkeep.prune("a", NOTHING)
    assert (await fleet.upkeep.collect()).condemned == 1
    await fleet.store.put(manifest_key("a", 1), kept)
    fleet.ahead += 2 * DAY
    report = await fleet.upkeep.collect()
    assert (report.released, report.swept, report.waiting) == (1, 0, 0)
    assert agent.ref is not None
    await ChainReader(fleet.store).state(manifest_key("a", 1))


async def test_a_manifest_that_cannot_be_read_keeps_what_it_may_name(fleet: Fleet) -> None:
    await fleet.grown(3)
    await fleet.store.put(manifest_key("a", 1), b"damaged")
    for _ in range(2):
        fleet.ahead += 2 * DAY
        report = await fleet.upkeep.collect()
        assert report.unreadable == (manifest_key("a", 1),)
        assert (report.condemned, report.swept) == (0, 0)
    await fleet.upkeep.prune("a", NOTHING)
    for _ in range(2):
        fleet.ahead += 2 * DAY
        report = await fleet.upkeep.collect()
    assert len(await fleet.keys("/packs/")) == 2


async def test_two_collectors_at_once_do_no_harm(fleet: Fleet) -> None:
    await fleet.grown(4)
    await fleet.upkeep.prune("a", NOTHING)
    for _ in range(3):
        fleet.ahead += 2 * DAY
        listed = Condemned(fleet.store)
        await listed.look()
        await fleet.upkeep.collect()
        await Fleet(fleet.store._root).upkeep.collect()
    assert len(await fleet.keys("/packs/")) == 2
    assert (await Condemned(fleet.store).look()).packs == {}


async def test_nothing_is_left_of_an_agent_that_shared(fleet: Fleet) -> None:
    source = await fleet.agent("a").claim()
    source.write(b"file", b"1")
    ref = (await source.take()).ref
    fork = fleet.agent("b")
    await fork.engine.fork(ref, agent_uid="b", generation=1)
    await source.engine.delete_agent("a")
    await fork.engine.delete_agent("b")
    for _ in range(4):
        fleet.ahead += 2 * DAY
        await fleet.upkeep.collect()
    assert await fleet.keys("") == ["collection/condemned.json"]


async def test_a_sound_agent_verifies(fleet: Fleet) -> None:
    await fleet.grown(3)
    said: list[VerifyProgress] = []
    report = await fleet.upkeep.verify("a", progress=said.append)
    assert report.sound
    assert (report.snapshots, report.packs, report.chunks, report.lost) == (3, 3, 3, ())
    assert report.bytes == sum([info.size async for info in fleet.store.list("agents/a/snapshots/packs/")])
    # It goes on where it was.
    half = next(one for one in said if one.packs == 2)
    fleet.store.log.clear()
    assert await fleet.upkeep.verify("a", resume=VerifyProgress.model_validate_json(half.model_dump_json())) == report
    assert len([line for line in fleet.store.log if "/packs/" in line]) == 1
    with pytest.raises(SnapshotNotFound):
        await fleet.upkeep.verify("nobody")


async def test_damage_is_found_and_what_it_affects(fleet: Fleet) -> None:
    agent = await fleet.agent("a").claim()
    for name in range(10):
        agent.write(b"base%d" % name, b"%d" % name)
    packs: list[set[str]] = []
    for number in range(4):
        agent.write(b"file%d" % number, b"content %d" % number)
        await agent.take()
        packs.append(set(await fleet.keys("/packs/")))
    new = [*(min(after - before) for before, after in itertools.pairwise([set[str](), *packs]))]
    refs = [manifest_key("a", number) for number in range(1, 5)]
    data = bytearray(await fleet.store.get(new[1]))
    data[5] ^= 1
    await fleet.store.put(new[1], bytes(data))
    await fleet.store.delete([new[3]])
    report = await fleet.upkeep.verify("a")
    assert {(one.key, one.kind): one.snapshots for one in report.damage} == {
        (new[1], "damaged"): (*refs[1:],),
        (new[3], "missing"): (refs[3],),
    }
    assert report.lost == (*refs[1:],)
    await fleet.store.delete([refs[2]])
    report = await fleet.upkeep.verify("a")
    missing = next(one for one in report.damage if one.key == refs[2])
    assert (missing.kind, missing.snapshots) == ("missing", (refs[3],))


def test_times_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="grace"):
        Timing(grace=timedelta(hours=6))
    with pytest.raises(ValueError, match="older"):
        Timing(minimum_age=timedelta(hours=18))
