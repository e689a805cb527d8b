"""Child agents over a scripted world: stopped, counted, limited."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from hibernaut.contracts import children as kin, limits
from hibernaut.models import AgentState, AnswerState, ChildState
from tests.workflows.child_rig import FamilyRig, family_rig, start
from tests.workflows.tool_calls import asleep
from tests.workflows.world import say, shell
from workers.runs import RunEraser


@pytest.fixture
async def rig(server: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[FamilyRig]:
    async with family_rig(server, tmp_path) as rig:
        yield rig


async def test_an_interrupt_stops_the_child(rig: FamilyRig) -> None:
    rig.family.scripts = {"go": [start("work"), say("no")], "work": [say("no")]}
    rig.family.hang = "work"
    agent = await rig.start_parent()
    ticket = await rig.send(agent, "go")
    await asleep(rig, agent)
    await rig.order(agent, "interrupt")
    assert (await rig.answer(agent, ticket.message_id)).state is AnswerState.INTERRUPTED
    child = await rig.child(agent, state=ChildState.INTERRUPTED)
    assert (await rig.status_of(child.agent_id)).state is AgentState.CLOSED


async def test_an_agent_that_closes_closes_its_children(rig: FamilyRig) -> None:
    rig.family.scripts = {"go": [start("work", wait=False), say("begun")], "work": [say("no")]}
    rig.family.hang = "work"
    agent = await rig.start_parent()
    await rig.ask(agent, "go")
    child = await rig.child(agent)
    await rig.order(agent, "close")
    await agent.result()
    report = await rig.client.get_workflow_handle(kin.child_workflow_id(child.agent_id)).result()
    assert report["state"] == "interrupted"
    assert (await rig.status_of(child.agent_id)).state is AgentState.CLOSED


@pytest.mark.slow
async def test_a_child_has_so_much_time_and_no_more(rig: FamilyRig) -> None:
    rig.family.scripts = {"go": [start("work", timeout_seconds=1), say("too late")], "work": [say("no")]}
    rig.family.hang = "work"
    agent = await rig.start_parent()
    ticket = await rig.send(agent, "go")
    await asleep(rig, agent)
    child = await rig.child(agent)
    assert (child.until - child.started_at).total_seconds() == 1
    assert (await rig.answer(agent, ticket.message_id)).text == "too late"
    assert rig.family.told("go", 1)["state"] == "timed_out"
    await rig.child(agent, state=ChildState.TIMED_OUT)
    assert (await rig.status_of(child.agent_id)).state is AgentState.CLOSED


async def test_what_a_child_used_is_counted_once(rig: FamilyRig) -> None:
    rig.family.scripts = {"go": [start("count"), say("done")], "count": [shell("ls"), say("7")], "on": [say("no")]}
    agent = await rig.start_parent(budget={"life": {"tokens": 45}})
    await rig.ask(agent, "go")
    child, status = await rig.child(agent), await rig.status(agent)
    assert (await rig.spent(agent)).spent.life.tokens == 45
    assert status.usage.tokens == 15, "its own"
    limit = (await rig.status_of(child.agent_id)).spec.budget.life
    assert limit.tokens == 45, "nothing was spent when it began, for the call's own reply had no price"
    report = kin.ChildReport(
        parent_uid=status.agent_uid,
        agent_id=child.agent_id,
        state=ChildState.DONE,
        spent={"tokens": 1_000},  # pyright: ignore[reportArgumentType]  # JSON
    )
    handle = rig.client.get_workflow_handle(agent.id)
    await handle.signal(kin.CHILD_ENDED, report)
    await handle.signal(kin.CHILD_ENDED, report.model_copy(update={"agent_id": "somebody-1-else"}))
    assert (await rig.spent(agent)).spent.life.tokens == 45
    await rig.send(agent, "on")
    await rig.until(agent, state=AgentState.PAUSED)


@pytest.mark.slow
async def test_so_many_at_once_and_in_all(rig: FamilyRig) -> None:
    begin = [start("work", wait=False)] * 3
    rig.family.scripts = {"go": [*begin, say("begun")], "work": [say("1"), say("2")], "more": [*begin, say("enough")]}
    rig.family.hang = "work"
    agent = await rig.start_parent(children={"most": 2, "total": 3})
    await rig.ask(agent, "go")
    assert "children.most" in rig.family.refused("go", 3)
    rig.family.scripts["go"] = [say("heard")] * 3
    rig.family.scripts["work"] += [say("3")]
    rig.family.hang = None
    for number in (1, 2):
        await rig.child(agent, number, state=ChildState.DONE)
    await rig.ask(agent, "more")
    errors = [rig.family.refused("more", number) for number in (1, 2, 3)]
    assert errors[0] == ""
    assert all("children.total" in error for error in errors[1:])


@pytest.mark.slow
async def test_a_grandchild_is_as_deep_as_the_spec_allows(rig: FamilyRig) -> None:
    rig.family.scripts = {
        "go": [start("manage"), say("done")],
        "manage": [start("work"), say("managed")],
        "work": [say("worked")],
    }
    agent = await rig.start_parent(children={"depth": 2})
    await rig.ask(agent, "go")
    assert rig.family.told("go", 1)["answer"] == "managed"
    manager = await rig.child(agent)
    assert manager.tokens == 30, "its own reply and its child's"
    theirs = await rig.status_of(manager.agent_id)
    assert (theirs.spec.children.depth, "start_agent" in theirs.spec.tools) == (1, True)
    (worker,) = theirs.children
    assert "start_agent" not in (await rig.status_of(worker.agent_id)).spec.tools


@pytest.mark.slow
async def test_a_child_that_somebody_closes_is_told_as_interrupted(rig: FamilyRig) -> None:
    rig.family.scripts = {"go": [start("work"), say("I see")], "work": [say("no")]}
    rig.family.hang = "work"
    agent = await rig.start_parent()
    ticket = await rig.send(agent, "go")
    await asleep(rig, agent)
    child = await rig.child(agent)
    await rig.until(rig.client.get_workflow_handle(child.agent_id), state=AgentState.RUNNING)
    await rig.order(rig.client.get_workflow_handle(child.agent_id), "close")
    assert (await rig.answer(agent, ticket.message_id)).text == "I see"
    assert rig.family.told("go", 1)["state"] == "interrupted"


@pytest.mark.slow
async def test_a_child_whose_workflow_is_gone_does_not_count_for_ever(
    rig: FamilyRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CHILD_OVERDUE_S", 0.0)
    rig.family.scripts = {
        "go": [start("a", wait=False, timeout_seconds=1), say("begun")],
        "on": [start("b", wait=False), say("on")],
        "a": [],
        "b": [say("b")],
    }
    rig.family.hang = "a"
    agent = await rig.start_parent(children={"most": 1})
    await rig.ask(agent, "go")
    child = await rig.child(agent)

    await rig.asked("a")
    await rig.client.get_workflow_handle(kin.child_workflow_id(child.agent_id)).terminate("somebody was tidy")
    while datetime.now(UTC) <= child.until:
        await asyncio.sleep(0.05)
    await rig.ask(agent, "on")
    assert rig.family.told("on", 1)["state"] == "running"
    await rig.child(agent, 1, state=ChildState.INTERRUPTED)
    assert (await rig.status_of(child.agent_id)).state is AgentState.CLOSED


async def test_a_child_whose_workflow_is_gone_is_not_waited_for(rig: FamilyRig) -> None:
    rig.family.scripts = {"go": [start("a"), say("no")], "a": [shell("1"), say("no")], "on": [say("on")]}
    agent = await rig.start_parent()
    rig.family.pause_after = "a"
    ticket = await rig.send(agent, "go")
    child = await rig.child(agent)
    await rig.asked("a", times=2)
    await rig.client.get_workflow_handle(kin.child_workflow_id(child.agent_id)).terminate("somebody was tidy")
    await rig.order(agent, "interrupt")
    assert (await rig.answer(agent, ticket.message_id)).state is AnswerState.INTERRUPTED
    ended = await rig.child(agent, state=ChildState.INTERRUPTED)
    assert ended.tokens >= 15, "what it spent is counted all the same"
    assert (await rig.status_of(child.agent_id)).state is AgentState.CLOSED
    await rig.ask(agent, "on")
    assert "waited for the agent" in rig.family.refused("on", 0)


async def test_a_parent_hears_of_a_child_that_is_deleted(rig: FamilyRig) -> None:
    rig.family.scripts = {"go": [start("a"), say("I see")], "a": [say("no")]}
    rig.family.hang = "a"
    agent = await rig.start_parent()
    ticket = await rig.send(agent, "go")
    await asleep(rig, agent)
    child = await rig.child(agent)
    # The server takes its time to delete what has just ended: nobody has to wait for that here.
    forgetting = asyncio.create_task(RunEraser(rig.client).forget(child.agent_id))
    assert (await rig.answer(agent, ticket.message_id)).text == "I see"
    forgetting.cancel()
    assert rig.family.told("go", 1)["state"] == "interrupted"


@pytest.mark.slow
async def test_a_child_whose_workflow_is_cancelled_is_stopped(rig: FamilyRig) -> None:
    rig.family.scripts = {"go": [start("work"), say("I see")], "work": [say("no")]}
    rig.family.hang = "work"
    agent = await rig.start_parent()
    ticket = await rig.send(agent, "go")
    child = await rig.child(agent)
    await rig.asked("work")
    await rig.client.get_workflow_handle(kin.child_workflow_id(child.agent_id)).cancel()
    assert (await rig.answer(agent, ticket.message_id)).text == "I see"
    assert rig.family.told("go", 1)["state"] == "interrupted"
    assert (await rig.status_of(child.agent_id)).state is AgentState.CLOSED
