"""Orders that name a message: nothing happens to the turn of another one."""

from typing import Any

import pytest
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from hibernaut import AgentClient
from hibernaut.errors import InvalidRequest
from hibernaut.models import AgentState, Answer, AnswerState, EventKind, EventsPage
from tests.workflows.conftest import Rig
from tests.workflows.world import say


async def _withdraw(rig: Rig, agent: WorkflowHandle[Any, Any], message_id: str) -> Answer:
    handle = rig.client.get_workflow_handle(agent.id)
    return await handle.execute_update("withdraw", message_id, result_type=Answer)


async def test_an_interrupt_that_comes_late_leaves_the_next_turn_alone(rig: Rig) -> None:
    rig.world.script = [say("one"), say("two")]
    agent = await rig.start()
    await rig.send(agent, "first", "m1")
    await rig.answer(agent, "m1")
    rig.world.block_model = True
    await rig.send(agent, "second", "m2")
    await rig.world.blocked.wait()
    await rig.order(agent, "interrupt", "m1")
    rig.world.release()
    assert (await rig.answer(agent, "m2")).text == "two"


async def test_an_interrupt_of_the_turn_under_way_ends_it(rig: Rig) -> None:
    rig.world.block_model = True
    agent = await rig.start()
    await rig.send(agent, "first", "m1")
    await rig.world.blocked.wait()
    await rig.order(agent, "interrupt", "m1")
    assert (await rig.answer(agent, "m1")).state is AnswerState.INTERRUPTED


@pytest.mark.parametrize("message_id", ["", "x" * 201])
async def test_what_can_be_no_message_id_is_not_remembered(rig: Rig, message_id: str) -> None:
    agent = await rig.start()
    with pytest.raises(WorkflowUpdateFailedError) as raised:
        await _withdraw(rig, agent, message_id)
    assert isinstance(raised.value.cause, ApplicationError)
    assert raised.value.cause.type == "InvalidRequest"
    with pytest.raises(InvalidRequest):
        await AgentClient.over(rig.client).get(agent.id).withdraw(message_id)


async def test_a_message_is_withdrawn_wherever_it_is(rig: Rig) -> None:
    rig.world.script = [say("done"), say("kept")]
    agent = await rig.start()
    await rig.send(agent, "answered", "m0")
    await rig.answer(agent, "m0")
    rig.world.block_model = True
    await rig.send(agent, "runs", "m1")
    await rig.world.blocked.wait()
    for message_id in ("m2", "m3", "m4"):
        await rig.send(agent, "waits", message_id)
    assert (await _withdraw(rig, agent, "m0")).state is AnswerState.DONE
    assert (await _withdraw(rig, agent, "m3")).state is AnswerState.INTERRUPTED
    assert (await _withdraw(rig, agent, "m3")).state is AnswerState.INTERRUPTED
    assert (await _withdraw(rig, agent, "m5")).state is AnswerState.INTERRUPTED
    assert (await rig.send(agent, "too late", "m5")).duplicate
    await rig.order(agent, "pause")
    rig.world.script = [say("two"), say("four")]
    assert (await _withdraw(rig, agent, "m1")).state is AnswerState.RUNNING
    assert (await rig.answer(agent, "m1")).state is AnswerState.INTERRUPTED
    rig.world.release()
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, "m4")).text == "four"
    status = await rig.until(agent, state=AgentState.IDLE)
    assert (status.turn, status.inbox) == (4, 0)
    page = await rig.query(agent, "events", 0, result_type=EventsPage)
    told = [event.data["message_id"] for event in page.events if event.kind is EventKind.INTERRUPTED]
    assert told == ["m3", "m5", "m1"]
