"""Files that are more than the spec allows a snapshot: the model is told, and deletes some before its turn ends."""

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ActivityError, ApplicationError

from hibernaut import contracts as c
from hibernaut.models import AgentState, Answer, EventsPage, OutcomeKind
from tests.workflows.conftest import Rig
from tests.workflows.world import gone, say, shell
from workflows.failures import code_of


def too_large(size: str = "3.0 GB") -> ApplicationError:
    message = f"The files that differ from the image have {size}, and a snapshot may hold 1.0 GB"
    return ApplicationError(message, type=c.SNAPSHOT_TOO_LARGE, non_retryable=True)


def calls(*commands: str) -> c.ModelReply:
    """A reply with a call for each command."""
    replies = [shell(command, call_id=f"call_{number}") for number, command in enumerate(commands)]
    return replies[0].model_copy(update={"tool_calls": tuple(reply.tool_calls[0] for reply in replies)})


def notes(rig: Rig, request: int) -> list[str]:
    return [item.text for item in rig.world.requests[request].new_items if isinstance(item, c.Note)]


def outcomes(rig: Rig, request: int) -> list[OutcomeKind | None]:
    """What became of each call that a request answers; None: it ran."""
    found = [item for item in rig.world.requests[request].new_items if isinstance(item, c.ToolResult)]
    return [item.outcomes[0].kind if item.outcomes else None for item in found]


def ran(rig: Rig) -> list[str]:
    return [command for request in rig.world.execs for command in request.commands]


async def test_the_model_is_told_and_deletes(rig: Rig) -> None:
    rig.world.script = [shell("one"), calls("fill", "after", "and then"), calls("rm fill", "go on"), say("done")]
    rig.world.snapshot_errors = [None, too_large()]
    agent = await rig.start()
    assert (await rig.ask(agent, "go")).text == "done"
    assert ran(rig) == ["one", "fill", "rm fill", "go on"]
    assert outcomes(rig, 2) == [None, OutcomeKind.NOT_RUN, OutcomeKind.NOT_RUN]
    (note,) = notes(rig, 2)
    for part in ("3.0 GB", "1.0 GB", "since snapshot 1 is durable", "delete", "not run"):
        assert part in note
    assert notes(rig, 3) == []
    status = await rig.status(agent)
    assert (status.state, status.recoveries) == (AgentState.IDLE, 0)
    assert status.snapshot is not None
    assert status.snapshot.number == 4
    page = await rig.query(agent, "events", 0, result_type=EventsPage)
    refused = [event for event in page.events if event.kind == "snapshot_refused"]
    assert [event.data["reason"] for event in refused] == [str(too_large().message)]


async def test_an_answer_that_is_not_durable_is_not_given(rig: Rig) -> None:
    rig.world.script = [shell("fill"), say("too soon"), shell("rm fill"), say("done")]
    rig.world.snapshot_errors = [too_large()]
    agent = await rig.start()
    assert (await rig.ask(agent, "go")).text == "done"
    assert ran(rig) == ["fill", "rm fill"]
    (note,) = notes(rig, 2)
    assert "since the image is durable" in note


async def test_a_model_that_does_nothing_about_it_pauses_the_agent_until_that_is_mended(rig: Rig) -> None:
    rig.world.script = [shell("fill"), say("so what"), say("still"), shell("rm fill"), say("done")]
    rig.world.snapshot_errors = [too_large(), too_large()]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    status = await rig.until(agent, state=AgentState.PAUSED)
    assert status.paused_reason is not None
    assert status.paused_reason.startswith("snapshot failed: The files that differ")
    assert len(rig.world.snapshots) == 1
    assert len(rig.world.requests) == 3
    # A person who resumes it has it told again, and asked again.
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "done"
    assert len(notes(rig, 2)) == len(notes(rig, 3)) == 1
    assert ran(rig) == ["fill", "rm fill"]


async def test_a_person_may_mend_it_while_the_agent_is_paused(rig: Rig) -> None:
    rig.world.script = [shell("fill"), say("so what"), say("the answer")]
    rig.world.snapshot_errors = [too_large()]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await rig.until(agent, state=AgentState.PAUSED)
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "the answer"
    status = await rig.status(agent)
    assert status.snapshot is not None
    assert len(rig.world.requests) == 3


