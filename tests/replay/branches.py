"""Scenarios of rewinds and forks, see `record.py`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError

from hibernaut import contracts as c
from hibernaut.models import AgentState
from tests.workflows.branch_world import BranchWorld
from tests.workflows.conftest import Rig
from tests.workflows.world import say, shell

Agent = WorkflowHandle[Any, Any]


async def rewound(rig: Rig) -> Agent:
    """Rewound between turns and in the middle of one, to a step of the branch that was left; one that fails."""
    rig.world.script = [shell("1"), shell("2"), say("one"), shell("3"), say("two"), shell("4"), say("three")]
    agent = await rig.start()

    async def back(**request: object) -> None:
        await rig.order(agent, "rewind", c.RewindRequest.model_validate(request))
        await rig.until(agent, rewinding=None)

    await rig.ask(agent, "go")
    await back(step=0)
    await rig.ask(agent, "another way")
    await back(step=2, branch=0)
    rig.world.block_exec = True
    await rig.send(agent, "work")
    await rig.world.blocked.wait()
    await back(step=1, interrupt=True)
    rig.world.block_exec = False
    rig.world.script = [shell("5"), say("four")]
    await rig.ask(agent, "go on")
    rig.world.snapshot_errors = [ApplicationError("disk full", type="CaptureError", non_retryable=True)]
    await back(step=0)
    return agent


async def troubled(rig: Rig) -> Agent:
    """Rewound when its snapshot cannot be restored, when no sandbox is to be had, and without a last snapshot."""
    world = rig.world
    assert isinstance(world, BranchWorld)
    world.script = [shell("1"), shell("2"), say("one"), shell("3"), say("two"), shell("4"), say("three")]
    agent = await rig.start()

    async def back(**request: object) -> None:
        await rig.order(agent, "rewind", c.RewindRequest.model_validate(request))
        await rig.until(agent, rewinding=None)

    async def sleep() -> None:
        await rig.order(agent, "hibernate")
        await rig.until(agent, state=AgentState.HIBERNATED)

    await rig.ask(agent, "go")
    await sleep()
    world.restore_errors = [ApplicationError("it is damaged", type="SnapshotDamaged", non_retryable=True)]
    await rig.order(agent, "wake")
    await rig.until(agent, state=AgentState.PAUSED)
    await back(step=0)
    await rig.order(agent, "resume")
    await rig.ask(agent, "another way")
    await sleep()
    world.block_choose = True
    places = world.places
    await rig.order(agent, "wake")
    while world.places == places:
        await asyncio.sleep(0.05)
    await back(step=1)
    world.block_choose = False
    await rig.ask(agent, "a third way")
    world.snapshot_errors = [ApplicationError("too much", type=c.SNAPSHOT_TOO_LARGE, non_retryable=True)]
    await back(step=1)
    await back(step=1, discard=True)
    return agent


async def hurried(rig: Rig) -> Agent:
    """Rewound while hibernation waits for a sandbox that is on its way and not to be had."""
    world = rig.world
    assert isinstance(world, BranchWorld)
    world.script = [shell("1"), say("one"), shell("2")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    world.block_choose = True
    await rig.send(agent, "go on")
    await rig.until(agent, steps=3)
    await rig.order(agent, "interrupt")
    await rig.until(agent, current_message_id=None)
    await rig.order(agent, "hibernate")
    await rig.order(agent, "rewind", c.RewindRequest(step=0))
    await rig.until(agent, rewinding=None)
    world.block_choose, world.script = False, [shell("3"), say("two")]
    await rig.ask(agent, "another way")
    return agent


async def forking(rig: Rig) -> Agent:
    """The workflow that forks an agent."""
    return (await _forked(rig, "forking"))[0]


async def forked(rig: Rig) -> Agent:
    """An agent that began as a fork, from its first message to its sleep."""
    _, agent = await _forked(rig, "forked")
    rig.world.script = [shell("2"), say("two")]
    await rig.ask(agent, "what if")
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    return agent


async def _forked(rig: Rig, new_id: str) -> tuple[Agent, Agent]:
    rig.world.script = [shell("1"), say("one")]
    source = await rig.start()
    await rig.ask(source, "go")
    standpoint = await rig.query(source, "standpoint", result_type=c.Standpoint)
    request = c.ForkRequest(source=standpoint, new_id=new_id, step=0)
    fork = await rig.client.start_workflow(c.FORK_WORKFLOW, request, id=f"fork:{new_id}", task_queue=c.TASK_QUEUE)
    await fork.result()
    return fork, rig.client.get_workflow_handle(new_id)


BRANCHING: tuple[Callable[[Rig], Awaitable[Agent]], ...] = (rewound, troubled, hurried, forking, forked)
