"""The recovery ladder, rung by rung, and that no climb goes on for ever."""

from collections import deque
from collections.abc import Mapping

import pytest
from hypothesis import given, settings, strategies as st

from workflows.ladder import LAST, Finding, Rung, Step, climb, first, following

TABLE: Mapping[Rung, Mapping[Finding, Rung]] = {
    Rung.PING: {Finding.ANSWERED: Rung.GO_ON, Finding.SILENT: Rung.RELOCATE},
    Rung.ASSESS: {
        Finding.RUNNING: Rung.GO_ON,
        Finding.RESTARTED: Rung.COLLECT,
        Finding.GONE: Rung.PLACE,
        Finding.UNCLAIMED: Rung.PING,
    },
    Rung.COLLECT: {Finding.DONE: Rung.TELL, Finding.LOST: Rung.ASSESS, Finding.UNCLAIMED: Rung.PING},
    Rung.RELOCATE: {Finding.SAME_HOST: Rung.ASSESS, Finding.OTHER_HOST: Rung.ACQUIRE},
    Rung.PLACE: {Finding.DONE: Rung.ACQUIRE},
    Rung.ACQUIRE: {
        Finding.DONE: Rung.RESTORE,
        Finding.NO_IMAGE: Rung.LOAD_IMAGE,
        Finding.LOST: Rung.PLACE,
        Finding.UNCLAIMED: Rung.PLACE,
    },
    Rung.LOAD_IMAGE: {Finding.DONE: Rung.ACQUIRE, Finding.UNCLAIMED: Rung.PLACE},
    Rung.RESTORE: {Finding.DONE: Rung.REPLAY, Finding.LOST: Rung.PLACE, Finding.UNCLAIMED: Rung.PLACE},
    Rung.REPLAY: {
        Finding.DONE: Rung.TELL,
        Finding.FAILED: Rung.TELL,
        Finding.LOST: Rung.PLACE,
        Finding.UNCLAIMED: Rung.PING,
    },
    Rung.TELL: {Finding.DONE: Rung.GO_ON},
}
"""The ladder as the documents draw it, written out a second time."""
TROUBLE = frozenset({Finding.LOST, Finding.UNCLAIMED, Finding.NO_IMAGE})
"""What sends a climb back down: the rest leads up."""
STARTS = {Finding.NEEDED: Rung.PLACE, Finding.LOST: Rung.ASSESS, Finding.UNCLAIMED: Rung.PING}
CLIMBED = sorted(set(Rung) - LAST)


def _path(*findings: Finding) -> list[Rung]:
    """The rungs that these findings lead over; the first finding is what made somebody climb."""
    rungs = [first(findings[0])]
    for finding in findings[1:]:
        rungs.append(following(rungs[-1], finding))
    return rungs


@pytest.mark.parametrize("finding", sorted(Finding))
@pytest.mark.parametrize("rung", CLIMBED)
def test_every_finding_of_every_rung_leads_where_the_table_says_or_to_a_person(rung: Rung, finding: Finding) -> None:
    assert following(rung, finding) is TABLE[rung].get(finding, Rung.PAUSE)


@pytest.mark.parametrize(("finding", "rung"), sorted(STARTS.items()))
def test_a_climb_starts_where_its_reason_says(finding: Finding, rung: Rung) -> None:
    assert first(finding) is rung


@pytest.mark.parametrize(
    ("findings", "rungs"),
    [
        (
            (Finding.NEEDED, Finding.DONE, Finding.DONE),
            [Rung.PLACE, Rung.ACQUIRE, Rung.RESTORE],
        ),
        (
            (Finding.LOST, Finding.RUNNING),
            [Rung.ASSESS, Rung.GO_ON],
        ),
        (
            (Finding.LOST, Finding.RESTARTED, Finding.DONE, Finding.DONE),
            [Rung.ASSESS, Rung.COLLECT, Rung.TELL, Rung.GO_ON],
        ),
        (
            (Finding.LOST, Finding.GONE, *[Finding.DONE] * 5),
            [Rung.ASSESS, Rung.PLACE, Rung.ACQUIRE, Rung.RESTORE, Rung.REPLAY, Rung.TELL, Rung.GO_ON],
        ),
        (
            (Finding.UNCLAIMED, Finding.ANSWERED),
            [Rung.PING, Rung.GO_ON],
        ),
        (
            (Finding.UNCLAIMED, Finding.SILENT, Finding.SAME_HOST),
            [Rung.PING, Rung.RELOCATE, Rung.ASSESS],
        ),
        (
            (Finding.UNCLAIMED, Finding.SILENT, Finding.OTHER_HOST, *[Finding.DONE] * 4),
            [Rung.PING, Rung.RELOCATE, Rung.ACQUIRE, Rung.RESTORE, Rung.REPLAY, Rung.TELL, Rung.GO_ON],
        ),
    ],
)
def test_the_climbs_that_the_module_draws(findings: tuple[Finding, ...], rungs: list[Rung]) -> None:
    assert _path(*findings) == rungs


