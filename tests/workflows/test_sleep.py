"""Idle, hibernate, wake, pause, interrupt, close: an agent's life between turns."""

import asyncio

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from hibernaut import contracts as c
from hibernaut.models import AgentState, AgentStatus, AnswerState, EventsPage, OutcomeKind
from tests.workflows.conftest import Rig
from tests.workflows.world import say, shell


async def test_an_idle_agent_hibernates_and_leaves_no_container(rig: Rig) -> None:
    rig.world.script = [shell("touch x"), say("done")]
    agent = await rig.start(idle_timeout=600)
    await rig.ask(agent, "go")
    assert rig.world.live == {1}
    await rig.skip(seconds=601)
    status = await rig.until(agent, state=AgentState.HIBERNATED)
    assert rig.world.live == set()
    assert status.lease is None
    assert status.snapshot is not None


async def test_a_message_wakes_it_from_its_snapshot_and_the_model_is_told(rig: Rig) -> None:
    rig.world.script = [shell("touch x"), say("done"), shell("ls"), say("x is there")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.skip(seconds=601)
    before = await rig.until(agent, state=AgentState.HIBERNATED)
    assert (await rig.ask(agent, "look")).text == "x is there"
    assert before.snapshot is not None
    assert [request.ref for request in rig.world.restored] == [before.snapshot.ref]
    assert rig.world.execs[-1].lease.generation == 2
    assert rig.world.acquired[-1].image_id == "sha256:image"
    assert rig.world.kinds(2) == ["note", "user"]
    note = rig.world.requests[2].new_items[0]
    assert isinstance(note, c.Note)
    assert f"snapshot {before.snapshot.number}" in note.text


async def test_a_sleeping_run_is_a_handful_of_events(rig: Rig) -> None:
    rig.world.script = [*(shell(f"echo {index}") for index in range(20)), say("done")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.skip(seconds=601)
    await rig.until(agent, state=AgentState.HIBERNATED)
    handle = rig.client.get_workflow_handle(agent.id)
    history = [event async for event in handle.fetch_history_events()]
    assert (await handle.describe()).run_id != agent.first_execution_run_id
    assert len(history) <= 6
    assert all(event.event_type != EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED for event in history)


async def test_answers_and_deduplication_survive_continue_as_new(rig: Rig) -> None:
    rig.world.script = [say("one")]
    agent = await rig.start()
    await rig.send(agent, "hi", "m1")
    assert (await rig.answer(agent, "m1")).text == "one"
    await rig.skip(seconds=601)
    await rig.until(agent, state=AgentState.HIBERNATED)
    assert (await rig.send(agent, "hi", "m1")).duplicate
    assert (await rig.answer(agent, "m1")).text == "one"


async def test_events_are_written_to_the_store_before_it_sleeps(rig: Rig) -> None:
    rig.world.script = [*(shell(f"echo {index}") for index in range(30)), say("done")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.skip(seconds=601)
    await rig.until(agent, state=AgentState.HIBERNATED)
    page = await rig.client.get_workflow_handle(agent.id).query("events", 0, result_type=EventsPage)
    assert rig.world.events == list(range(1, page.last + 1))
    assert 1 < page.first_held <= page.last


async def test_hibernate_and_wake_on_order(rig: Rig) -> None:
    rig.world.script = [shell("touch x"), say("done")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    assert rig.world.live == set()
    await rig.order(agent, "wake")
    status = await rig.until(agent, state=AgentState.IDLE)
    assert status.lease is not None
    assert status.lease.generation == 2
    assert rig.world.live == {2}
    await rig.skip(seconds=601)
    await rig.until(agent, state=AgentState.HIBERNATED)


async def test_interrupt_ends_a_running_command_and_the_next_message_goes_on(rig: Rig) -> None:
    rig.world.script = [shell("sleep 1000"), say("stopped, what next?")]
    rig.world.block_exec = True
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await asyncio.wait_for(rig.world.blocked.wait(), 20)
    await rig.order(agent, "interrupt")
    assert (await rig.answer(agent, ticket.message_id)).state is AnswerState.INTERRUPTED
    rig.world.block_exec = False
    assert (await rig.ask(agent, "hello?")).text == "stopped, what next?"
    assert rig.world.kinds(1) == ["tool_result", "user"]
    events = await agent.query("events", 0, result_type=EventsPage)
    outcomes = [event.data["kind"] for event in events.events if event.kind.value == "command"]
    assert outcomes == [OutcomeKind.INTERRUPTED.value]


async def test_interrupt_drops_a_model_call_and_loses_no_message(rig: Rig) -> None:
    rig.world.block_model = True
    agent = await rig.start()
    ticket = await rig.send(agent, "first")
    await asyncio.wait_for(rig.world.blocked.wait(), 20)
    await rig.order(agent, "interrupt")
    assert (await rig.answer(agent, ticket.message_id)).state is AnswerState.INTERRUPTED
    rig.world.block_model = False
    rig.world.script = [say("both read")]
    assert (await rig.ask(agent, "second")).text == "both read"
    texts = [item.text for item in rig.world.requests[-1].new_items if isinstance(item, c.UserMessage)]
    assert texts == ["first", "second"]
    assert rig.world.requests[-1].ordinal == 1


async def test_a_paused_agent_takes_messages_and_answers_after_resume(rig: Rig) -> None:
    rig.world.script = [say("late")]
    agent = await rig.start()
    await rig.order(agent, "pause", "maintenance")
    ticket = await rig.send(agent, "hi")
    status = await rig.status(agent)
    assert (status.state, status.paused_reason, status.inbox) == (AgentState.PAUSED, "maintenance", 1)
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "late"


async def test_an_agent_paused_in_mid_turn_gives_its_container_up_and_goes_on_after_resume(rig: Rig) -> None:
    rig.world.block_exec = True
    rig.world.script = [shell("make"), shell("make test"), say("built")]
    agent = await rig.start()
    ticket = await rig.send(agent, "build")
    await asyncio.wait_for(rig.world.blocked.wait(), 20)
    await rig.order(agent, "pause")
    rig.world.block_exec = False
    await rig.client.get_workflow_handle(agent.id).execute_update("interrupt", result_type=AgentStatus)
    assert (await rig.answer(agent, ticket.message_id)).state is AnswerState.INTERRUPTED
    await rig.skip(seconds=601)
    for _ in range(200):
        if not rig.world.live:
            break
        await asyncio.sleep(0.02)
    assert rig.world.live == set()
    assert (await rig.status(agent)).state is AgentState.PAUSED
    await rig.order(agent, "resume")
    assert (await rig.ask(agent, "go on")).text == "built"
    assert rig.world.execs[-1].lease.generation == 2


async def test_close_destroys_the_container_and_refuses_messages(rig: Rig) -> None:
    rig.world.script = [shell("touch x"), say("done")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.order(agent, "close")
    final = AgentStatus.model_validate(await rig.client.get_workflow_handle(agent.id).result())
    assert final.state is AgentState.CLOSED
    assert rig.world.live == set()
    assert final.snapshot is not None
    assert (await rig.status(agent)).state is AgentState.CLOSED


async def test_a_file_put_wakes_the_agent_and_is_snapshotted(rig: Rig) -> None:
    agent = await rig.start()
    handle = rig.client.get_workflow_handle(agent.id)
    result = await handle.execute_update(
        "put_file", c.PutFile(upload_ref="up", path="/home/agent/data.csv"), result_type=c.PutFileResult
    )
    assert (result.path, result.size) == ("/home/agent/data.csv", 3)
    assert len(rig.world.snapshots) == 1
    await rig.until(agent, state=AgentState.IDLE)
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await handle.execute_update("put_file", c.PutFile(upload_ref="up", path="data.csv"))
    assert isinstance(caught.value.cause, ApplicationError)
    assert "absolute" in caught.value.cause.message
    await rig.skip(seconds=601)
    await rig.until(agent, state=AgentState.HIBERNATED)
    assert rig.world.live == set()
