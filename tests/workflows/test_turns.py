"""Turns: messages in, steps, answers out."""

import pytest
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from hibernaut import contracts as c
from hibernaut.models import AgentState, AnswerState, EventsPage, SendRequest, ToolCall
from hibernaut.models.messages import MAX_MESSAGE_BYTES
from tests.workflows.conftest import Rig
from tests.workflows.world import say, shell


async def test_a_message_is_answered(rig: Rig) -> None:
    rig.world.script = [say("hello")]
    agent = await rig.start(instructions="be kind")
    answer = await rig.ask(agent, "hi")
    assert (answer.state, answer.text, answer.turn, answer.steps) == (AnswerState.DONE, "hello", 1, 1)
    assert rig.world.kinds(0) == ["instructions", "user"]
    status = await rig.status(agent)
    assert status.usage.total_tokens == 15


async def test_commands_run_and_their_results_reach_the_next_call(rig: Rig) -> None:
    rig.world.script = [shell("echo 1", "echo 2"), say("done")]
    agent = await rig.start()
    assert (await rig.ask(agent, "go")).text == "done"
    assert [request.commands for request in rig.world.execs] == [("echo 1", "echo 2")]
    assert rig.world.execs[0].exec_prefix == "b0-s0-c0"
    assert rig.world.kinds(1) == ["tool_result"]
    result = rig.world.requests[1].new_items[0]
    assert isinstance(result, c.ToolResult)
    assert result.record_ref is not None
    assert rig.world.requests[1].transcript_ref == c.StoreKeys.segment(rig.world.requests[0].agent_uid, 0, 0, 0)


async def test_the_answer_waits_for_the_last_snapshot(rig: Rig) -> None:
    rig.world.script = [shell("touch x"), say("done")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    status = await rig.status(agent)
    assert status.snapshot is not None
    assert status.snapshot.number == 1


async def test_a_message_id_is_taken_once(rig: Rig) -> None:
    rig.world.script = [say("one")]
    agent = await rig.start()
    first = await rig.send(agent, "hi", "m1")
    again = await rig.send(agent, "hi", "m1")
    assert (first.duplicate, again.duplicate) == (False, True)
    await rig.answer(agent, "m1")
    assert (await rig.status(agent)).turn == 1
    assert len(rig.world.requests) == 1


async def test_a_signal_delivers_a_message_too(rig: Rig) -> None:
    rig.world.script = [say("heard")]
    agent = await rig.start()
    await agent.signal("send", SendRequest(text="hi", message_id="m1"))
    assert (await rig.answer(agent, "m1")).text == "heard"


async def test_messages_are_answered_in_order(rig: Rig) -> None:
    rig.world.script = [say("one"), say("two"), say("three")]
    agent = await rig.start()
    for name in ("a", "b", "c"):
        await rig.send(agent, name, name)
    assert [(await rig.answer(agent, name)).text for name in ("a", "b", "c")] == ["one", "two", "three"]


async def test_a_long_message_is_kept_in_the_store_and_goes_by_reference(rig: Rig) -> None:
    rig.world.script = [say("read")]
    agent = await rig.start()
    text = "x" * 900_000
    await rig.ask(agent, text)
    item = rig.world.requests[0].new_items[-1]
    assert isinstance(item, c.UserMessage)
    assert item.text_ref is not None
    assert rig.world.kept[item.text_ref] == text
    assert len(item.text) < 1000


async def test_a_message_over_the_limit_is_rejected_and_the_agent_goes_on(rig: Rig) -> None:
    rig.world.script = [say("fine")]
    agent = await rig.start()
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await rig.send(agent, "é" * (MAX_MESSAGE_BYTES // 2 + 1))
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == "MessageTooLarge"
    assert str(MAX_MESSAGE_BYTES) in str(caught.value.cause)
    assert (await rig.ask(agent, "short")).text == "fine"


async def test_an_invalid_spec_fails_the_workflow_and_names_every_field(rig: Rig) -> None:
    agent = await rig.start(sandbox={"runtime": "qemu", "cpus": 0}, colour="red")
    with pytest.raises(WorkflowFailureError) as caught:
        await agent.result()
    assert isinstance(caught.value.cause, ApplicationError)
    message = caught.value.cause.message
    assert caught.value.cause.type == "InvalidSpec"
    for part in ("sandbox.runtime", "runc", "kata", "sandbox.cpus", "colour"):
        assert part in message


async def test_malformed_arguments_are_told_to_the_model(rig: Rig) -> None:
    bad = ToolCall(call_id="call_1", kind="function_call", error="arguments are no JSON")
    rig.world.script = [c.ModelReply(segment_ref="", tool_calls=(bad,)), say("sorry")]
    agent = await rig.start()
    assert (await rig.ask(agent, "go")).text == "sorry"
    result = rig.world.requests[1].new_items[0]
    assert isinstance(result, c.ToolResult)
    assert result.error == "arguments are no JSON"
    assert rig.world.execs == []


async def test_a_refusal_ends_the_turn_and_the_agent_goes_on(rig: Rig) -> None:
    rig.world.script = [say("I will not").model_copy(update={"refusal": True}), say("that I will")]
    agent = await rig.start()
    refused = await rig.ask(agent, "bad")
    assert (refused.state, refused.text) == (AnswerState.REFUSED, "I will not")
    assert (await rig.ask(agent, "good")).state is AnswerState.DONE


async def test_a_turn_ends_at_its_limit_of_steps(rig: Rig) -> None:
    rig.world.script = [shell("true"), shell("true"), say("later")]
    agent = await rig.start(max_steps=2)
    stuck = await rig.ask(agent, "loop")
    assert stuck.state is AnswerState.FAILED
    assert "2 steps" in stuck.text
    # The results nobody has seen yet go with the next message: no call stays unanswered.
    assert (await rig.ask(agent, "again")).text == "later"
    assert rig.world.kinds(2) == ["tool_result", "user"]


async def test_a_rejected_model_call_pauses_with_the_reason_and_resume_tries_again(rig: Rig) -> None:
    rejected = ApplicationError("unknown model gpt-0", type="ModelRejected", non_retryable=True)
    rig.world.script = [rejected, say("now it works")]
    agent = await rig.start()
    ticket = await rig.send(agent, "hi")
    status = await rig.until(agent, state=AgentState.PAUSED)
    assert "unknown model gpt-0" in (status.paused_reason or "")
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "now it works"
    assert [request.ordinal for request in rig.world.requests] == [0, 1]


async def test_a_retriable_model_error_is_retried_by_temporal(rig: Rig) -> None:
    rig.world.script = [ApplicationError("429", type="ModelUnavailable"), say("patience")]
    agent = await rig.start()
    assert (await rig.ask(agent, "hi")).text == "patience"


async def test_events_are_numbered_without_gaps(rig: Rig) -> None:
    rig.world.script = [shell("true"), say("done")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    page = await agent.query("events", 0, result_type=EventsPage)
    assert [event.seq for event in page.events] == list(range(1, page.last + 1))
    kinds = [event.kind.value for event in page.events]
    for kind in ("started", "message", "turn_started", "sandbox", "reply", "command", "snapshot", "turn_finished"):
        assert kind in kinds
    later = await agent.query("events", page.last - 1, result_type=EventsPage)
    assert len(later.events) == 1
