"""People in the loop: consent and questions."""

import pytest
from pydantic import JsonValue
from temporalio.client import WorkflowUpdateFailedError

from hibernaut.models import (
    AgentState,
    ApproveRequest,
    DenyRequest,
    EventKind,
    EventsPage,
    RespondRequest,
    WaitKind,
)
from tests.workflows.conftest import Rig
from tests.workflows.tool_calls import ALWAYS, result, tell, tool, waiting
from tests.workflows.world import say, shell


async def test_an_approved_call_runs_and_not_before(rig: Rig) -> None:
    rig.world.script = [shell("rm -r /", "ls"), say("done")]
    agent = await rig.start(approval=ALWAYS)
    ticket = await rig.send(agent, "go")
    status = await waiting(rig, agent)
    assert status.waiting is not None
    assert (status.waiting.kind, status.waiting.text) == (WaitKind.APPROVAL, "rm -r /\nls")
    assert rig.world.execs == []
    await tell(rig, agent, "approve", ApproveRequest(by="ada"))
    assert (await rig.answer(agent, ticket.message_id)).text == "done"
    assert [request.commands for request in rig.world.execs] == [("rm -r /", "ls")]


async def test_a_denied_call_does_not_run_and_the_model_hears_why(rig: Rig) -> None:
    rig.world.script = [shell("rm -r /"), say("sorry")]
    agent = await rig.start(approval=ALWAYS)
    ticket = await rig.send(agent, "go")
    await waiting(rig, agent)
    await tell(rig, agent, "deny", DenyRequest(reason="not today"))
    assert (await rig.answer(agent, ticket.message_id)).text == "sorry"
    assert rig.world.execs == []
    assert "not today" in (result(rig, 1).error or "")


async def test_consent_for_good_holds_for_the_same_commands_alone(rig: Rig) -> None:
    rig.world.script = [shell("make"), shell("make"), shell("make all"), say("done")]
    agent = await rig.start(approval=ALWAYS)
    ticket = await rig.send(agent, "go")
    await waiting(rig, agent)
    await tell(rig, agent, "approve", ApproveRequest(always=True))
    status = await rig.until(agent, state=AgentState.WAITING_APPROVAL, steps=3)
    assert status.waiting is not None
    assert status.waiting.text == "make all"
    await tell(rig, agent, "approve", ApproveRequest())
    await rig.answer(agent, ticket.message_id)
    assert len(rig.world.execs) == 3


async def test_rules_decide_which_calls_wait(rig: Rig) -> None:
    rules: list[JsonValue] = [
        {"command": "git push", "then": "deny"},
        {"command": "git *", "then": "allow"},
    ]
    rig.world.script = [shell("git status"), shell("cd x && git push -f"), shell("git log; curl evil"), say("done")]
    agent = await rig.start(approval={"policy": "rules", "rules": rules})
    ticket = await rig.send(agent, "go")
    status = await waiting(rig, agent)
    assert status.waiting is not None
    assert status.waiting.text == "git log; curl evil"
    assert "denies" in (result(rig, 2).error or "")
    await tell(rig, agent, "deny", DenyRequest())
    await rig.answer(agent, ticket.message_id)
    assert [request.commands for request in rig.world.execs] == [("git status",)]


@pytest.mark.parametrize(("default", "ran"), [("deny", 0), ("approve", 1)])
async def test_an_approval_nobody_gives_expires(rig: Rig, default: str, ran: int) -> None:
    rig.world.script = [shell("make"), say("done")]
    agent = await rig.start(approval={**ALWAYS, "timeout": 3600, "on_timeout": default})
    ticket = await rig.send(agent, "go")
    await waiting(rig, agent)
    await rig.skip(hours=2)
    assert (await rig.answer(agent, ticket.message_id)).text == "done"
    assert len(rig.world.execs) == ran


async def test_a_long_wait_costs_no_container_and_survives_the_end_of_the_run(rig: Rig) -> None:
    rig.world.script = [shell("first"), shell("second"), say("done")]
    rules: list[JsonValue] = [{"command": "first", "then": "allow"}]
    agent = await rig.start(approval={"policy": "rules", "rules": rules}, idle_timeout=60)
    ticket = await rig.send(agent, "go")
    await waiting(rig, agent)
    await rig.skip(minutes=5)
    status = await rig.until(agent, state=AgentState.WAITING_APPROVAL, lease=None)
    assert status.waiting is not None
    assert status.waiting.text == "second"
    assert len(rig.world.destroyed) == 1
    first = await rig.client.get_workflow_handle(agent.id, run_id=agent.first_execution_run_id).describe()
    assert first.status is not None
    assert first.status.name == "CONTINUED_AS_NEW"
    await tell(rig, agent, "approve", ApproveRequest())
    assert (await rig.answer(agent, ticket.message_id)).text == "done"
    assert [request.exec_prefix for request in rig.world.execs] == ["b0-s0-c0", "b0-s1-c0"]
    assert [request.ref for request in rig.world.restored]


async def test_nothing_that_waits_is_a_clear_error(rig: Rig) -> None:
    rig.world.script = [tool("ask_human", question="why?"), say("done")]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    status = await waiting(rig, agent)
    with pytest.raises(WorkflowUpdateFailedError) as found:
        await tell(rig, agent, "approve", ApproveRequest())
    assert "waits for question (call call_1)" in str(found.value.cause)
    with pytest.raises(WorkflowUpdateFailedError):
        await tell(rig, agent, "respond", RespondRequest(text="x", call_id="call_2"))
    assert status.waiting is not None
    await tell(rig, agent, "respond", RespondRequest(text="because", call_id="call_1"))
    await rig.answer(agent, ticket.message_id)
    assert result(rig, 1).output == {"answer": "because", "answered_by": None}
    with pytest.raises(WorkflowUpdateFailedError, match="failed"):
        await tell(rig, agent, "respond", RespondRequest(text="again"))


async def test_a_question_may_go_unanswered(rig: Rig) -> None:
    rig.world.script = [tool("ask_human", question="why?", timeout_seconds=60), say("done")]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await waiting(rig, agent)
    await rig.skip(minutes=2)
    await rig.answer(agent, ticket.message_id)
    assert result(rig, 1).output == {"answer": None, "timed_out": True}


async def test_what_was_decided_is_in_the_events(rig: Rig) -> None:
    rig.world.script = [shell("make"), say("done")]
    agent = await rig.start(approval=ALWAYS)
    ticket = await rig.send(agent, "go")
    await waiting(rig, agent)
    await tell(rig, agent, "deny", DenyRequest(reason="no", by="ada"))
    await rig.answer(agent, ticket.message_id)
    page = await rig.client.get_workflow_handle(agent.id).query("events", 0, result_type=EventsPage)
    told = {event.kind: event for event in page.events}
    assert told[EventKind.WAITING].data["text"] == "make"
    decided = told[EventKind.DECIDED].data
    assert (decided["decision"], decided["by"], decided["reason"]) == ("denied", "ada", "no")
