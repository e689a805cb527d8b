"""Waiting for a time, messages to a running turn, published files."""

import asyncio

import pytest
from temporalio.client import WorkflowUpdateFailedError

from hibernaut.models import AgentState, AnswerState, DenyRequest, EventsPage
from tests.workflows.conftest import Rig
from tests.workflows.tool_calls import ALWAYS, asleep, output, post, result, tell, tool, waiting
from tests.workflows.world import say, shell


async def test_an_agent_that_waits_for_days_sleeps_meanwhile(rig: Rig) -> None:
    rig.world.script = [shell("1"), tool("sleep", seconds=3 * 86400, reason="the release"), shell("2"), say("done")]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await asleep(rig, agent)
    await rig.skip(days=2)
    status = await rig.until(agent, state=AgentState.HIBERNATED)
    assert status.waiting is not None
    assert status.waiting.text == "the release"
    await rig.skip(days=1, minutes=1)
    assert (await rig.answer(agent, ticket.message_id)).text == "done"
    slept = output(rig, 2)
    assert (slept["waited_seconds"], slept["ended_by"]) == (3 * 86400, "time")
    assert len(rig.world.destroyed) == 1
    assert [request.generation for request in rig.world.acquired] == [1, 2]


async def test_waiting_for_a_time_that_is_past_or_too_far(rig: Rig) -> None:
    rig.world.script = [
        tool("wait_until", time="2020-01-01T00:00:00Z"),
        tool("wait_until", time="2999-01-01T00:00:00+00:00"),
        say("done"),
    ]
    agent = await rig.start()
    await rig.ask(agent, "go")
    past = output(rig, 1)
    assert past["waited_seconds"] == 0
    assert "a year ahead" in (result(rig, 2).error or "")


async def test_an_interrupt_ends_a_wait(rig: Rig) -> None:
    rig.world.script = [shell("make"), say("later")]
    agent = await rig.start(approval=ALWAYS)
    ticket = await rig.send(agent, "go")
    await waiting(rig, agent)
    await rig.order(agent, "interrupt")
    assert (await rig.answer(agent, ticket.message_id)).state is AnswerState.INTERRUPTED
    assert (await rig.ask(agent, "and now?")).text == "later"
    assert rig.world.execs == []
    assert rig.world.kinds(1)[0] == "tool_result"


async def test_a_message_steers_the_running_turn(rig: Rig) -> None:
    rig.world.script = [shell("sleep 1000"), say("as you say")]
    rig.world.block_exec = True
    agent = await rig.start()
    await post(rig, agent, "go", "m1", "queue")
    await rig.world.blocked.wait()
    await post(rig, agent, "left, not right", "m2", "steer")
    rig.world.release()
    first, second = await rig.answer(agent, "m1"), await rig.answer(agent, "m2")
    assert (first.text, second.text, first.turn, second.turn) == ("as you say", "as you say", 1, 1)
    assert rig.world.kinds(1) == ["tool_result", "user"]


async def test_a_message_that_steers_ends_a_sleep(rig: Rig) -> None:
    rig.world.script = [tool("sleep", seconds=86400), say("awake")]
    agent = await rig.start()
    await post(rig, agent, "go", "m1", "queue")
    await asleep(rig, agent)
    await post(rig, agent, "wake up", "m2", "steer")
    assert (await rig.answer(agent, "m2")).text == "awake"
    slept = output(rig, 1)
    assert slept["ended_by"] == "message"


async def test_an_answer_that_did_not_hear_of_a_message_is_not_the_last_word(rig: Rig) -> None:
    rig.world.script = [say("done"), say("done, and so is that")]
    rig.world.block_model = True
    agent = await rig.start()
    await post(rig, agent, "go", "m1", "queue")
    await rig.world.blocked.wait()
    await post(rig, agent, "and that", "m2", "steer")
    rig.world.release()
    assert (await rig.answer(agent, "m1")).text == "done, and so is that"


async def test_a_message_interrupts_the_running_turn(rig: Rig) -> None:
    rig.world.script = [shell("sleep 1000"), say("urgent"), say("queued")]
    rig.world.block_exec = True
    agent = await rig.start()
    await post(rig, agent, "go", "m1", "queue")
    await rig.world.blocked.wait()
    await post(rig, agent, "later", "m2", "queue")
    await post(rig, agent, "fire!", "m3", "interrupt")
    assert (await rig.answer(agent, "m1")).state is AnswerState.INTERRUPTED
    assert (await rig.answer(agent, "m3")).text == "urgent"
    assert (await rig.answer(agent, "m2")).text == "queued"


