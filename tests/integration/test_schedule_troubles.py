"""Schedules when something else is in trouble: the server, the event log, a query."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import ScheduleHandle as TemporalSchedule, WorkflowFailureError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from hibernaut import AgentSpec
from hibernaut._fresh_agents import fresh_agents
from hibernaut.agent import AgentHandle
from hibernaut.contracts.names import AGENT_WORKFLOW, TASK_QUEUE
from hibernaut.contracts.schedules import MEMO_SCHEDULE, firing_agent_id
from hibernaut.errors import NoWorker, RequestRejected, TemporalUnreachable
from hibernaut.models import AgentState, AgentStatus, Answer, AnswerState
from hibernaut.models.schedules import FiringState
from hibernaut.schedules import ScheduleNotFound
from tests.integration.schedule_desk import HOURS, NEVER, Desk, open_desk, until

FAILED = FiringState.FAILED


@pytest.fixture
async def desk(agents_server: WorkflowEnvironment) -> AsyncIterator[Desk]:
    async with open_desk(agents_server.client) as desk:
        yield desk


async def test_what_is_not_known_to_be_valid_is_not_there(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, schedules = await desk.agent(), desk.client.schedules
    name = f"plan-{uuid4().hex[:8]}"

    async def away(*_: object, **__: object) -> None:
        raise RPCError("the server is going away", RPCStatusCode.UNAVAILABLE, b"")

    with monkeypatch.context() as patched:
        patched.setattr(TemporalSchedule, "describe", away)
        with pytest.raises(TemporalUnreachable):
            await schedules.create(name, cron=NEVER, message="x", agent=agent.id)
    with pytest.raises(ScheduleNotFound):
        await schedules.get(name).describe()


async def test_an_answer_that_can_never_be_read_ends_the_firing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = await desk.agent()

    async def forgotten(asked: AgentHandle, message_id: str) -> Answer:
        del asked
        return Answer(message_id=message_id, state=AnswerState.UNKNOWN)

    monkeypatch.setattr(AgentHandle, "answer", forgotten)
    desk.damaged = True
    schedule = await desk.schedule(agent=agent.id)
    await schedule.trigger()
    (firing,) = await desk.shown(schedule, FAILED)
    assert firing.code == "MessageUnknown"


@pytest.mark.slow
async def test_an_agent_whose_objects_nobody_would_find_again_is_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = await desk.schedule(spec={"model": "scripted"}, cron="0 * * * *", keep=1, paused=True)
    first, second, third = (firing_agent_id(schedule.name, HOURS + timedelta(hours=hour)) for hour in range(3))
    status, unreadable = AgentHandle.status, {first}

    async def sometimes(agent: AgentHandle) -> AgentStatus:
        if agent.id in unreadable:
            raise RequestRejected(f"Agent {agent.id} cannot answer the query status.", reason_code="QueryFailed")
        return await status(agent)

    monkeypatch.setattr(AgentHandle, "status", sometimes)
    await schedule.backfill(HOURS, HOURS + timedelta(hours=2))
    await desk.settled(schedule, 3)

    async def deleted() -> bool:
        return desk.script.forgotten == [second]

    await until(deleted)
    with pytest.raises(RequestRejected):
        await desk.client.get(first).delete()
    unreadable.clear()
    await schedule.backfill(HOURS + timedelta(hours=3), HOURS + timedelta(hours=3))

    async def all_deleted() -> bool:
        return set(desk.script.forgotten) == {first, second, third}

    await until(all_deleted)
    assert all(request.agent_uid for request in desk.script.purged)


async def test_an_agent_that_never_ran_is_deleted_all_the_same(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"agent-{uuid4().hex[:8]}"
    client = desk.client.temporal
    started = await client.start_workflow(AGENT_WORKFLOW, {"modell": "x"}, id=name, task_queue=TASK_QUEUE)
    with pytest.raises(WorkflowFailureError):
        await started.result()

    async def rejected(agent: AgentHandle) -> None:
        raise RequestRejected(f"Agent {agent.id} cannot answer the query status.", reason_code="QueryFailed")

    monkeypatch.setattr(AgentHandle, "status", rejected)
    await desk.client.get(name).delete()
    assert desk.script.forgotten == [name]


@pytest.mark.slow
async def test_an_agent_that_cannot_be_closed_keeps_neither_the_others_nor_the_firing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = await desk.schedule(spec={"model": "scripted"}, cron="0 * * * *", keep=1, paused=True)
    stuck, first, second = (firing_agent_id(schedule.name, HOURS + timedelta(hours=hour)) for hour in range(3))
    # What a terminated firing leaves.
    await desk.client.start(stuck, AgentSpec(model="scripted"), memo={MEMO_SCHEDULE: schedule.name})
    close = AgentHandle.close

    async def sometimes(agent: AgentHandle, **options: Any) -> AgentStatus:  # noqa: ANN401  # as of the real one
        if agent.id == stuck:
            raise NoWorker(f"Agent {agent.id} did not answer within 40 s, although a worker polls.")
        return await close(agent, **options)

    async def listed() -> bool:
        return bool(await fresh_agents(desk.client.temporal, schedule.name))

    await until(listed)
    monkeypatch.setattr(AgentHandle, "close", sometimes)
    await schedule.backfill(HOURS + timedelta(hours=1), HOURS + timedelta(hours=2))
    status = await desk.settled(schedule, 2)
    assert [one.agent_id for one in status.recent] == [second, first]
    await until(lambda: _forgotten(desk, first))
    assert (await desk.client.get(stuck).status()).state is AgentState.IDLE


async def _forgotten(desk: Desk, agent_id: str) -> bool:
    return desk.script.forgotten == [agent_id]
