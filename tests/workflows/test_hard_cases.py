"""Orders and failures at bad moments: nothing is lost, nothing hangs, no container is left."""

import asyncio

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from hibernaut import contracts as c
from hibernaut.models import AgentState, AgentStatus, AnswerState, EventKind, EventsPage, SendRequest, ToolCall
from tests.workflows.conftest import Rig
from tests.workflows.world import gone, say, shell

FOREVER = 10_000


def _down(count: int) -> list[BaseException | None]:
    return [ApplicationError("no Docker daemon answers", type="SandboxUnavailable") for _ in range(count)]


async def _put(rig: Rig, agent_id: str) -> c.PutFileResult:
    handle = rig.client.get_workflow_handle(agent_id)
    return await handle.execute_update("put_file", c.PutFile(upload_ref="up", path="/x"), result_type=c.PutFileResult)


async def test_instructions_are_told_even_after_a_recovery_before_the_first_message(rig: Rig) -> None:
    rig.world.script = [say("hello")]
    agent = await rig.start(instructions="be kind")
    await _put(rig, agent.id)
    rig.world.live.clear()
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    await rig.ask(agent, "hi")
    assert rig.world.kinds(0)[0] == "instructions"


async def test_a_file_put_into_a_dying_container_is_put_into_the_next(rig: Rig) -> None:
    agent = await rig.start()
    rig.world.put_loses = True
    assert (await _put(rig, agent.id)).size == 3
    assert [put.lease.generation for put in rig.world.puts] == [1, 2]
    assert (await rig.status(agent)).snapshot is not None


async def test_a_file_put_into_a_dead_container_wakes_a_new_one(rig: Rig) -> None:
    agent = await rig.start()
    await _put(rig, agent.id)
    rig.world.live.clear()
    await _put(rig, agent.id)
    assert rig.world.live == {2}
    assert len(rig.world.restored) == 1


async def test_wake_replaces_a_dead_container(rig: Rig) -> None:
    agent = await rig.start()
    await _put(rig, agent.id)
    rig.world.live.clear()
    await rig.order(agent, "wake")
    for _ in range(300):
        if rig.world.live == {2}:
            break
        await asyncio.sleep(0.02)
    assert rig.world.live == {2}


async def test_a_long_message_that_cannot_be_kept_may_be_sent_again(rig: Rig) -> None:
    rig.world.script = [say("read")]
    rig.world.keep_error = ApplicationError("refused", type="InvalidKey", non_retryable=True)
    agent = await rig.start()
    text = "x" * 10_000
    with pytest.raises(WorkflowUpdateFailedError):
        await rig.send(agent, text, "m1")
    await agent.signal("send", SendRequest(text=text, message_id="m2"))
    for _ in range(300):
        page = await agent.query("events", 0, result_type=EventsPage)
        if any(event.kind is EventKind.MESSAGE_REJECTED for event in page.events):
            break
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("the rejection was never told")
    rig.world.keep_error = None
    assert not (await rig.send(agent, text, "m1")).duplicate
    assert (await rig.answer(agent, "m1")).text == "read"


async def test_many_messages_wait_without_outgrowing_a_payload(rig: Rig) -> None:
    rig.world.script = [say(str(number)) for number in range(400)]
    agent = await rig.start()
    await rig.order(agent, "pause")
    for number in range(0, 400, 50):
        await asyncio.gather(*(rig.send(agent, "ü" * 3_990, f"m{number + index}") for index in range(50)))
    assert (await rig.status(agent)).inbox == 400
    await rig.order(agent, "close")
    final = await rig.client.get_workflow_handle(agent.id).result()
    assert AgentStatus.model_validate(final).state is AgentState.CLOSED


async def test_an_interrupt_does_not_wait_for_a_sandbox_that_never_comes(rig: Rig) -> None:
    rig.world.acquire_errors = _down(FOREVER)
    rig.world.script = [shell("true")]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    for _ in range(300):
        if rig.world.requests:
            break
        await asyncio.sleep(0.02)
    await rig.order(agent, "interrupt")
    assert (await rig.answer(agent, ticket.message_id)).state is AnswerState.INTERRUPTED


async def test_close_does_not_wait_for_ever_for_a_host_that_is_away(rig: Rig) -> None:
    rig.world.acquire_errors = _down(FOREVER)
    rig.world.script = [shell("true")]
    agent = await rig.start()
    await rig.send(agent, "go")
    await rig.until(agent, steps=1)
    await rig.order(agent, "close")
    for _ in range(13):
        await rig.skip(minutes=1)
    final = AgentStatus.model_validate(await rig.client.get_workflow_handle(agent.id).result())
    assert final.state is AgentState.CLOSED


async def test_a_cancelled_agent_leaves_no_container(rig: Rig) -> None:
    rig.world.script = [shell("touch x"), say("done")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.client.get_workflow_handle(agent.id).cancel()
    final = AgentStatus.model_validate(await rig.client.get_workflow_handle(agent.id).result())
    assert final.state is AgentState.CLOSED
    assert final.snapshot is not None
    assert rig.world.live == set()


async def test_a_reply_with_thousands_of_commands_is_cut_short(rig: Rig) -> None:
    calls = tuple(
        ToolCall(call_id=f"call_{number}", kind="shell_call", commands=("true",) * 50) for number in range(20)
    )
    rig.world.script = [c.ModelReply(segment_ref="", tool_calls=calls), say("enough")]
    agent = await rig.start()
    assert (await rig.ask(agent, "go")).text == "enough"
    assert len(rig.world.execs) == 4
    errors = [item.error for item in rig.world.requests[1].new_items if isinstance(item, c.ToolResult) and item.error]
    assert len(errors) == 16
    assert "200 commands" in errors[0]


async def test_an_interrupt_while_paused_on_a_failed_snapshot_is_no_answer(rig: Rig) -> None:
    failed = ApplicationError("disk full", type="CaptureError", non_retryable=True)
    rig.world.snapshot_errors = [failed] * 3
    rig.world.script = [shell("true"), say("hi")]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await rig.until(agent, state=AgentState.PAUSED)
    await rig.order(agent, "interrupt")
    assert (await rig.answer(agent, ticket.message_id)).state is AnswerState.INTERRUPTED


async def test_an_order_to_hibernate_is_not_kept_for_later(rig: Rig) -> None:
    rig.world.script = [shell("true"), say("done")]
    agent = await rig.start()
    await rig.order(agent, "hibernate")
    await rig.ask(agent, "go")
    await asyncio.sleep(0.3)
    assert rig.world.live == {1}


async def test_two_losses_in_a_row_are_both_mended(rig: Rig) -> None:
    rig.world.snapshot_errors = [gone(), None, gone()]
    rig.world.script = [shell("1"), say("a"), shell("2"), say("b"), shell("3"), say("c")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    assert (await rig.status(agent)).recoveries >= 1
    assert len(rig.world.live) == 1