async def test_steering_an_idle_agent_is_sending(rig: Rig) -> None:
    rig.world.script = [say("hello")]
    agent = await rig.start()
    await post(rig, agent, "hi", "m1", "steer")
    assert (await rig.answer(agent, "m1")).text == "hello"


async def test_files_are_published(rig: Rig) -> None:
    rig.world.script = [
        tool("publish", path="/srv/report.pdf", description="d"),
        tool("publish", path="/x"),
        say("done"),
    ]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await rig.answer(agent, ticket.message_id)
    assert [(one.artifact_id, one.name) for one in rig.world.published] == [
        ("b0-s0-c0", "report.pdf"),
        ("b0-s1-c0", "x"),
    ]
    done = output(rig, 1)
    assert done["artifact"] == "b0-s0-c0"


async def test_publishing_waits_for_consent_too(rig: Rig) -> None:
    rig.world.script = [tool("publish", path="/x"), say("done")]
    agent = await rig.start(approval=ALWAYS)
    ticket = await rig.send(agent, "go")
    await waiting(rig, agent)
    await tell(rig, agent, "deny", DenyRequest())
    await rig.answer(agent, ticket.message_id)
    assert rig.world.published == []


async def test_a_paused_agent_whose_time_has_come_rests_until_it_is_resumed(rig: Rig) -> None:
    rig.world.script = [tool("sleep", seconds=60), say("done")]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await asleep(rig, agent)
    await rig.order(agent, "pause", "lunch")
    await rig.skip(minutes=5)
    handle = rig.client.get_workflow_handle(agent.id)
    before = (await handle.describe()).history_length
    await asyncio.sleep(0.5)
    assert (await handle.describe()).history_length == before
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "done"


async def test_a_wait_goes_on_after_a_pause(rig: Rig) -> None:
    rig.world.script = [tool("sleep", seconds=7200), say("done")]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await asleep(rig, agent)
    await rig.order(agent, "pause", "lunch")
    await rig.skip(minutes=20)
    await rig.until(agent, lease=None)
    await rig.order(agent, "resume")
    await rig.skip(hours=3)
    assert (await rig.answer(agent, ticket.message_id)).text == "done"


async def test_an_interrupt_stops_a_publishing_that_does_not_end(rig: Rig) -> None:
    rig.world.script = [tool("publish", path="/x"), say("later")]
    rig.world.block_exec = True
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await rig.world.blocked.wait()
    await rig.order(agent, "interrupt")
    assert (await rig.answer(agent, ticket.message_id)).state is AnswerState.INTERRUPTED


async def test_a_message_at_the_last_step_does_not_lose_the_answer(rig: Rig) -> None:
    rig.world.script = [say("done"), say("and that too")]
    rig.world.block_model = True
    agent = await rig.start(max_steps=1)
    await post(rig, agent, "go", "m1", "queue")
    await rig.world.blocked.wait()
    await post(rig, agent, "and that", "m2", "steer")
    rig.world.release()
    assert (await rig.answer(agent, "m1")).text == "done"
    assert (await rig.answer(agent, "m2")).text == "and that too"


async def test_one_turn_takes_up_so_many_messages_and_no_more(rig: Rig) -> None:
    rig.world.script = [shell("sleep 1000"), say("all of them")]
    rig.world.block_exec = True
    agent = await rig.start()
    await post(rig, agent, "go", "m", "queue")
    await rig.world.blocked.wait()
    for number in range(20):
        await post(rig, agent, "x" * 3_000, f"m{number}", "steer")
    with pytest.raises(WorkflowUpdateFailedError):
        await post(rig, agent, "x", "one too many", "steer")
    rig.world.release()
    assert (await rig.answer(agent, "m")).text == "all of them"
    assert (await rig.answer(agent, "m19")).text == "all of them"
    page = await rig.client.get_workflow_handle(agent.id).query("events", 0, result_type=EventsPage)
    assert len(page.events[-1].data["joined"]) == 20  # pyright: ignore[reportArgumentType]  # JSON
