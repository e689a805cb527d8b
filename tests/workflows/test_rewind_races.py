"""Rewinds beside something else: a file that is put, a removal without end, a run that is full, an older build."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.testing import WorkflowEnvironment

from hibernaut import contracts as c
from hibernaut.contracts import limits
from hibernaut.models import AgentState, Checkpoint
from tests.workflows.branch_rig import Agent, BranchRig, branch_rig
from tests.workflows.branch_world import pruned
from tests.workflows.world import say, shell
from workflows.record import AgentRecord


@pytest.fixture
async def rig(skipping: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[BranchRig]:
    async with branch_rig(skipping, tmp_path) as rig:
        yield rig


async def awake(rig: BranchRig, *script: c.ModelReply) -> Agent:
    """An agent that has run two commands and holds its sandbox."""
    rig.branches.script = [shell("1"), shell("2"), say("one"), *script]
    agent = await rig.start()
    await rig.ask(agent, "go")
    return agent


async def put(rig: BranchRig, agent: Agent) -> c.PutFileResult:
    handle = rig.client.get_workflow_handle(agent.id)
    return await handle.execute_update("put_file", c.PutFile(upload_ref="up", path="/x"), result_type=c.PutFileResult)


async def test_a_file_that_is_put_while_the_container_is_removed_does_not_undo_the_rewind(rig: BranchRig) -> None:
    world = rig.branches
    agent = await awake(rig, shell("3"), say("two"))
    world.hold_destroy = asyncio.Event()
    ordered = asyncio.create_task(rig.rewind(agent, 0))
    while not world.destroyed:
        await asyncio.sleep(0.02)
    # The next sandbox is there before the rewind has a generation of its own.
    assert (await put(rig, agent)).path == "/x"
    world.hold_destroy.set()
    status = await ordered
    assert (status.branch, status.rewind_failure, status.lease) == (1, "", None)
    assert (await rig.ask(agent, "another way")).text == "two"
    status = await rig.status(agent)
    assert status.lease is not None
    assert status.lease.generation == status.generation


@pytest.mark.slow
async def test_a_file_on_its_way_into_a_container_that_is_given_up_is_waited_for(rig: BranchRig) -> None:
    world = rig.branches
    agent = await awake(rig)
    world.hold_put = asyncio.Event()
    writing = asyncio.create_task(put(rig, agent))
    while not world.puts:
        await asyncio.sleep(0.02)
    ordered = asyncio.create_task(rig.rewind(agent, 0, discard=True))
    while not world.destroyed:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)
    assert len(world.rewinds) <= 1, "the branch is not begun again and again"
    world.hold_put.set()
    world.hold_put = None
    status = await ordered
    assert (status.branch, status.rewind_failure, status.lease) == (1, "", None)
    await asyncio.gather(writing, return_exceptions=True)


@pytest.mark.slow
async def test_what_was_discarded_for_a_rewind_that_failed_is_told(rig: BranchRig) -> None:
    world = rig.branches
    agent = await awake(rig, shell("make"), say("made"))
    world.snapshot_errors = [pruned()] * 9
    await rig.send(agent, "make it")
    await rig.until(agent, state=AgentState.PAUSED)
    world.snapshot_errors, world.rewind_error = [], pruned()
    status = await rig.rewind(agent, 0, interrupt=True, discard=True)
    assert (status.branch, status.lease) == (0, None)
    assert "pruned" in status.rewind_failure
    await rig.order(agent, "resume")
    world.script = [say("I see"), say("I see")]
    await rig.ask(agent, "well?")
    notes = [item for item in world.requests[-1].new_items if isinstance(item, c.Note)]
    reports = [note.report for note in notes if note.report is not None]
    assert [report.lost_commands for report in reports] == [("make",)]
    assert not any("as you left them" in note.text for note in notes)


async def test_a_container_that_cannot_be_removed_does_not_keep_the_agent(rig: BranchRig) -> None:
    world = rig.branches
    agent = await awake(rig)
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    world.hold_restore = world.removal_fails = True
    await rig.order(agent, "wake")
    while not world.restored:
        await asyncio.sleep(0.02)
    world.destroyed.clear()
    await rig.order(agent, "rewind", c.RewindRequest(step=0))
    while not world.destroyed:
        await asyncio.sleep(0.02)
    await rig.skip(minutes=6)
    status = await rig.until(agent, rewinding=None)
    assert (status.branch, status.rewind_failure, status.lease) == (1, "", None)


@pytest.mark.slow
async def test_a_run_that_is_full_does_not_wait_for_a_sandbox_first(
    rig: BranchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = rig.branches
    agent = await awake(rig, shell("3"))
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    world.block_choose = True
    await rig.send(agent, "go on")
    await rig.until(agent, steps=4)
    monkeypatch.setattr(limits, "RUN_EVENTS", 15)
    status = await rig.rewind(agent, 0, interrupt=True)
    assert (status.branch, status.rewind_failure) == (1, "")


async def out_of_room(rig: BranchRig) -> Agent:
    """An agent whose turn was interrupted while it waited for a sandbox; no host has room for it."""
    agent = await awake(rig, shell("3"))
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    rig.branches.block_choose = True
    await rig.send(agent, "go on")
    await rig.until(agent, steps=4)
    await rig.order(agent, "interrupt")
    await rig.until(agent, current_message_id=None)
    return agent


async def test_hibernation_does_not_wait_for_a_sandbox_when_the_agent_is_to_go_back(rig: BranchRig) -> None:
    agent = await out_of_room(rig)
    await rig.order(agent, "hibernate")
    status = await rig.rewind(agent, 0)
    assert (status.branch, status.rewind_failure) == (1, "")
    assert status.state is AgentState.HIBERNATED


async def test_hibernation_does_not_wait_for_a_sandbox_when_the_agent_is_to_close(rig: BranchRig) -> None:
    agent = await out_of_room(rig)
    await rig.order(agent, "hibernate")
    await rig.order(agent, "close")
    await rig.until(agent, inbox=0)
    await rig.skip(minutes=15)
    await rig.until(agent, state=AgentState.CLOSED)


@pytest.mark.slow
async def test_the_end_of_a_full_run_does_not_wait_for_a_sandbox_either(
    rig: BranchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By the time the turn is interrupted the run has more.
    monkeypatch.setattr(limits, "RUN_EVENTS", 15)
    agent = await out_of_room(rig)
    status = await rig.rewind(agent, 0)
    assert (status.branch, status.rewind_failure) == (1, "")


@pytest.mark.parametrize("generation", [3, 4])
async def test_an_order_of_an_older_build_counts_as_no_generation(rig: BranchRig, generation: int) -> None:
    """Its histories go on with the next sandbox under the number that it had then."""
    at_once = generation > 3
    uid, now = uuid4().hex, datetime.now(UTC)
    point = Checkpoint(branch=0, step=0, turn=1, at=now, segment_ref=c.StoreKeys.segment(uid, 0, 0, 0))
    order = c.RewindOrder(branch=1, found=c.FoundCheckpoint(checkpoint=point), at_once=at_once)
    record = AgentRecord(
        uid=uid, born_at=now, step=2, generation=3, branches=1, answered=point, checkpoint=point, rewind=order
    )
    agent = await rig.client.start_workflow(
        c.AGENT_WORKFLOW, args=[{"model": "scripted"}, record], id=f"agent-{uid[:8]}", task_queue=c.TASK_QUEUE
    )
    status = await rig.until(agent, branch=1, rewinding=None)
    assert (status.generation, rig.branches.rewinds[0].generation) == (generation, generation)
