"""What is lost is replaced, and the model is told."""

from datetime import UTC, datetime

from temporalio.exceptions import ApplicationError

from hibernaut import contracts as c
from hibernaut.models import AgentState, LeaseStatus
from tests.workflows.conftest import Rig
from tests.workflows.world import HOST, gone, say, shell
from workflows.dirty import DirtyCommand
from workflows.record import AgentRecord, CurrentTurn


def _report(request: c.ModelRequest) -> c.Note:
    return next(item for item in request.new_items if isinstance(item, c.Note) and item.report is not None)


async def test_a_container_removed_between_turns_is_replaced_and_the_call_not_run(rig: Rig) -> None:
    rig.world.script = [shell("touch x"), say("one"), shell("ls"), shell("ls"), say("x")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    rig.world.live.clear()
    assert (await rig.ask(agent, "look")).text == "x"
    assert rig.world.kinds(3) == ["tool_result", "note"]
    report = _report(rig.world.requests[3]).report
    assert report is not None
    assert report.restored_snapshot == 1
    assert report.lost_commands == ()
    assert report.uncertain_commands == ()
    assert [request.ref for request in rig.world.restored] == ["snapshot-1"]
    assert (await rig.status(agent)).recoveries == 1


async def test_a_container_lost_under_a_command_leaves_the_command_uncertain_and_the_rest_not_run(rig: Rig) -> None:
    two_calls = shell("make", call_id="call_1").model_copy(
        update={
            "tool_calls": shell("make", call_id="call_1").tool_calls + shell("make test", call_id="call_2").tool_calls
        }
    )
    rig.world.script = [two_calls, say("told")]
    rig.world.lose_during_exec = 0
    agent = await rig.start()
    assert (await rig.ask(agent, "go")).text == "told"
    assert len(rig.world.execs) == 1
    assert rig.world.kinds(1) == ["tool_result", "tool_result", "note"]
    report = _report(rig.world.requests[1]).report
    assert report is not None
    assert report.uncertain_commands == ("make",)
    assert report.restored_snapshot is None
    assert report.lost_commands == ()


async def test_a_loss_found_by_the_last_snapshot_is_told_before_the_answer(rig: Rig) -> None:
    rig.world.script = [shell("touch x"), say("done"), shell("touch x"), say("done again")]
    rig.world.snapshot_errors = [gone()]
    agent = await rig.start()
    assert (await rig.ask(agent, "go")).text == "done again"
    report = _report(rig.world.requests[2]).report
    assert report is not None
    assert report.lost_commands == ("touch x",)


async def test_a_damaged_snapshot_falls_back_and_says_so(rig: Rig) -> None:
    rig.world.script = [shell("1"), shell("2"), say("done"), shell("ls"), say("older")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.skip(seconds=601)
    await rig.until(agent, state=AgentState.HIBERNATED)
    rig.world.restore_to = ("snapshot-1", 1)
    assert (await rig.ask(agent, "look")).text == "older"
    status = await rig.status(agent)
    assert status.last_recovery is not None
    assert status.last_recovery.requested_snapshot == 3
    assert status.last_recovery.restored_snapshot == 1
    assert status.last_recovery.lost_commands == ("2",)
    notes = [item.text for request in rig.world.requests for item in request.new_items if isinstance(item, c.Note)]
    assert any("Snapshot 3 was damaged" in text for text in notes)


async def test_an_unknown_image_pauses_with_the_reason_and_resume_goes_on(rig: Rig) -> None:
    missing = ApplicationError("image nope is not on this host", type="ImageNotFound", non_retryable=True)
    rig.world.acquire_errors = [missing]
    rig.world.script = [shell("true"), say("done")]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    status = await rig.until(agent, state=AgentState.PAUSED)
    assert "image nope is not on this host" in (status.paused_reason or "")
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "done"


async def test_a_failed_snapshot_pauses_and_is_taken_again_after_resume(rig: Rig) -> None:
    rig.world.snapshot_errors = [ApplicationError("disk full", type="CaptureError", non_retryable=True)]
    rig.world.script = [shell("true"), say("done")]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    status = await rig.until(agent, state=AgentState.PAUSED)
    assert "disk full" in (status.paused_reason or "")
    await rig.order(agent, "resume")
    answer = await rig.answer(agent, ticket.message_id)
    assert answer.text == "done"
    assert (await rig.status(agent)).snapshot is not None


async def test_no_container_outlives_a_failed_restore(rig: Rig) -> None:
    rig.world.script = [shell("1"), say("done"), shell("ls"), say("back")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.skip(seconds=601)
    await rig.until(agent, state=AgentState.HIBERNATED)
    rig.world.restore_errors = [ApplicationError("nothing of the chain is whole", type="x", non_retryable=True)]
    ticket = await rig.send(agent, "hi")
    status = await rig.until(agent, state=AgentState.PAUSED)
    assert "nothing of the chain is whole" in (status.paused_reason or "")
    assert rig.world.live == set()
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "back"
    assert rig.world.live == {3}


async def test_a_container_lost_while_it_is_restored_is_replaced_without_asking_anybody(rig: Rig) -> None:
    rig.world.script = [shell("1"), say("done"), shell("ls"), say("back")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.skip(seconds=601)
    await rig.until(agent, state=AgentState.HIBERNATED)
    rig.world.restore_errors = [gone()]
    assert (await rig.ask(agent, "hi")).text == "back"
    assert rig.world.live == {3}


async def test_a_run_that_ends_before_a_snapshot_succeeds_leaves_it_to_the_next(rig: Rig) -> None:
    """The answer waits for durability even when the command ran in an earlier run."""
    now = datetime.now(UTC)
    lease = LeaseStatus(
        generation=1, host_id=HOST, task_queue=c.host_queue(HOST), sandbox_id="container-1", image_id="sha256:image"
    )
    record = AgentRecord(
        uid="u1",
        born_at=now,
        turn=1,
        step=1,
        generation=1,
        lease=lease,
        current=CurrentTurn(message_id="m1", started_at=now, steps=1),
        message_ids=["m1"],
        pending=[c.ToolResult(call_id="call_1", call_kind="shell_call", record_ref="x")],
        dirty=[DirtyCommand.of("touch x", safe=False)],
    )
    rig.world.live = {1}
    rig.world.script = [say("done")]
    agent = await rig.client.start_workflow(
        c.AGENT_WORKFLOW, args=[{"model": "scripted"}, record], id="carried", task_queue=c.TASK_QUEUE
    )
    assert (await rig.answer(agent, "m1")).text == "done"
    assert len(rig.world.snapshots) == 1
    assert (await rig.status(agent)).snapshot is not None
