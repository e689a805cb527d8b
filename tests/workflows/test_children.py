"""Child agents over a scripted world: started, waited for, copied, stopped, counted."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from hibernaut.contracts import children as kin
from hibernaut.models import AgentState, ChildState, WaitKind
from tests.workflows.branch_world import pruned
from tests.workflows.child_rig import FamilyRig, family_rig, start
from tests.workflows.tool_calls import asleep, post
from tests.workflows.world import say, shell


@pytest.fixture
async def rig(server: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[FamilyRig]:
    async with family_rig(server, tmp_path) as rig:
        yield rig


async def test_a_child_does_its_task_and_goes(rig: FamilyRig) -> None:
    rig.family.scripts = {
        "go": [start("count", name="counter"), say("seven, it says")],
        "count": [shell("ls"), say("7")],
    }
    agent = await rig.start_parent()
    assert (await rig.ask(agent, "go")).text == "seven, it says"
    child = await rig.child(agent)
    assert rig.family.told("go", 1) == {"agent": child.agent_id, "state": "done", "answer": "7"}
    assert child.agent_id.startswith(f"{agent.id}.counter-1-")
    assert (child.state, child.task, child.tokens) == (ChildState.DONE, "count", 30)
    theirs, ours = await rig.status_of(child.agent_id), await rig.status(agent)
    assert theirs.state is AgentState.CLOSED
    assert theirs.parent is not None
    assert (theirs.parent.agent_id, theirs.parent.agent_uid) == (agent.id, ours.agent_uid)
    assert "start_agent" not in theirs.spec.tools
    assert any("You work for the agent" in text for text in rig.family.heard("count"))
    assert {"child_started", "waiting", "decided", "child_ended"} <= set(await rig.kinds(agent))
    description = await rig.client.get_workflow_handle(child.agent_id).describe()
    assert await description.memo_value(kin.MEMO_PARENT) == agent.id


@pytest.mark.slow
async def test_an_agent_sleeps_while_it_waits_for_another(rig: FamilyRig) -> None:
    rig.family.scripts = {"go": [shell("1"), start("work"), say("done")], "work": [say("worked")]}
    rig.family.hang = "work"
    agent = await rig.start_parent(idle_timeout=0.2)
    ticket = await rig.send(agent, "go")
    first = (await rig.client.get_workflow_handle(agent.id).describe()).run_id
    await asleep(rig, agent)
    status = await rig.until(agent, state=AgentState.HIBERNATED, lease=None)
    assert status.waiting is not None
    child = await rig.child(agent)
    assert (status.waiting.kind, status.waiting.agent_id) == (WaitKind.AGENT, child.agent_id)
    handle = rig.client.get_workflow_handle(agent.id)

    async def another() -> bool | None:
        return True if (await handle.describe()).run_id != first else None

    assert await rig.eventually(another)
    rig.family.hang = None
    assert (await rig.answer(agent, ticket.message_id)).text == "done"
    assert rig.family.told("go", 2)["answer"] == "worked"


async def test_a_copy_has_the_conversation_and_the_files(rig: FamilyRig) -> None:
    rig.family.scripts = {
        "go": [shell("1"), start("try", computer="copy"), say("done")],
        "try": [shell("2"), say("it works")],
    }
    agent = await rig.start_parent()
    await rig.ask(agent, "go")
    (fork,) = rig.family.forks
    assert fork.checkpoint.name == "0:0"
    assert fork.checkpoint.snapshot is not None, "the step's files are durable before it is copied"
    child = await rig.child(agent)
    assert (child.computer, child.state) == ("copy", ChildState.DONE)
    theirs = await rig.status_of(child.agent_id)
    assert theirs.forked_from is not None
    assert (theirs.forked_from.agent_id, theirs.parent is not None) == (agent.id, True)
    assert "start_agent" not in theirs.spec.tools
    heard = rig.family.heard("try")
    assert any("You are a fork" in text for text in heard)
    assert any("You work for the agent" in text for text in heard)
    assert [one.ref for one in rig.family.restored][-1].find(theirs.agent_uid) > 0


async def test_there_is_nothing_to_copy_before_the_first_step_has_ended(rig: FamilyRig) -> None:
    rig.family.scripts = {"go": [start("try", computer="copy"), say("done")]}
    agent = await rig.start_parent()
    await rig.ask(agent, "go")
    assert "nothing to copy" in rig.family.refused("go", 1)
    assert (await rig.status(agent)).children == ()


async def test_a_copy_that_fails_is_told(rig: FamilyRig) -> None:
    rig.family.scripts = {"go": [shell("1"), start("try", computer="copy"), say("done")]}
    rig.family.fork_error = pruned()
    agent = await rig.start_parent()
    await rig.ask(agent, "go")
    told = rig.family.told("go", 2)
    assert told["state"] == "failed"
    assert "pruned" in told["answer"]


@pytest.mark.slow
async def test_children_in_the_background_report_to_an_agent_at_rest(rig: FamilyRig) -> None:
    later = say("heard")
    rig.family.scripts = {
        "go": [start("a", wait=False), start("b", wait=False), say("begun"), later, later],
        "a": [say("from a")],
        "b": [say("from b" + "x" * 9_000)],
    }
    rig.family.hang = "a"
    agent = await rig.start_parent()
    await rig.ask(agent, "go")
    first = await rig.child(agent)
    assert rig.family.told("go", 1)["state"] == "running"
    assert first.background
    second = await rig.child(agent, 2, state=ChildState.DONE)
    assert (await rig.answer(agent, kin.child_workflow_id(second.agent_id))).text == "heard"
    rig.family.hang = None
    await rig.child(agent, 1, state=ChildState.DONE)
    await rig.answer(agent, kin.child_workflow_id(first.agent_id))
    (text,) = rig.family.kept.values()
    assert len(text) < 9_000, "what is more than the model reads is in the child's transcript"
    heard = rig.family.heard("go")
    assert [word for text in heard for word in ("from a", "from b") if word in text] == ["from b", "from a"]


async def test_a_message_does_not_stop_the_child(rig: FamilyRig) -> None:
    rig.family.scripts = {
        "go": [start("work"), say("hm")],
        "work": [say("worked")],
        "hurry": [say("I do"), say("heard")],
    }
    rig.family.hang = "work"
    agent = await rig.start_parent()
    await post(rig, agent, "go", "m1", "queue")
    await asleep(rig, agent)
    await post(rig, agent, "hurry", "m2", "steer")
    assert (await rig.answer(agent, "m1")).text == "I do"
    assert rig.family.told("hurry", 0)["ended_by"] == "message"
    child = await rig.child(agent, background=True)
    rig.family.hang = None
    await rig.child(agent, state=ChildState.DONE)
    assert (await rig.answer(agent, kin.child_workflow_id(child.agent_id))).text == "heard"


@pytest.mark.slow
async def test_that_one_child_has_ended_is_no_reason_to_leave_another(rig: FamilyRig) -> None:
    rig.family.scripts = {
        "go": [start("a", wait=False), start("b"), say("done")],
        "a": [say("from a")],
        "b": [say("from b")],
    }
    rig.family.hang = "b"
    agent = await rig.start_parent()
    ticket = await rig.send(agent, "go")
    await rig.child(agent, 1, state=ChildState.DONE)
    await rig.child(agent, 2)
    rig.family.hang = None
    assert (await rig.answer(agent, ticket.message_id)).text == "done"
    assert rig.family.told("go", 2)["answer"] == "from b"
    assert any("from a" in text for text in rig.family.heard("go"))


@pytest.mark.slow
async def test_a_child_that_waits_for_a_person_leaves_its_parent_waiting(rig: FamilyRig) -> None:
    rig.family.scripts = {"go": [start("work"), say("done")], "work": [shell("1"), say("worked")]}
    rig.family.hang = "work"
    agent = await rig.start_parent()
    ticket = await rig.send(agent, "go")
    await asleep(rig, agent)
    child = rig.client.get_workflow_handle((await rig.child(agent)).agent_id)
    # Its turn is under way and has another step: it is not over before it is paused.
    await rig.asked("work")
    await rig.order(child, "pause", "lunch")
    rig.family.hang = None
    await rig.until(child, state=AgentState.PAUSED)
    assert (await rig.status(agent)).waiting is not None
    await rig.order(child, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "done"
