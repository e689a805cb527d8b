"""Schedules without a server: what is refused, which firings were left out, how they are drawn."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from rich.text import Text
from temporalio.api.workflowservice.v1 import ListScheduleMatchingTimesRequest, ListScheduleMatchingTimesResponse
from temporalio.client import Client, ScheduleCalendarSpec, ScheduleIntervalSpec, ScheduleSpec

from hibernaut._firings import due_times, left_out
from hibernaut._ids import AGENT_ID
from hibernaut._schedules import check_limits, check_name, check_times, cron_of
from hibernaut.cli.console import NOT_FOUND, USAGE, exit_code
from hibernaut.cli.schedule_tables import schedules_table, show_schedule, zoned
from hibernaut.cli.schedules import length, when
from hibernaut.contracts.schedules import (
    firing_agent_id,
    firing_message_id,
    firing_workflow_id,
    nominal_of,
    nominal_of_message,
    schedule_id,
)
from hibernaut.errors import InvalidRequest
from hibernaut.models.schedules import Firing, FiringState, OverlapPolicy, ScheduleStatus, ScheduleSummary
from hibernaut.schedules import InvalidSchedule, ScheduleNotFound

NINE = datetime(2026, 11, 30, 8, tzinfo=UTC)


def _at(minutes: float) -> datetime:
    return NINE + timedelta(minutes=minutes)


def _started(*minutes: float) -> list[Firing]:
    return [Firing(scheduled_at=_at(one), started_at=_at(one), state=FiringState.DONE) for one in minutes]


@pytest.mark.parametrize("name", ["", "a" * 101, "a:b", "a/b", "..", "ü", "a b"])
def test_a_name_begins_the_ids_of_agents(name: str) -> None:
    with pytest.raises(InvalidSchedule, match="no name of a schedule"):
        check_name(name)


def test_ids_fit_and_never_meet() -> None:
    name = "a" * 100
    check_name(name)
    assert AGENT_ID.fullmatch(firing_agent_id(name, NINE))
    assert len(firing_message_id(name, NINE)) <= 200
    assert AGENT_ID.fullmatch(schedule_id("a")) is None
    assert firing_workflow_id("weekly", NINE) == "hibernaut-schedule:weekly-2026-11-30T08:00:00Z"
    assert nominal_of("weekly", firing_agent_id("weekly", NINE)) == NINE
    assert nominal_of("week", firing_agent_id("weekly", NINE)) is None
    assert nominal_of("weekly", "weekly-report") is None
    assert nominal_of("weekly", "20261130T080000Z") is None
    assert nominal_of_message("weekly", firing_message_id("weekly", NINE)) == NINE
    assert nominal_of_message("week", firing_message_id("weekly", NINE)) is None
    assert nominal_of_message("weekly", "schedule:weekly:tomorrow") is None


@pytest.mark.parametrize(
    ("cron", "zone", "told"),
    [
        ("", "UTC", "no cron expression"),
        ("0 9 * * * # nine", "UTC", "no cron expression"),
        ("CRON_TZ=UTC 0 9 * * *", "UTC", "time zone"),
        ("0 9 * * *", "Europe/Berlinn", "Did you mean Europe/Berlin"),
        ("0 9 * * *", "Local", "no time zone"),
        ("0 9 * * *", "../../etc/passwd", "no time zone"),
        ("0 9 * * *", "", "no time zone"),
    ],
)
def test_what_needs_no_server_to_be_refused(cron: str, zone: str, told: str) -> None:
    with pytest.raises(InvalidSchedule, match=told):
        check_times(cron, zone)


def test_limits_name_what_is_wrong() -> None:
    hour = timedelta(hours=1)
    check_limits("x", catchup_window=hour, jitter=timedelta(0), run_timeout=None)
    with pytest.raises(InvalidSchedule, match="100,000 bytes, not 100,001"):
        check_limits("x" * 100_001)
    with pytest.raises(InvalidSchedule, match="bytes, not 0"):
        check_limits("")
    with pytest.raises(InvalidSchedule, match="catch-up window"):
        check_limits("x", catchup_window=timedelta(seconds=9))
    with pytest.raises(InvalidSchedule, match="jitter"):
        check_limits("x", jitter=-hour)
    with pytest.raises(InvalidSchedule, match="run timeout"):
        check_limits("x", run_timeout=timedelta(0))


def test_what_was_left_out_is_told_from_what_waits() -> None:
    due = [_at(minute) for minute in range(6)]
    found = left_out(due, _started(0, 1), jitter=timedelta(0), buffered=1)
    assert [(one.scheduled_at, one.state.value) for one in found] == [
        (_at(2), "buffered"),
        (_at(3), "skipped"),
        (_at(4), "skipped"),
        (_at(5), "skipped"),
    ]
    assert left_out(due, _started(*range(6)), jitter=timedelta(0), buffered=0) == []


def test_a_time_before_the_newest_start_is_not_one_that_waits() -> None:
    found = left_out([_at(0), _at(1), _at(2)], _started(0, 2), jitter=timedelta(0), buffered=1)
    assert [one.state for one in found] == [FiringState.SKIPPED]


def test_a_firing_within_its_jitter_is_that_of_its_nominal_time() -> None:
    due = [_at(0.4), _at(10.7), _at(20.2)]
    found = left_out(due, _started(0, 20), jitter=timedelta(minutes=1), buffered=0)
    assert [one.scheduled_at for one in found] == [_at(10.7)]


class _Service:
    """Tells due times as the server does: a thousand at once, the earliest."""

    def __init__(self, due: list[datetime]) -> None:
        self._due = due
        self.asked = 0

    async def list_schedule_matching_times(
        self, request: ListScheduleMatchingTimesRequest, *, timeout: timedelta
    ) -> ListScheduleMatchingTimesResponse:
        assert timeout > timedelta(0)
        self.asked += 1
        start, end = (one.ToDatetime(UTC) for one in (request.start_time, request.end_time))
        answer = ListScheduleMatchingTimesResponse()
        for time in [one for one in self._due if start < one <= end][:1000]:
            answer.start_time.add().FromDatetime(time)
        return answer


@pytest.mark.parametrize("every_s", [1, 10, 100])
async def test_of_very_many_due_times_the_first_and_the_last_are_looked_at(every_s: int) -> None:
    due = [NINE + timedelta(seconds=second) for second in range(0, 86_400, every_s)]
    service = _Service(due)
    client = cast("Client", SimpleNamespace(workflow_service=service, namespace="default"))
    found = await due_times(client, "weekly", NINE, due[-1])
    assert found == sorted(set(found))
    assert found[:864] == due[:864]
    assert found[-10:] == due[-10:]
    assert service.asked <= 3


def test_cron_is_told_as_it_was_written() -> None:
    assert cron_of(ScheduleSpec(calendars=[ScheduleCalendarSpec(comment="0 9 * * MON")])) == "0 9 * * MON"
    assert cron_of(ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=1))])) == "@every 3600s"
    assert cron_of(ScheduleSpec()) == "?"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("1d", 86_400), ("0", 0)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert length(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "x", "-1s", "5y"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(InvalidRequest, match="no length of time"):
        length(text)


def test_moments_are_those_of_the_schedules_time_zone() -> None:
    assert when("2026-11-30T09:00", "Europe/Berlin") == NINE
    assert when("2026-11-30T08:00Z", "Europe/Berlin") == NINE
    with pytest.raises(InvalidRequest, match="no date and time"):
        when("yesterday", "UTC")
    with pytest.raises(InvalidRequest, match="no moment that this machine knows"):
        when("2026-11-30T09:00", "Only/The-Server-Knows")
    assert zoned(NINE, "Europe/Berlin") == "Mon 2026-11-30 09:00:00 CET"
    assert zoned(NINE, "Only/The-Server-Knows") == "Mon 2026-11-30 08:00:00 UTC"


def test_a_time_that_comes_twice_ends_with_its_second_coming() -> None:
    """Clocks in Berlin go back on 31 October 2027, forward on 28 March: a firing at 2:30 is at the second."""
    assert when("2027-10-31T02:30", "Europe/Berlin") == datetime(2027, 10, 31, 0, 30, tzinfo=UTC)
    assert when("2027-10-31T02:30", "Europe/Berlin", latest=True) == datetime(2027, 10, 31, 1, 30, tzinfo=UTC)
    left_out_hour = datetime(2027, 3, 28, 1, 30, tzinfo=UTC)
    assert {when("2027-03-28T02:30", "Europe/Berlin", latest=latest) for latest in (True, False)} == {left_out_hour}


def test_exit_codes() -> None:
    assert exit_code(ScheduleNotFound("x")) == NOT_FOUND
    assert exit_code(InvalidSchedule("x")) == USAGE


def _lines(text: Text) -> list[str]:
    return text.plain.splitlines()


def test_the_list_has_a_line_for_each() -> None:
    one = ScheduleSummary(
        name="monday", cron="0 9 * * MON", timezone="Europe/Berlin", agent_id="weekly", paused=False, next_at=NINE
    )
    two = ScheduleSummary(name="nightly", cron="@daily", timezone="UTC", agent_id=None, paused=True, last_at=NINE)
    head, first, second = _lines(schedules_table([one, two]))
    assert head.split() == ["NAME", "CRON", "SENDS", "TO", "STATE", "LAST", "NEXT"]
    assert first.split("  ")[0] == "monday"
    assert "Mon 2026-11-30 09:00:00 CET" in first
    assert "fresh agents" in second
    assert "paused" in second


def test_a_schedule_is_shown_with_what_became_of_its_firings() -> None:
    recent = (
        Firing(scheduled_at=_at(3), state=FiringState.SKIPPED),
        Firing(scheduled_at=_at(2), started_at=_at(2), state=FiringState.RUNNING, text="weekly is paused: lunch"),
        Firing(
            scheduled_at=_at(1), started_at=_at(61), state=FiringState.FAILED, code="TurnFailed", text="no\x1b[31m\nway"
        ),
        Firing(scheduled_at=_at(0), started_at=_at(0), state=FiringState.DONE, text="x" * 200),
    )
    status = ScheduleStatus(
        name="monday",
        cron="0 9 * * MON",
        timezone="Europe/Berlin",
        message="Summarise\nlast week",
        agent_id="weekly",
        overlap=OverlapPolicy.BUFFER_ONE,
        catchup_window=timedelta(days=1),
        jitter=timedelta(minutes=5),
        run_timeout=timedelta(hours=2),
        paused=False,
        created_at=NINE,
        next=(_at(7 * 24 * 60),),
        recent=recent,
        firings=3,
        waiting=2,
        skipped=1,
    )
    shown = show_schedule(status).plain
    assert "0 9 * * MON Europe/Berlin" in shown
    assert "buffer_one on overlap, catch-up window 1d, jitter 5m, run timeout 2h" in shown
    assert "Summarise last week" in shown
    assert "3 started, 2 waiting for the end of another, 1 skipped for an overlap" in shown
    rows = _lines(show_schedule(status))[-4:]
    assert rows[0].split()[-2:] == ["-", "skipped"]
    assert rows[1].split("  ")[1:] == ["in time", " running", "weekly is paused: lunch"]
    assert "1h later" in rows[2]
    assert "TurnFailed: no\N{REPLACEMENT CHARACTER}[31m way" in rows[2]
    assert rows[3].endswith("x…")
    fresh = status.model_copy(
        update={"agent_id": None, "spec": {"model": "gpt"}, "keep": 3, "paused": True, "next": ()}
    )
    assert "a fresh agent each time (gpt), 3 kept" in show_schedule(fresh).plain
    assert "none while it is paused" in show_schedule(fresh).plain
