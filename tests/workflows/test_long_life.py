"""An agent of two months: many runs, messages at every moment, and a history that costs the same on the last day."""

import asyncio
import contextlib
import random
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.testservice.v1 import SleepRequest
from temporalio.service import RPCError

from hibernaut._temporal import Workflows
from hibernaut.contracts import limits
from hibernaut.models import AgentState, AnswerState, EventsPage, SendRequest, Ticket
from tests.support.histories import chain, size
from tests.workflows.conftest import Rig
from tests.workflows.world import say, shell

PHASES, MESSAGES, STEPS = 10, 5, 10
RUN_EVENTS = 250


async def _there(_workflows: Workflows) -> None:
    """The time-skipping server cannot tell who polls."""


@pytest.mark.slow
async def test_five_hundred_steps_in_sixty_days(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RUN_EVENTS", RUN_EVENTS)
    monkeypatch.setattr(Workflows, "require_worker", _there)
    agent = await rig.start(instructions="live long")
    workflows, chance = Workflows(rig.client), random.Random(7)
    turns: list[int] = []
    phases: list[datetime] = []

    async def send(message_id: str, after: float) -> None:
        await asyncio.sleep(after)
        request = SendRequest(text=f"message {message_id}", message_id=message_id)
        await workflows.update(agent.id, "send", [request], Ticket)

    for phase in range(PHASES):
        phases.append(await rig.environment.get_current_time())
        names = [f"p{phase}-m{number}" for number in range(MESSAGES)]
        for name in names:
            rig.world.script += [*(shell(f"echo {name} {number}") for number in range(STEPS - 1)), say(name)]
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(send(name, chance.uniform(0, 3)))
        for name in names:
            answer = await rig.answer(agent, name)
            assert answer.state is AnswerState.DONE
            assert answer.steps == STEPS
            turns.append(answer.turn)
        await rig.order(agent, "hibernate")
        await rig.until(agent, state=AgentState.HIBERNATED)
        await _sleep(rig, timedelta(days=6))
    assert sorted(turns) == list(range(1, PHASES * MESSAGES + 1))
    assert len(rig.world.requests) == PHASES * MESSAGES * STEPS
    asked = [item.message_id for request in rig.world.requests for item in request.new_items if item.kind == "user"]
    assert len(asked) == len(set(asked)) == PHASES * MESSAGES
    page = await rig.query(agent, "events", 0, result_type=EventsPage)
    assert {event.seq for event in page.events} | set(rig.world.events) == set(range(1, page.last + 1))
    await _is_flat(rig, agent.id, phases)


async def _sleep(rig: Rig, time: timedelta) -> None:
    """Let time pass. The clock of this server now and then refuses to be moved; then the agent sleeps but a moment."""
    duration = Duration()
    duration.FromTimedelta(time)
    with contextlib.suppress(RPCError):
        await rig.environment.client.test_service.unlock_time_skipping_with_sleep(
            SleepRequest(duration=duration), timeout=timedelta(seconds=4)
        )


async def _is_flat(rig: Rig, agent_id: str, phases: list[datetime]) -> None:
    """Each run is bounded, and the last tenth of a life costs what the first did."""
    events, sizes = [0] * len(phases), [0] * len(phases)
    runs = await chain(rig.client, agent_id)
    assert len(runs) > 3 * len(phases)
    for run in runs:
        assert len(run.events) < RUN_EVENTS + 60
        # A sleeping run begins in one phase and does its work in the next.
        ended = run.events[-1].event_time.ToDatetime(tzinfo=UTC)
        phase = max(number for number, at in enumerate(phases) if number == 0 or at <= ended)
        events[phase] += len(run.events)
        sizes[phase] += size(run)
    print(f"{len(runs)} runs; events by phase {events}; bytes {sizes}")
    assert len(runs[-1].events) < 20
    assert events[-1] < 1.1 * events[0]
    # What is carried (answers, ids of messages, events) fills up to its bounds in the first weeks.
    assert sizes[-1] < 1.4 * sizes[0]
