"""Pruning: what is kept, what goes, and in which order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from activities.errors import InvalidSnapshotName, SnapshotNameTaken, SnapshotNotFound
from activities.ports.upkeep import Retention
from activities.snapshots.chain import ChainReader
from activities.snapshots.head import Heads
from activities.snapshots.layout import manifest_key
from activities.snapshots.retention import Candidate, plan
from tests.support.fleet import DAY, Fleet

if TYPE_CHECKING:
    from pathlib import Path

NOTHING = Retention()
NOW = datetime(2026, 5, 20, 12, 30, tzinfo=UTC)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def _plan(keep: Retention, hours: list[float], *, deltas: bool = False) -> dict[int, list[str]]:
    """Which of snapshots that are so many hours old are kept, and by which rules; `base` is one."""
    found = {
        number: Candidate(number, NOW - timedelta(hours=age), number - 1 if deltas and number > 1 else None)
        for number, age in enumerate(sorted(hours, reverse=True), 1)
    }
    decided = plan(found, keep, newest=len(hours), in_use=(), named=(), now=NOW)
    kept: dict[int, list[str]] = {number: [*rules] for number, rules in decided.rules.items()}
    assert sorted([*kept, *decided.bases, *decided.removed]) == sorted(found)
    return kept | {number: ["base"] for number in decided.bases}


def test_retention_without_rules_keeps_two_and_the_recent() -> None:
    assert _plan(NOTHING, [100, 50, 25, 24]) == {3: ["previous"], 4: ["newest"]}
    assert _plan(NOTHING, [100, 0.9, 0.5, 0]) == {2: ["recent"], 3: ["previous", "recent"], 4: ["newest", "recent"]}


def test_retention_by_rules() -> None:
    # 12:30 less 2.25, 2.75 and 3 hours are 10:15, 9:45 and 9:30; less 13 hours is the day before.
    hours = [400, 200, 37, 13, 3, 2.75, 2.25, 2]
    assert _plan(Retention(last=3), hours) == {6: ["last"], 7: ["previous", "last"], 8: ["newest", "last"]}
    assert set(_plan(Retention(hourly=2), hours)) == {6, 7, 8}
    assert set(_plan(Retention(hourly=3), hours)) == {4, 6, 7, 8}
    # Days without snapshots do not count.
    assert set(_plan(Retention(daily=3), hours)) == {3, 4, 7, 8}
    assert set(_plan(Retention(weekly=2), hours)) == {2, 7, 8}
    assert set(_plan(Retention(last=99), hours)) == set(range(1, 9))


def test_what_is_kept_keeps_what_it_builds_on() -> None:
    assert _plan(NOTHING, [5, 4, 3, 2], deltas=True) == {1: ["base"], 2: ["base"], 3: ["previous"], 4: ["newest"]}


async def test_pruning_removes_manifests_alone(fleet: Fleet) -> None:
    agent = await fleet.grown(5)
    packs = await fleet.keys("/packs/")
    plan = await fleet.upkeep.prune("a", Retention(daily=3), dry_run=True)
    assert (plan.removed, plan.dry_run) == ((1, 2), True)
    assert len(await fleet.keys("manifests/")) == 5
    report = await fleet.upkeep.prune("a", Retention(daily=3))
    assert (report.removed, report.dry_run, report.kept) == ((1, 2), False, plan.kept)
    assert await fleet.keys("manifests/") == [manifest_key("a", number) for number in (3, 4, 5)]
    assert await fleet.keys("/packs/") == packs
    head = (await Heads(fleet.store).view("a")).head
    assert head is not None
    assert (head.doomed, head.ref) == ((), agent.ref)
    assert (await fleet.upkeep.prune("a", Retention(daily=3))).removed == ()
    agent.write(b"file", b"more")
    assert (await agent.take()).number == 6
    with pytest.raises(SnapshotNotFound):
        await fleet.upkeep.prune("nobody", NOTHING)


async def test_names_keep_snapshots(fleet: Fleet) -> None:
    await fleet.grown(5)
    upkeep = fleet.upkeep
    await upkeep.name_snapshot("a", 2, "release-1.0")
    await upkeep.name_snapshot("a", 2, "release-1.0")
    with pytest.raises(SnapshotNameTaken, match="00000002"):
        await upkeep.name_snapshot("a", 3, "release-1.0")
    for wrong in ("", "-x", "a/b", "x" * 65, "ä", "a\n", ".."):
        with pytest.raises(InvalidSnapshotName):
            await upkeep.name_snapshot("a", 2, wrong)
    with pytest.raises(SnapshotNotFound):
        await upkeep.name_snapshot("a", 9, "late")
    report = await upkeep.prune("a", NOTHING)
    assert [(kept.number, kept.rules) for kept in report.kept] == [
        (2, ("named",)),
        (4, ("previous",)),
        (5, ("newest",)),
    ]
    await upkeep.name_snapshot("a", 4, "release-1.0", move=True)
    assert await upkeep.list_names("a") == {"release-1.0": manifest_key("a", 4)}
    assert (await upkeep.prune("a", NOTHING)).removed == (2,)
    assert await upkeep.unname("a", "release-1.0")
    assert not await upkeep.unname("a", "release-1.0")
    with pytest.raises(SnapshotNotFound):
        await upkeep.name_snapshot("a", 2, "gone")
    assert await upkeep.list_names("a") == {}


async def test_an_agent_keeps_the_earlier_snapshot_that_it_goes_on_from(fleet: Fleet) -> None:
    agent = await fleet.grown(5)
    other = await fleet.agent("a").claim(2)
    await other.restore(manifest_key("a", 2), 2)
    assert (await fleet.upkeep.prune("a", NOTHING, dry_run=True)).removed == (1, 3)
    other.number = 5
    assert (await other.take(generation=2)).unchanged
    await other.engine.forget("box")
    assert (await fleet.upkeep.prune("a", NOTHING)).removed == (1, 3)
    other.write(b"file", b"new")
    taken = await other.take(7, 2)
    assert (taken.number, taken.parent) == (7, manifest_key("a", 2))
    assert agent.ref is not None


async def test_what_an_agent_was_rewound_to_may_be_pruned_before_it_takes_another(fleet: Fleet) -> None:
    await fleet.grown(5)
    other = await fleet.agent("a").claim(2)
    await other.restore(manifest_key("a", 2), 2)
    await fleet.store.delete(await fleet.keys("/restore"))
    assert (await fleet.upkeep.prune("a", NOTHING)).removed == (1, 2, 3)
    fleet.ahead += 3 * DAY
    for _ in range(2):
        fleet.ahead += 3 * DAY
        await fleet.upkeep.collect()
    other.number, before = 5, other.content()
    other.write(b"new", b"new")
    taken = await other.take(generation=2)
    fresh = await fleet.agent("a").claim(3)
    await fresh.restore(taken.ref, 3)
    assert fresh.content() == before | {b"new": b"new"}


async def test_a_pruning_that_dies_leaves_whole_chains(fleet: Fleet) -> None:
    agent = await fleet.agent("a").claim()
    for name in range(40):
        agent.write(b"base%d" % name, b"%d" % name)
    for number in range(24):
        agent.write(b"file", b"%d" % number)
        await agent.take()
        fleet.ahead += DAY
    upkeep = fleet.upkeep
    assert len((await upkeep.prune("a", NOTHING, dry_run=True)).removed) == 21
    for _ in range(100):
        # Past the deletions that the last attempt got to, one more.
        fleet.store.log.clear()
        fleet.store.fail_at = None
        deleted = 0

        def note(what: str) -> None:
            nonlocal deleted
            deleted += what.startswith("DELETE")
            if deleted > 1:
                raise RuntimeError(what)

        fleet.store._note = note  # type: ignore[method-assign]
        try:
            report = await upkeep.prune("a", NOTHING)
        except RuntimeError:
            pass
        else:
            break
        finally:
            del fleet.store._note
        for ref in await fleet.keys("manifests/"):
            await ChainReader(fleet.store).state(ref)
    else:
        pytest.fail("it never comes to an end")
    assert report.removed == () or deleted <= 1
    assert len(await fleet.keys("manifests/")) == 3
