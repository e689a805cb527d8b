"""Schedules that send to one agent: once a firing, open until the turn has ended, with an outcome that says why."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from hibernaut.contracts.names import SCHEDULED_MESSAGE_WORKFLOW, TASK_QUEUE
from hibernaut.contracts.schedules import FiringResult, ScheduledMessage, firing_message_id
from hibernaut.errors import AgentNotFound
from hibernaut.models import AnswerState
from hibernaut.models.schedules import FiringState, OverlapPolicy, ScheduleStatus
from hibernaut.schedules import InvalidSchedule, ScheduleAlreadyExists, ScheduleNotFound
from tests.integration.schedule_desk import HOURS, NEVER, Desk, open_desk, until
from workers.schedule import ensure_housekeeping

RUNNING, DONE, FAILED = FiringState.RUNNING, FiringState.DONE, FiringState.FAILED
EVERY_SECOND = "* * * * * * *"


@pytest.fixture
async def desk(agents_server: WorkflowEnvironment) -> AsyncIterator[Desk]:
    async with open_desk(agents_server.client) as desk:
        yield desk


async def test_a_firing_continues_the_agent_and_tells_its_answer(desk: Desk) -> None:
    agent = await desk.agent()
    await agent.send("first", timeout=20)
    schedule = await desk.schedule(agent=agent.id, message="report", note="weekly")
    await schedule.trigger()
    (firing,) = await desk.shown(schedule, DONE)
    assert firing.text == "you said report"
    assert (firing.agent_id, firing.message_id) == (agent.id, firing_message_id(schedule.name, firing.scheduled_at))
    status = await schedule.describe()
    assert (status.cron, status.timezone, status.message, status.note) == (NEVER, "UTC", "report", "weekly")
    assert (status.firings, status.overlap, status.keep) == (1, OverlapPolicy.BUFFER_ONE, None)
    assert status.next[0] == datetime(2099, 1, 1, tzinfo=UTC)
    assert (await agent.status()).turn == 2
    assert await desk.messages(agent) == [(await desk.messages(agent))[0], firing.message_id]


@pytest.mark.slow
async def test_while_a_turn_runs_one_firing_waits_and_the_others_are_left_out(desk: Desk) -> None:
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id, message="hold", cron=EVERY_SECOND)

    async def crowded() -> ScheduleStatus | None:
        status = await schedule.describe()
        states = [one.state for one in reversed(status.recent)]
        wanted = [RUNNING, FiringState.BUFFERED, FiringState.SKIPPED]
        return status if states[:3] == wanted and status.skipped >= 2 else None

    seen = await until(crowded)
    assert seen.firings == 1
    assert seen.recent[-1].text.startswith(f"the turn of {agent.id} runs"), seen.recent[-1]
    desk.script.gate.set()

    async def caught_up() -> bool:
        return (await schedule.describe()).firings > 1

    await until(caught_up)
    await schedule.pause()
    assert (await schedule.describe()).next == ()
    done = [one for one in (await desk.over(schedule)).recent if one.started_at]
    assert {one.state for one in done} == {DONE}
    assert await desk.messages(agent) == [one.message_id for one in reversed(done)]


@pytest.mark.slow
async def test_skip_leaves_out_whatever_is_due_while_a_turn_runs(desk: Desk) -> None:
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id, message="hold", cron=EVERY_SECOND, overlap="skip")

    async def crowded() -> bool:
        return (await schedule.describe()).skipped >= 2

    await until(crowded)
    await schedule.pause()
    desk.script.gate.set()
    await desk.settled(schedule, 1)

    async def told() -> bool:
        return {one.state for one in (await schedule.describe()).recent} == {DONE, FiringState.SKIPPED}

    await until(told)
    assert len(await desk.messages(agent)) == 1


@pytest.mark.parametrize(
    ("overlap", "state"), [("cancel_other", FiringState.CANCELLED), ("terminate_other", FiringState.TERMINATED)]
)
async def test_the_turn_of_a_firing_that_is_replaced_is_interrupted(
    desk: Desk, overlap: str, state: FiringState
) -> None:
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id, message="hold", overlap=overlap)
    await schedule.trigger()
    (first,) = await desk.shown(schedule, RUNNING)
    assert first.message_id is not None
    running = first.message_id

    async def at_it() -> bool:
        return (await agent.status()).current_message_id == running

    await until(at_it)
    await desk.next_second()
    await schedule.trigger()
    second, _ = await desk.shown(schedule, RUNNING, state)

    async def interrupted() -> bool:
        return (await agent.answer(running)).state is AnswerState.INTERRUPTED

    await until(interrupted)
    desk.script.gate.set()
    assert second.message_id is not None
    assert (await agent.wait(second.message_id, timeout=20)).text == "you said hold"
    await desk.shown(schedule, DONE, state)


async def test_with_allow_all_messages_wait_in_the_inbox(desk: Desk) -> None:
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id, message="hold", overlap="allow_all")
    await schedule.trigger()
    await desk.next_second()
    await schedule.trigger()
    second, _ = await desk.shown(schedule, RUNNING, RUNNING)

    async def queued() -> bool:
        return "waits in the inbox" in (await schedule.describe()).recent[0].text

    await until(queued)
    desk.script.gate.set()
    await desk.shown(schedule, DONE, DONE)
    assert (await desk.messages(agent))[-1] == second.message_id


async def test_a_firing_is_open_while_the_agent_waits_for_a_person(desk: Desk) -> None:
    agent = await desk.agent()
    await agent.pause("lunch")
    schedule = await desk.schedule(agent=agent.id)
    await schedule.trigger()

    async def told() -> bool:
        return "is paused: lunch" in (await schedule.describe()).recent[0].text

    await desk.shown(schedule, RUNNING)
    await until(told)
    await agent.resume()
    await desk.shown(schedule, DONE)


async def test_a_firing_that_takes_too_long_fails_and_its_turn_is_interrupted(desk: Desk) -> None:
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id, message="hold", run_timeout=timedelta(seconds=3))
    await schedule.trigger()
    (firing,) = await desk.shown(schedule, FAILED)
    assert firing.code == "RunTimeout"
    assert firing.text.startswith(f"{agent.id} gave no answer within 3 s"), firing
    assert firing.message_id is not None
    message_id = firing.message_id

    async def interrupted() -> bool:
        return (await agent.answer(message_id)).state is AnswerState.INTERRUPTED

    await until(interrupted)


@pytest.mark.parametrize(("message", "code"), [("refuse", "ModelRefused"), ("hello", "AgentClosed")])
async def test_a_failed_firing_says_why(desk: Desk, message: str, code: str) -> None:
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id, message=message)
    if code == "AgentClosed":
        await agent.close(timeout=20)
    await schedule.trigger()
    (firing,) = await desk.shown(schedule, FAILED)
    assert firing.code == code
    assert agent.id in firing.text


async def test_a_firing_of_an_agent_that_is_gone_says_so(desk: Desk) -> None:
    request = ScheduledMessage(schedule="by-hand", message="hello", agent_id="nobody-there")
    client = desk.client.temporal
    handle = await client.start_workflow(
        SCHEDULED_MESSAGE_WORKFLOW, request, id="by-hand-gone", task_queue=TASK_QUEUE, result_type=FiringResult
    )
    with pytest.raises(Exception, match="Workflow execution failed") as raised:
        await handle.result()
    assert "There is no agent 'nobody-there'" in str(raised.value.__cause__)


async def test_backfills_send_in_order_and_a_doubled_one_sends_nothing(desk: Desk) -> None:
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id, cron="0 * * * *", paused=True)
    assert await schedule.backfill(HOURS, HOURS + timedelta(hours=3)) == 4
    first = await desk.settled(schedule, 4)
    expected = [firing_message_id(schedule.name, HOURS + timedelta(hours=hour)) for hour in range(4)]
    assert await desk.messages(agent) == expected
    assert {one.state for one in first.recent} == {DONE}
    assert await schedule.backfill(HOURS + timedelta(hours=2), HOURS + timedelta(hours=4)) == 3
    again = await desk.settled(schedule, 7)
    assert {one.state for one in again.recent} == {DONE}
    assert await desk.messages(agent) == [*expected, firing_message_id(schedule.name, HOURS + timedelta(hours=4))]


@pytest.mark.slow
async def test_a_pause_holds_back_what_is_due_but_not_a_trigger(desk: Desk) -> None:
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id, cron=EVERY_SECOND, paused=True, note="not yet")
    await asyncio.sleep(2)
    held = await schedule.describe()
    assert (held.paused, held.note, held.firings, held.next) == (True, "not yet", 0, ())
    await schedule.trigger()
    await desk.settled(schedule, 1)
    await schedule.resume("go")

    async def fired() -> bool:
        return (await schedule.describe()).firings > 2

    await until(fired)
    assert (await schedule.describe()).note == "go"
    await schedule.pause()


async def test_what_cannot_be_is_said_before_anything_is_made(desk: Desk) -> None:
    agent, schedules = await desk.agent(), desk.client.schedules
    with pytest.raises(InvalidSchedule, match=r"Minute is not in range \[0-59\]"):
        await schedules.create("wrong", cron="61 * * * *", message="x", agent=agent.id)
    with pytest.raises(InvalidSchedule, match="never comes true"):
        await schedules.create("wrong", cron="0 0 30 2 *", message="x", agent=agent.id)
    with pytest.raises(InvalidSchedule, match="Did you mean Europe/Berlin"):
        await schedules.create("wrong", cron=NEVER, timezone="Europe/Berlinn", message="x", agent=agent.id)
    with pytest.raises(AgentNotFound):
        await schedules.create("wrong", cron=NEVER, message="x", agent="nobody-there")
    with pytest.raises(ScheduleNotFound):
        await schedules.get("wrong").describe()
    made = await desk.schedule(agent=agent.id)
    with pytest.raises(ScheduleAlreadyExists, match=made.name):
        await schedules.create(made.name, cron=NEVER, message="x", agent=agent.id)
    for act in (schedules.get("wrong").delete, schedules.get("wrong").pause, schedules.get("wrong").trigger):
        with pytest.raises(ScheduleNotFound):
            await act()
    with pytest.raises(InvalidSchedule, match="in the past"):
        await made.backfill(HOURS, datetime.now(UTC) + timedelta(days=1))


async def test_the_list_has_our_schedules_alone(desk: Desk) -> None:
    agent = await desk.agent()
    await ensure_housekeeping(desk.client.temporal, timedelta(hours=1))
    one = await desk.schedule(agent=agent.id, cron="0 9 * * MON", timezone="Europe/Berlin")
    two = await desk.schedule(spec={"model": "scripted"}, cron="@every 90m", paused=True)
    names = {one.name, two.name}

    async def listed() -> dict[str, object] | None:
        found = {each.name: each async for each in desk.client.schedules.list()}
        return dict(found) if names <= set(found) else None

    found = await until(listed)
    assert not any("housekeeping" in name for name in found)
    lines = {each.name: each async for each in desk.client.schedules.list()}
    assert (lines[one.name].cron, lines[one.name].timezone) == ("0 9 * * MON", "Europe/Berlin")
    assert (lines[one.name].agent_id, lines[one.name].paused) == (agent.id, False)
    assert lines[one.name].next_at is not None
    assert (lines[two.name].cron, lines[two.name].agent_id) == ("@every 5400s", None)
    assert (lines[two.name].paused, lines[two.name].next_at) == (True, None)


async def test_times_follow_the_clocks_of_the_time_zone(desk: Desk) -> None:
    """Europe/Berlin: clocks go forward on 28 March 2027 at 2:00, back on 31 October 2027 at 3:00."""
    agent = await desk.agent()
    nine = await desk.schedule(agent=agent.id, cron="0 9 * * *", timezone="Europe/Berlin")
    spring = await nine.times(datetime(2027, 3, 27, tzinfo=UTC), datetime(2027, 3, 29, 23, tzinfo=UTC))
    assert [f"{time:%dT%H:%M}" for time in spring] == ["27T08:00", "28T07:00", "29T07:00"]
    autumn = await nine.times(datetime(2027, 10, 30, tzinfo=UTC), datetime(2027, 11, 1, 23, tzinfo=UTC))
    assert [f"{time:%dT%H:%M}" for time in autumn] == ["30T07:00", "31T08:00", "01T08:00"]
    night = await desk.schedule(agent=agent.id, cron="30 2 * * *", timezone="Europe/Berlin")
    spring = await night.times(datetime(2027, 3, 27, tzinfo=UTC), datetime(2027, 3, 29, 23, tzinfo=UTC))
    autumn = await night.times(datetime(2027, 10, 30, tzinfo=UTC), datetime(2027, 11, 1, 23, tzinfo=UTC))
    # The hour that is left out has no firing, the one that comes twice has one: the second.
    assert [f"{time:%dT%H:%M}" for time in spring] == ["27T01:30", "29T00:30"]
    assert [f"{time:%dT%H:%M}" for time in autumn] == ["30T00:30", "31T01:30", "01T01:30"]
