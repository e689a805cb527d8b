"""Schedules that start a fresh agent for each firing: one each, closed when it has answered, the old ones deleted."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from hibernaut import AgentSpec
from hibernaut._fresh_agents import fresh_agents
from hibernaut.contracts.schedules import firing_agent_id, schedule_id
from hibernaut.models import AgentState
from hibernaut.models.schedules import FiringState
from hibernaut.schedules import InvalidSchedule, ScheduleHandle
from tests.integration.schedule_desk import HOURS, NEVER, Desk, open_desk, until

SPEC = {"model": "scripted", "instructions": "be brief"}
DONE, FAILED, RUNNING = FiringState.DONE, FiringState.FAILED, FiringState.RUNNING


@pytest.fixture
async def desk(agents_server: WorkflowEnvironment) -> AsyncIterator[Desk]:
    async with open_desk(agents_server.client) as desk:
        yield desk


def _ids(schedule: ScheduleHandle, hours: int) -> list[str]:
    return [firing_agent_id(schedule.name, HOURS + timedelta(hours=hour)) for hour in range(hours)]


async def _over(desk: Desk, agent_id: str) -> bool:
    described = await desk.client.temporal.get_workflow_handle(agent_id).describe()
    return described.status is WorkflowExecutionStatus.COMPLETED


@pytest.mark.slow
async def test_each_firing_has_an_agent_of_its_own_and_the_newest_are_kept(desk: Desk) -> None:
    schedule = await desk.schedule(spec=SPEC, cron="0 * * * *", keep=2, paused=True)
    ids = _ids(schedule, 4)
    assert await schedule.backfill(HOURS, HOURS + timedelta(hours=3)) == 4
    status = await desk.settled(schedule, 4)
    assert [(one.agent_id, one.state, one.text) for one in reversed(status.recent)] == [
        (agent_id, DONE, "you said hello") for agent_id in ids
    ]
    assert (status.agent_id, status.keep, status.spec) == (None, 2, SPEC)

    async def forgotten() -> bool:
        return set(desk.script.forgotten) >= set(ids[:2])

    await until(forgotten)
    assert set(desk.script.forgotten) == set(ids[:2])
    assert {request.agent_id for request in desk.script.purged} == set(ids[:2])
    for agent_id in ids[2:]:
        seen = await desk.client.get(agent_id).status()
        assert (seen.state, seen.turn, seen.spec.instructions) == (AgentState.CLOSED, 1, "be brief")


@pytest.mark.slow
async def test_the_agents_made_last_are_kept_whatever_their_time_was(desk: Desk) -> None:
    schedule = await desk.schedule(spec=SPEC, cron="0 * * * *", keep=1, paused=True)
    await schedule.trigger()
    (by_hand,) = await desk.shown(schedule, DONE)
    assert by_hand.agent_id is not None
    await schedule.backfill(HOURS, HOURS)
    await desk.settled(schedule, 2)

    async def one_left() -> bool:
        return desk.script.forgotten == [by_hand.agent_id]

    await until(one_left)
    (backfilled,) = _ids(schedule, 1)
    assert (await desk.client.get(backfilled).status()).turn == 1


@pytest.mark.slow
async def test_a_schedule_made_anew_does_not_take_what_the_old_one_kept(desk: Desk) -> None:
    schedule = await desk.schedule(spec=SPEC, cron="0 * * * *", keep=None, paused=True)
    await schedule.backfill(HOURS, HOURS + timedelta(hours=2))
    await desk.settled(schedule, 3)
    await schedule.delete()
    again: dict[str, Any] = {"cron": NEVER, "message": "hello", "spec": SPEC}

    async def listed() -> bool:
        return len(await fresh_agents(desk.client.temporal, schedule.name)) == 3

    await until(listed)
    with pytest.raises(InvalidSchedule, match="3 agents of an earlier schedule"):
        await desk.client.schedules.create(schedule.name, **again, keep=2)
    await desk.client.schedules.create(schedule.name, **again, keep=3)


async def test_a_doubled_firing_starts_no_second_agent(desk: Desk) -> None:
    schedule = await desk.schedule(spec=SPEC, cron="0 * * * *", paused=True)
    await schedule.backfill(HOURS, HOURS)
    await desk.settled(schedule, 1)
    (agent_id,) = _ids(schedule, 1)
    uid = (await desk.client.get(agent_id).status()).agent_uid
    await schedule.backfill(HOURS, HOURS)
    status = await desk.settled(schedule, 2)
    assert [one.text for one in status.recent] == ["you said hello"] * 2
    seen = await desk.client.get(agent_id).status()
    assert (seen.agent_uid, seen.turn) == (uid, 1)


async def test_an_agent_of_somebody_else_is_left_alone(desk: Desk) -> None:
    schedule = await desk.schedule(spec=SPEC, cron="0 * * * *", paused=True, keep=1)
    first, second = _ids(schedule, 2)
    theirs = await desk.client.start(first, AgentSpec(model="scripted"))
    await schedule.backfill(HOURS, HOURS + timedelta(hours=1))
    status = await desk.settled(schedule, 2)
    assert [(one.agent_id, one.state, one.code) for one in reversed(status.recent)] == [
        (first, FAILED, "AgentAlreadyExists"),
        (second, DONE, ""),
    ]
    seen = await theirs.status()
    assert (seen.turn, seen.state) == (0, AgentState.IDLE)
    assert desk.script.forgotten == []


async def test_a_cancelled_firing_closes_its_agent(desk: Desk) -> None:
    schedule = await desk.schedule(spec=SPEC, message="hold")
    await schedule.trigger()
    (firing,) = await desk.shown(schedule, RUNNING)
    assert firing.workflow_id is not None
    assert firing.agent_id is not None
    agent = desk.client.get(firing.agent_id)

    async def holding() -> bool:
        return "runs" in (await schedule.describe()).recent[0].text

    await until(holding)
    await desk.client.temporal.get_workflow_handle(firing.workflow_id).cancel()
    await desk.shown(schedule, FiringState.CANCELLED)
    assert await _over(desk, agent.id)


async def test_the_next_firing_closes_the_agent_of_a_terminated_one(desk: Desk) -> None:
    schedule = await desk.schedule(spec=SPEC, message="hold", overlap="terminate_other")
    await schedule.trigger()
    (first,) = await desk.shown(schedule, RUNNING)
    assert first.agent_id is not None
    left = first.agent_id

    async def holding() -> bool:
        return "runs" in (await schedule.describe()).recent[0].text

    await until(holding)
    await desk.next_second()
    await schedule.trigger()
    await desk.shown(schedule, RUNNING, FiringState.TERMINATED)
    # Not only when the second one ends: it may be ended by a third.
    await until(lambda: _over(desk, left))
    desk.script.gate.set()
    await desk.shown(schedule, DONE, FiringState.TERMINATED)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_more_firings_than_a_worker_has_slots_do_not_hold_each_other_up(desk: Desk) -> None:
    """Those that wait for the first hundred answers must leave room for the model calls that give them."""
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id, cron="0 * * * *", message="hold", paused=True)
    assert await schedule.backfill(HOURS, HOURS + timedelta(hours=119), "allow_all") == 120

    async def all_sent() -> bool:
        return (await agent.status()).inbox == 119

    await until(all_sent, 120)
    desk.script.gate.set()
    await desk.settled(schedule, 120)
    query = f"TemporalScheduledById = '{schedule_id(schedule.name)}'"

    async def ended() -> bool:
        found = [one.status async for one in desk.client.temporal.list_workflows(query)]
        assert WorkflowExecutionStatus.FAILED not in found, "an answer was forgotten"
        return found == [WorkflowExecutionStatus.COMPLETED] * 120

    await until(ended, 60)
    taken = await desk.messages(agent)
    assert len(taken) == len(set(taken)) == 120
