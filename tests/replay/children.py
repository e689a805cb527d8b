"""Scenarios of child agents, see `record.py`."""

from collections.abc import Awaitable, Callable
from typing import Any

from temporalio.client import WorkflowHandle

from hibernaut.contracts import children as kin
from hibernaut.models import AgentState, ChildState
from tests.workflows.child_rig import FamilyRig, start
from tests.workflows.conftest import Rig
from tests.workflows.tool_calls import asleep, post
from tests.workflows.world import say, shell

Agent = WorkflowHandle[Any, Any]


async def parental(rig: Rig) -> Agent:
    """A child waited for in sleep, a copy, one left for a message, one interrupted, one closed with its parent."""
    family = FamilyRig(rig.environment, rig.world)
    one = say("done")
    family.family.scripts = {
        "go": [shell("1"), start("slow"), start("quick", computer="copy"), one],
        "leave": [start("slow"), start("quick", wait=False)],
        "hurry": [one, one, one, one],
        "stop": [start("slow"), one],
        "end": [start("slow", wait=False), one],
        "slow": [one, one],
        "quick": [one, one],
    }
    family.family.hang = "slow"
    agent = await family.start_parent(idle_timeout=1)
    await post(family, agent, "go", "m1", "queue")
    await family.child(agent)
    await family.until(agent, state=AgentState.HIBERNATED, lease=None)
    family.family.hang = None
    await family.answer(agent, "m1")
    family.family.hang = "slow"
    await post(family, agent, "leave", "m2", "queue")
    await asleep(family, agent)
    await post(family, agent, "hurry", "m3", "steer")
    await family.answer(agent, "m3")
    family.family.hang = None
    child = await family.child(agent, 3, state=ChildState.DONE)
    await family.answer(agent, kin.child_workflow_id(child.agent_id))
    family.family.hang = "slow"
    await post(family, agent, "stop", "m4", "queue")
    await asleep(family, agent)
    await family.order(agent, "interrupt")
    await family.child(agent, 4, state=ChildState.INTERRUPTED)
    await post(family, agent, "end", "m5", "queue")
    await family.answer(agent, "m5")
    await family.order(agent, "close")
    await family.client.get_workflow_handle(agent.id).result()
    return agent


async def child_new(rig: Rig) -> Agent:
    """The workflow of a child with a computer of its own."""
    return await _child(FamilyRig(rig.environment, rig.world), computer="new")


async def child_copy(rig: Rig) -> Agent:
    """The workflow of a child that is a copy."""
    return await _child(FamilyRig(rig.environment, rig.world), computer="copy")


async def child_stopped(rig: Rig) -> Agent:
    """The workflow of a child that is stopped."""
    family = FamilyRig(rig.environment, rig.world)
    family.family.scripts = {"go": [start("slow")], "slow": []}
    family.family.hang = "slow"
    agent = await family.start_parent()
    await family.send(agent, "go")
    child = await family.child(agent)
    await family.until(family.client.get_workflow_handle(child.agent_id), steps=0, turn=1)
    await family.order(agent, "interrupt")
    await family.child(agent, state=ChildState.INTERRUPTED)
    return family.client.get_workflow_handle(kin.child_workflow_id(child.agent_id))


async def child_left(rig: Rig) -> Agent:
    """The workflow that closes a child whose first one was terminated."""
    family = FamilyRig(rig.environment, rig.world)
    family.family.scripts = {"go": [start("slow")], "slow": []}
    family.family.hang = "slow"
    agent = await family.start_parent()
    await family.send(agent, "go")
    child = await family.child(agent)
    await family.asked("slow")
    await family.client.get_workflow_handle(kin.child_workflow_id(child.agent_id)).terminate("somebody was tidy")
    await family.order(agent, "interrupt")
    await family.child(agent, state=ChildState.INTERRUPTED)
    return family.client.get_workflow_handle(kin.child_workflow_id(child.agent_id))


async def _child(family: FamilyRig, *, computer: str) -> Agent:
    family.family.scripts = {"go": [shell("1"), start("work", computer=computer), say("done")], "work": [say("7")]}
    agent = await family.start_parent()
    await family.ask(agent, "go")
    child = await family.child(agent)
    return family.client.get_workflow_handle(kin.child_workflow_id(child.agent_id))


PARENTAL: tuple[Callable[[Rig], Awaitable[Agent]], ...] = (
    parental,
    child_new,
    child_copy,
    child_stopped,
    child_left,
)
