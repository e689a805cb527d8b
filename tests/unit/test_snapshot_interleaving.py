"""Writers, forks, borrowers, prunings, deletions and collections, interleaved at every request: nothing is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from activities.snapshots import deleting
from activities.snapshots.collection import Collection
from activities.snapshots.guard import Admitted, Guard
from activities.snapshots.sharing import Sharing
from activities.snapshots.timing import Timing
from tests.support.simulated_pace import FAST, SLOW, Pace
from tests.support.simulated_store import without_threads
from tests.support.simulated_truth import Loss
from tests.support.simulated_world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from activities.snapshots.guard import Anew
    from activities.snapshots.manifest import Manifest
    from activities.snapshots.packs import Location

seeds = st.integers(0, 2**32)
ENOUGH = 120
"""Seeds, of which one at least has to show what a missing check loses."""


def _run(seed: int, pace: Pace, *, drain: bool = True, kind: type[Timing] = Timing, **times: timedelta) -> World:
    """Let a world live to its end; raise `Loss` when something was lost."""

    async def live() -> World:
        world = World.make(seed, pace, kind, **times)
        schedule = world.schedule
        for _ in range(2):
            world.start("agent", steps=10)
        for number in range(2):
            schedule.start(f"collect-{number}", world.collect())
            schedule.start(f"prune-{number}", world.prune())
        schedule.start("name", world.name(2))
        try:
            await schedule.run()
        finally:
            await schedule.end()
            schedule.tasks.clear()
        schedule.stalls = 0
        if drain:
            schedule.start("drain", world.drain())
        await schedule.run()
        schedule.start("last", world.restore_all())
        await schedule.run()
        return world

    with without_threads(), pace.kept():
        return asyncio.run(live())


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_nothing_is_lost_and_all_else_goes_in_the_end(seed: int) -> None:
    _run(seed, SLOW)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_nothing_is_lost_where_everything_is_under_way_at_once(seed: int) -> None:
    _run(seed, FAST)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("pace", [SLOW, FAST], ids=["slow", "fast"])
@settings(max_examples=500, deadline=None)
@given(seed=seeds)
def test_nothing_is_lost_at_length(pace: Pace, seed: int) -> None:
    _run(seed, pace)


def test_the_worlds_are_eventful() -> None:
    seen: Counter[str] = Counter()
    for seed in range(25):
        world = _run(seed, FAST)
        seen += world.seen + Counter(borrowed=world.truth.borrowers)
    for event in ("taken", "unchanged", "late", "forked", "borrowed", "pruned", "swept", "deleted", "rewound", "named"):
        assert seen[event] > 5, (event, seen)
    assert seen["emptied"] > 5, seen
    assert seen["cut"] > 2, seen


class _Careless(Timing):
    """Takes any times."""

    def __post_init__(self) -> None:
        pass


async def _admit_all(self: Guard, chunks: Mapping[bytes, Location], anew: Anew, *, look_for: bool = True) -> Admitted:
    del anew, look_for
    return Admitted(dict(chunks), self._timing.start(), 0)


async def _offer_on(self: Collection, *_: object) -> None:
    del self


def _no(*_: object) -> bool:
    return False


def _without_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleting, "is_left", _no)


def _without_a_look_at_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guard, "admit", _admit_all)
    monkeypatch.setattr(Collection, "_withdraw", _offer_on)


def _without_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sharing, "is_late", _no)
    monkeypatch.setattr(Sharing, "check", _no)


async def _believe(self: Guard, manifest: Manifest, *, late: bool) -> None:
    del self, manifest, late


def _without_another_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guard, "confirm", _believe)


@pytest.mark.parametrize(
    ("breaking", "times"),
    [
        (_without_markers, {}),
        (_without_a_look_at_the_list, {}),
        (_without_limits, {"grace": timedelta(0), "minimum_age": timedelta(0)}),
        (_without_another_look, {}),
    ],
    ids=[
        "a deletion that ignores its marker",
        "a borrower that looks nowhere",
        "no grace, no age, no limits",
        "a writer that does not look again",
    ],
)
def test_a_protocol_with_a_part_missing_is_found_out(
    breaking: Callable[[pytest.MonkeyPatch], None], times: dict[str, timedelta], monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(monkeypatch)
    for seed in range(ENOUGH):
        try:
            _run(seed, FAST, drain=False, kind=_Careless, **times)
        except Loss:
            return
    pytest.fail("nothing was lost, or nobody noticed")