async def test_what_was_not_enough_is_told_while_calls_go_on(rig: Rig) -> None:
    rig.world.script = [
        shell("fill"), shell("held back"), calls("rm some", "look"), shell("rm more"), shell("rm rest"), say("done"),
    ]  # fmt: skip
    rig.world.snapshot_errors = [too_large(), too_large("2.0 GB"), too_large("1.5 GB"), too_large("1.5 GB")]
    agent = await rig.start()
    assert (await rig.ask(agent, "go")).text == "done"
    assert ran(rig) == ["fill", "rm some", "look", "rm more", "rm rest"]
    assert outcomes(rig, 2) == [OutcomeKind.NOT_RUN]
    assert [len(notes(rig, number)) for number in range(6)] == [0, 0, 1, 1, 1, 0]
    assert notes(rig, 3)[0].startswith("[hibernaut] There is still no snapshot of the computer. The files")
    assert "2.0 GB" in notes(rig, 3)[0]
    assert "1.5 GB" in notes(rig, 4)[0]


async def test_an_answer_after_too_little_was_deleted_is_asked_for_again(rig: Rig) -> None:
    rig.world.script = [
        shell("fill"),
        shell("held back"),
        shell("rm some"),
        say("done?"),
        shell("rm rest"),
        say("done"),
    ]
    rig.world.snapshot_errors = [too_large(), too_large("2.0 GB")]
    agent = await rig.start()
    assert (await rig.ask(agent, "go")).text == "done"
    assert ran(rig) == ["fill", "rm some", "rm rest"]
    assert "2.0 GB" in notes(rig, 4)[0]


async def test_a_loss_meanwhile_goes_back_to_the_last_snapshot(rig: Rig) -> None:
    rig.world.script = [shell("one"), shell("fill"), shell("held back"), shell("rm fill"), shell("next"), say("done")]
    rig.world.snapshot_errors = [None, too_large(), gone()]
    agent = await rig.start()
    assert (await rig.ask(agent, "go")).text == "done"
    status = await rig.status(agent)
    assert status.last_recovery is not None
    assert status.last_recovery.restored_snapshot == 1
    assert status.last_recovery.lost_commands == ("fill", "rm fill")
    assert ran(rig) == ["one", "fill", "rm fill"]


async def test_it_is_told_once_however_often_it_fails(rig: Rig) -> None:
    rig.world.script = [shell("fill"), shell("held back"), shell("look"), shell("look"), shell("rm fill"), say("done")]
    rig.world.snapshot_errors = [too_large()] * 3
    agent = await rig.start()
    assert (await rig.ask(agent, "go")).text == "done"
    assert ran(rig) == ["fill", "look", "look", "rm fill"]
    assert sum(len(notes(rig, number)) for number in range(6)) == 1


async def test_an_idle_agent_that_cannot_sleep_says_why(rig: Rig) -> None:
    rig.world.script = [shell("one"), say("done"), shell("rm fill"), say("mended")]
    rig.world.snapshot_errors = [None, too_large()]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.order(agent, "hibernate")
    status = await rig.until(agent, state=AgentState.PAUSED)
    assert status.paused_reason is not None
    assert status.paused_reason.startswith("snapshot failed before hibernation; the container is kept: The files")
    assert status.lease is not None
    await rig.order(agent, "resume")
    assert (await rig.ask(agent, "tidy up")).text == "mended"
    # What is known when a turn begins is told with its message: nothing is held back for it.
    assert len(notes(rig, 2)) == 1
    assert ran(rig) == ["one", "rm fill"]
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)


async def test_a_file_put_that_is_too_much_is_refused_and_told_in_the_next_turn(rig: Rig) -> None:
    rig.world.script = [shell("one"), say("done"), shell("rm upload"), say("mended")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    rig.world.snapshot_errors = [too_large()]
    handle = rig.client.get_workflow_handle(agent.id)
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await handle.execute_update("put_file", c.PutFile(upload_ref="up", path="/x"), result_type=c.PutFileResult)
    assert isinstance(caught.value.cause, ActivityError)
    assert code_of(caught.value.cause) == c.SNAPSHOT_TOO_LARGE
    assert (await rig.ask(agent, "tidy up")).text == "mended"
    assert len(notes(rig, 2)) == 1
    assert ran(rig) == ["one", "rm upload"]


async def test_other_failures_pause_as_before(rig: Rig) -> None:
    rig.world.script = [shell("one"), say("answer")]
    rig.world.snapshot_errors = [ApplicationError("sealed", type="SnapshotSealed", non_retryable=True)]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    status = await rig.until(agent, state=AgentState.PAUSED)
    assert status.paused_reason == "snapshot failed: sealed"
    await rig.order(agent, "resume")
    answer: Answer = await rig.answer(agent, ticket.message_id)
    assert answer.text == "answer"