def _reachable(rung: Rung, *, without: frozenset[Finding] = frozenset()) -> set[Rung]:
    """The rungs above this one, by any findings but these."""
    seen: set[Rung] = set()
    queue = deque([rung])
    while queue:
        here = queue.popleft()
        for finding in Finding:
            if here in LAST or finding in without:
                continue
            there = following(here, finding)
            if there not in seen:
                seen.add(there)
                queue.append(there)
    return seen


@pytest.mark.parametrize("rung", CLIMBED)
def test_without_trouble_no_rung_is_met_twice(rung: Rung) -> None:
    assert rung not in _reachable(rung, without=TROUBLE)


@pytest.mark.parametrize("rung", CLIMBED)
def test_every_rung_leads_to_the_end(rung: Rung) -> None:
    assert Rung.GO_ON in _reachable(rung)
    assert Rung.PAUSE in _reachable(rung)


class _Hurdles:
    """Steps that find what a script says, and afterwards only what leads up."""

    def __init__(self, script: list[Finding], choices: list[int]) -> None:
        self.script = script
        self.choices = choices
        self.steps = 0

    def steps_of(self, rungs: list[Rung]) -> Mapping[Rung, Step]:
        return {rung: lambda rung=rung: self._find(rung) for rung in rungs}

    async def _find(self, rung: Rung) -> Finding:
        self.steps += 1
        if self.script:
            return self.script.pop(0)
        calm = sorted(set(TABLE[rung]) - TROUBLE)
        return calm[self.choices.pop() % len(calm) if self.choices else 0]


@settings(max_examples=300, deadline=None)
@given(
    start=st.sampled_from(CLIMBED),
    script=st.lists(st.sampled_from(sorted(Finding)), max_size=20),
    choices=st.lists(st.integers(0, 3), max_size=12),
)
async def test_a_climb_ends_once_there_is_no_more_trouble(
    start: Rung, script: list[Finding], choices: list[int]
) -> None:
    troubles = len(script)
    hurdles = _Hurdles(script, choices)
    taken: list[str] = []
    assert await climb(start, hurdles.steps_of(CLIMBED), taken) in LAST
    assert len(taken) == hurdles.steps <= troubles + len(CLIMBED)


@settings(max_examples=300, deadline=None)
@given(
    start=st.sampled_from(CLIMBED),
    script=st.lists(st.sampled_from(sorted(TROUBLE | {Finding.DONE, Finding.GONE, Finding.RESTARTED})), max_size=20),
)
async def test_a_climb_that_lost_the_sandbox_goes_on_only_when_another_is_restored_or_a_person_looked(
    start: Rung, script: list[Finding]
) -> None:
    taken: list[str] = []
    end = await climb(start, _Hurdles(script, []).steps_of(CLIMBED), taken)
    rungs = [line.split(": ")[0] for line in taken]
    if Finding.GONE in [line.split(": ")[1] for line in taken] and end is Rung.GO_ON:
        gone = taken.index(f"{Rung.ASSESS.value}: gone")
        assert Rung.RESTORE.value in rungs[gone:]


async def test_a_climb_notes_what_it_took_and_stops_at_the_rung_it_cannot_take() -> None:
    taken: list[str] = []
    steps = _Hurdles([Finding.GONE], []).steps_of([Rung.ASSESS])
    assert await climb(Rung.ASSESS, steps, taken) is Rung.PLACE
    assert taken == ["sandbox.assess: gone"]
