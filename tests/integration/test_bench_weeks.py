"""The long benchmark in short: every part runs, finds what it looks for, and says so in its tables."""

from typing import Any

import pytest
from temporalio.api.common.v1 import ActivityType
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import ActivityTaskScheduledEventAttributes, HistoryEvent
from temporalio.client import WorkflowHistory

from benchmarks.bench_weeks import measure
from benchmarks.weeks_life import costs_of
from benchmarks.weeks_plan import MEGABYTE, PARTS, QUICK, plan_of
from benchmarks.weeks_results import report
from benchmarks.weeks_schedule import count_messages, nominal_times


@pytest.mark.slow
async def test_every_part_is_measured() -> None:
    found: Any = await measure(QUICK)
    life, asleep, wake, schedule = (found[name] for name in PARTS)
    assert (life["steps"], life["turns"], life["bounded"]) == (QUICK.life.steps, 10, True)
    assert life["clock_days"] >= QUICK.life.days
    assert life["replayed_runs"] == life["runs"] > QUICK.life.days
    for cost in life["per_step"].values():
        assert 15 < cost["events"]["mean"] < 25
        assert 3_000 < cost["bytes"]["mean"] < 10_000
    assert life["sleeping_run"]["events"] < 10
    assert asleep["store"]["bytes"] > asleep["store"]["written_files_bytes"]
    assert asleep["week"]["store_bytes"] >= asleep["store"]["bytes"]
    assert asleep["week"]["temporal_bytes"] >= asleep["open_run"]["bytes"] > 0
    assert set(wake["by_size"]) == {str(MEGABYTE)}
    times = wake["by_size"][str(MEGABYTE)]
    assert min(times[f"{name}_ms"] for name in ("ours", "docker_start", "docker_load_run", "hibernate")) > 0
    for form, firings in (("agent", QUICK.schedule.firings), ("fresh", QUICK.schedule.fresh)):
        figures = schedule[form]
        assert (figures["firings"], figures["lost"], figures["doubled"]) == (firings, 0, 0)
    assert schedule["agent"]["fired_again"] == QUICK.schedule.firings
    text = report(found, keep=False)
    assert all(f"## {title}" in text for title in ("A life", "Asleep", "Wake", "Schedule"))


def _event(name: str = "") -> HistoryEvent:
    if not name:
        return HistoryEvent()
    kind = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    attributes = ActivityTaskScheduledEventAttributes(activity_type=ActivityType(name=name))
    return HistoryEvent(event_type=kind, activity_task_scheduled_event_attributes=attributes)


def test_a_step_costs_all_events_up_to_the_next_model_call() -> None:
    first = [_event(), _event(), _event("model.call"), _event(), _event("shell.exec"), _event("model.call")]
    second = [_event(), _event("model.call"), _event(), _event()]
    runs = [WorkflowHistory("agent", events) for events in (first, second)]
    costs = costs_of(runs)
    assert [cost.events for cost in costs] == [5, 2, 3]
    assert sum(cost.size for cost in costs) == sum(event.ByteSize() for event in (*first, *second))


def test_a_part_can_be_measured_alone() -> None:
    assert plan_of(["--part", "wake", "--quick"]).parts == ("wake",)
    assert (plan_of([]).parts, plan_of([]).keep, plan_of(["--quick"]).keep) == (PARTS, True, False)
    assert plan_of([]).life.steps == 10_000


def test_a_lost_and_a_doubled_message_are_counted() -> None:
    assert count_messages(["a", "b", "c"], ["a", "c", "c"], "x") == {"firings": 3, "lost": 1, "doubled": 1}
    with pytest.raises(RuntimeError, match="never due"):
        count_messages(["a"], ["a", "z"], "x")


def test_a_day_has_a_thousand_firings() -> None:
    times = nominal_times(86, 1_000)
    assert (times[-1] - times[0]).total_seconds() == 86 * 999 < 24 * 3600
    assert all(time.timestamp() % 86 == 0 for time in times)
    assert times[0].timestamp() - 86 < times[0].replace(hour=0, minute=0, second=0).timestamp() <= times[0].timestamp()
