"""What firings do to each other's turns and messages: to those that nobody waits for any more, and to no others."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from hibernaut.agent import AgentHandle
from hibernaut.models import AnswerState
from hibernaut.models.schedules import FiringState
from tests.integration.schedule_desk import HOURS, Desk, open_desk, until

RUNNING, DONE, FAILED = FiringState.RUNNING, FiringState.DONE, FiringState.FAILED


@pytest.fixture
async def desk(agents_server: WorkflowEnvironment) -> AsyncIterator[Desk]:
    async with open_desk(agents_server.client) as desk:
        yield desk


async def _becomes(agent: AgentHandle, message_id: str | None, state: AnswerState) -> None:
    assert message_id is not None

    async def has() -> bool:
        return (await agent.answer(message_id)).state is state

    await until(has)


async def test_a_trigger_that_terminates_the_open_firing_interrupts_its_turn(desk: Desk) -> None:
    """Whatever the policy of the schedule."""
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id, message="hold")
    await schedule.trigger()
    (first,) = await desk.shown(schedule, RUNNING)
    await _becomes(agent, first.message_id, AnswerState.RUNNING)
    await desk.next_second()
    await schedule.trigger(overlap="terminate_other")
    second, _ = await desk.shown(schedule, RUNNING, FiringState.TERMINATED)
    await _becomes(agent, first.message_id, AnswerState.INTERRUPTED)
    desk.script.gate.set()
    await desk.shown(schedule, DONE, FiringState.TERMINATED)
    await _becomes(agent, second.message_id, AnswerState.DONE)


async def test_firings_beside_each_other_leave_each_other_alone(desk: Desk) -> None:
    """Even those of a schedule that terminates others."""
    agent = await desk.agent()
    schedule = await desk.schedule(
        agent=agent.id, message="hold", cron="0 * * * *", overlap="terminate_other", paused=True
    )
    assert await schedule.backfill(HOURS, HOURS + timedelta(hours=2), "allow_all") == 3

    async def all_sent() -> bool:
        return (await agent.status()).inbox == 2

    await until(all_sent)
    desk.script.gate.set()
    await desk.shown(schedule, DONE, DONE, DONE)


async def test_a_person_s_turn_is_not_interrupted(desk: Desk) -> None:
    agent = await desk.agent()
    ticket = await agent.post("hold")
    schedule = await desk.schedule(agent=agent.id, message="hold", overlap="terminate_other")
    await schedule.trigger()
    await desk.shown(schedule, RUNNING)
    await desk.next_second()
    await schedule.trigger()
    await desk.shown(schedule, RUNNING, FiringState.TERMINATED)
    assert (await agent.answer(ticket.message_id)).state is AnswerState.RUNNING
    desk.script.gate.set()
    assert (await agent.wait(ticket.message_id, timeout=20)).text == "you said hold"
    await desk.shown(schedule, DONE, FiringState.TERMINATED)


@pytest.mark.parametrize("end", ["late", "cancelled"])
async def test_a_message_that_waited_in_vain_is_taken_back(desk: Desk, end: str) -> None:
    agent = await desk.agent()
    await agent.pause("lunch")
    limit = timedelta(seconds=1) if end == "late" else None
    schedule = await desk.schedule(agent=agent.id, run_timeout=limit)
    await schedule.trigger()
    if end == "cancelled":
        (firing,) = await desk.shown(schedule, RUNNING)

        async def sent() -> bool:
            return (await agent.status()).inbox == 1

        await until(sent)
        await desk.client.temporal.get_workflow_handle(str(firing.workflow_id)).cancel()
    (firing,) = await desk.shown(schedule, FAILED if end == "late" else FiringState.CANCELLED)
    await _becomes(agent, firing.message_id, AnswerState.INTERRUPTED)
    status = await agent.resume()
    assert (status.inbox, status.turn, status.current_message_id) == (0, 0, None)
