"""Rewinds in trouble: of an agent that cannot wake, of one that lost its sandbox, of one that takes no snapshot."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from activities.snapshots.layout import manifest_key
from hibernaut import contracts as c
from hibernaut.models import AgentState, EventKind, EventsPage
from tests.workflows.branch_rig import Agent, BranchRig, branch_rig
from tests.workflows.world import gone, say, shell


@pytest.fixture
async def rig(skipping: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[BranchRig]:
    async with branch_rig(skipping, tmp_path) as rig:
        yield rig


def damaged() -> ApplicationError:
    return ApplicationError("pack 7 is damaged", type="SnapshotDamaged", non_retryable=True)


def too_large() -> ApplicationError:
    return ApplicationError("The files have 3.0 GB", type=c.SNAPSHOT_TOO_LARGE, non_retryable=True)


async def asleep(rig: BranchRig, *script: c.ModelReply) -> Agent:
    """An agent that has run two commands and sleeps."""
    rig.branches.script = [shell("1"), shell("2"), say("one"), *script]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    return agent


async def told(rig: BranchRig, agent: Agent) -> str:
    """How the newest rewind was told."""
    page = await rig.query(agent, "events", 0, result_type=EventsPage)
    return [event.summary for event in page.events if event.kind is EventKind.REWOUND][-1]


async def test_an_agent_that_cannot_be_woken_goes_back_to_where_it_can(rig: BranchRig) -> None:
    world = rig.branches
    agent = await asleep(rig, shell("3"), say("two"))
    world.restore_errors = [damaged()]
    await rig.order(agent, "wake")
    await rig.until(agent, state=AgentState.PAUSED)
    status = await rig.rewind(agent, 0)
    assert (status.branch, status.rewind_failure, status.lease) == (1, "", None)
    assert status.state is AgentState.PAUSED
    await rig.order(agent, "resume")
    assert (await rig.ask(agent, "another way")).text == "two"
    assert world.restored[-1].ref == manifest_key(status.agent_uid, 1)


async def test_a_sandbox_that_is_not_to_be_had_is_not_waited_for(rig: BranchRig) -> None:
    world = rig.branches
    agent = await asleep(rig)
    world.block_choose = True
    await rig.order(agent, "wake")
    while world.places < 2:
        await asyncio.sleep(0.02)
    status = await rig.rewind(agent, 0)
    assert (status.branch, status.rewind_failure) == (1, "")
    assert status.state is AgentState.HIBERNATED
    world.block_choose = False
    world.script = [say("two")]
    assert (await rig.ask(agent, "another way")).text == "two"


async def test_a_turn_that_waits_for_a_sandbox_is_ended_and_gone_back_from(rig: BranchRig) -> None:
    world = rig.branches
    agent = await asleep(rig, shell("3"))
    world.block_choose = True
    await rig.send(agent, "go on")
    await rig.until(agent, steps=4)
    status = await rig.rewind(agent, 0, interrupt=True)
    assert (status.branch, status.rewind_failure) == (1, "")


async def test_what_was_lost_with_its_sandbox_is_no_place_to_go_back_to(rig: BranchRig) -> None:
    world = rig.branches
    world.script = [shell("1"), say("one"), shell("make install"), say("installed")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    world.snapshot_errors = [gone()]
    world.block_choose = True
    await rig.send(agent, "install it")
    # Its snapshot finds it gone, and no other is to be had.
    await rig.until(agent, recovering=True)
    await rig.rewind(agent, 0, interrupt=True)
    assert await rig.points(agent) == {"0:0": 1, "0:1": 1, "1:0": 1}
    assert "what branch 0 did after step 1 was lost" in await told(rig, agent)
    lost = await rig.refusal(agent, c.RewindRequest(step=2, branch=0))
    assert lost.type == "CheckpointNotFound"


async def test_an_agent_of_which_no_snapshot_can_be_taken_goes_back_without(rig: BranchRig) -> None:
    world = rig.branches
    world.script = [shell("1"), say("one"), shell("fill"), say("so what"), say("still")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    world.snapshot_errors = [too_large()] * 9
    await rig.send(agent, "fill it")
    await rig.until(agent, state=AgentState.PAUSED)
    kept = await rig.rewind(agent, 0, interrupt=True)
    assert "3.0 GB" in kept.rewind_failure
    assert kept.rewinds == {1: kept.rewind_failure}
    taken = len(world.snapshots)
    status = await rig.rewind(agent, 0, discard=True)
    assert (status.branch, status.rewind_failure, status.lease) == (2, "", None)
    assert status.rewinds == {1: kept.rewind_failure, 2: ""}
    assert len(world.snapshots) <= taken + 1, "that of the failed rewind at most"
    assert await rig.points(agent) == {"0:0": 1, "0:1": 1, "2:0": 1}
    assert "what branch 0 did after step 1 was not kept, as asked" in await told(rig, agent)
    world.snapshot_errors = []
    await rig.order(agent, "resume")
    world.script = [shell("3"), say("three")]
    await rig.ask(agent, "another way")
    note = world.requests[-2].new_items[0]
    assert isinstance(note, c.Note)
    assert "is not kept anywhere" in note.text
    assert world.restored[-1].ref == manifest_key(status.agent_uid, 1)


async def test_a_snapshot_that_is_under_way_is_not_taken_for_one_of_the_new_branch(rig: BranchRig) -> None:
    world = rig.branches
    world.script = [shell("1"), shell("2"), say("one")]
    world.slow[2] = asyncio.Event()
    agent = await rig.start()
    await rig.send(agent, "go")
    await rig.until(agent, steps=3)
    ordered = asyncio.create_task(rig.rewind(agent, 0, interrupt=True, discard=True))
    while not world.destroyed:
        await asyncio.sleep(0.02)
    world.slow[2].set()
    status = await ordered
    assert status.snapshot is not None
    assert (status.branch, status.snapshot.number) == (1, 1)


async def test_each_of_two_orders_is_told_what_became_of_it(rig: BranchRig) -> None:
    world = rig.branches
    agent = await asleep(rig)
    world.hold_rewind = asyncio.Event()
    await rig.order(agent, "rewind", c.RewindRequest(step=0))
    while not world.rewinds:
        await asyncio.sleep(0.02)
    await rig.order(agent, "rewind", c.RewindRequest(step=1))
    await rig.order(agent, "rewind", c.RewindRequest(step=2))
    world.hold_rewind.set()
    status = await rig.until(agent, rewinding=None)
    assert (status.branch, status.steps) == (3, 3)
    assert status.rewinds == {1: "", 2: "another rewind was asked for before this one began", 3: ""}
