"""Checkpoints and rewinds of the real AgentWorkflow over a scripted world."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from activities.checkpoints import Checkpoints
from activities.snapshots.layout import manifest_key
from hibernaut import contracts as c
from hibernaut.models import AgentState, AnswerState, EventKind, EventsPage
from tests.workflows.branch_rig import BranchRig, branch_rig
from tests.workflows.branch_world import pruned
from tests.workflows.world import say, shell


@pytest.fixture
async def rig(skipping: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[BranchRig]:
    async with branch_rig(skipping, tmp_path) as rig:
        yield rig


async def test_each_step_has_the_snapshot_of_its_own_calls(rig: BranchRig) -> None:
    rig.branches.script = [shell("1"), shell("2"), say("one"), shell("3"), say("two")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.ask(agent, "go on")
    assert await rig.points(agent) == {"0:0": 1, "0:1": 2, "0:2": 2, "0:3": 3, "0:4": 3}
    newest = (await rig.standpoint(agent)).newest
    assert newest is not None
    assert (newest.name, newest.turn, newest.summary) == ("0:4", 2, "two")


async def test_a_snapshot_that_ends_after_the_next_reply_is_still_the_earlier_steps(rig: BranchRig) -> None:
    world = rig.branches
    world.slow[1] = asyncio.Event()
    world.script = [shell("1"), shell("2"), say("one")]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await rig.until(agent, steps=2)
    assert (await rig.standpoint(agent)).newest is None, "nothing is durable"
    assert await rig.points(agent) == {}
    world.slow[1].set()
    await rig.answer(agent, ticket.message_id)
    page = await rig.query(agent, "events", 0, result_type=EventsPage)
    order = [event.kind for event in page.events if event.kind in {EventKind.REPLY, EventKind.SNAPSHOT}]
    assert order[:3] == [EventKind.REPLY, EventKind.REPLY, EventKind.SNAPSHOT], "the case is there at all"
    assert await rig.points(agent) == {"0:0": 1, "0:1": 2, "0:2": 2}


async def test_a_step_that_changed_nothing_has_the_snapshot_before_it(rig: BranchRig) -> None:
    rig.branches.script = [shell("1"), shell("ls"), shell("3"), say("one")]
    rig.branches.unchanged = {2}
    agent = await rig.start()
    await rig.ask(agent, "go")
    assert await rig.points(agent) == {"0:0": 1, "0:1": 1, "0:2": 3, "0:3": 3}


async def test_a_rewind_goes_on_from_the_step_on_a_branch_of_its_own(rig: BranchRig) -> None:
    world = rig.branches
    world.script = [shell("1"), shell("2"), say("one"), shell("3"), say("two")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    before = await rig.status(agent)
    status = await rig.rewind(agent, 0)
    assert (status.branch, status.steps, status.rewind_failure) == (1, 1, "")
    assert status.state is AgentState.HIBERNATED
    assert status.snapshot is not None
    assert status.snapshot.number == 1
    assert world.snapshots[-1].thorough, "the branch that is left keeps its end"
    assert [request.lease.generation for request in world.destroyed] == [1]
    await rig.ask(agent, "another way")
    request = world.requests[-2]
    uid = before.agent_uid
    assert (request.branch, request.step, request.ordinal) == (1, 1, 0)
    assert request.transcript_ref == c.StoreKeys.segment(uid, 1, 0, 0)
    assert [item.kind for item in request.new_items] == ["note", "user"]
    assert [one.ref for one in world.restored] == [manifest_key(uid, 1)]
    assert world.execs[-1].exec_prefix == "b1-s1-c0"
    taken = world.snapshots[-1]
    assert (taken.number, taken.parent) == (4, manifest_key(uid, 1)), "numbers go on, built on the one gone back to"
    assert await rig.points(agent) == {"0:0": 1, "0:1": 2, "0:2": 3, "1:0": 1, "1:1": 4, "1:2": 4}


@pytest.mark.slow
async def test_a_rewind_to_the_end_of_the_branch_that_was_left(rig: BranchRig) -> None:
    world = rig.branches
    world.script = [shell("1"), say("one"), shell("2"), say("two"), say("back")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.rewind(agent, 0)
    await rig.ask(agent, "another way")
    status = await rig.rewind(agent, 1, branch=0)
    assert (status.branch, status.steps) == (2, 2)
    assert status.snapshot is not None
    assert status.snapshot.number == 2, "with what the last snapshot before the first rewind found"
    assert world.rewinds[-1].found.checkpoint.name == "0:1"
    await rig.ask(agent, "go on")
    assert (world.requests[-1].branch, world.requests[-1].step) == (2, 2)


async def test_in_the_middle_of_a_turn_a_rewind_is_refused_or_interrupts(rig: BranchRig) -> None:
    world = rig.branches
    world.script = [shell("1"), say("one"), shell("sleep"), say("two")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    world.block_exec = True
    ticket = await rig.send(agent, "work")
    await world.blocked.wait()
    error = await rig.refusal(agent, c.RewindRequest(step=0))
    assert error.type == "TurnUnderWay"
    assert "middle of a turn" in error.message
    status = await rig.rewind(agent, 0, interrupt=True)
    assert (status.branch, status.steps) == (1, 1)
    assert (await rig.answer(agent, ticket.message_id)).state is AnswerState.INTERRUPTED
    assert await rig.points(agent) == {"0:0": 1, "0:1": 1, "0:2": 3, "1:0": 1}


async def test_a_message_that_waits_is_taken_up_on_the_new_branch(rig: BranchRig) -> None:
    rig.branches.script = [shell("1"), say("one"), say("two")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.order(agent, "pause")
    ticket = await rig.send(agent, "later")
    status = await rig.rewind(agent, 0)
    assert status.state is AgentState.PAUSED
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "two"
    assert rig.branches.requests[-1].branch == 1


async def test_a_last_snapshot_that_fails_leaves_the_agent_where_it_was(rig: BranchRig) -> None:
    world = rig.branches
    world.script = [shell("1"), say("one"), shell("2"), say("two")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    world.snapshot_errors = [ApplicationError("disk full", type="CaptureError", non_retryable=True)]
    status = await rig.rewind(agent, 0)
    assert "disk full" in status.rewind_failure
    assert (status.branch, status.steps) == (0, 2)
    assert status.lease is not None
    assert not world.destroyed
    await rig.ask(agent, "go on")
    assert world.requests[-1].branch == 0


async def test_a_snapshot_pruned_at_the_last_moment_leaves_the_agent_where_it_was(rig: BranchRig) -> None:
    world = rig.branches
    world.script = [shell("1"), say("one"), shell("2"), say("two")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    world.rewind_error = pruned()
    status = await rig.rewind(agent, 0)
    assert "pruned" in status.rewind_failure
    assert (status.branch, status.steps, status.lease) == (0, 2, None)
    await rig.ask(agent, "go on")
    newest = world.snapshots[1]
    assert world.restored[-1].ref == manifest_key(newest.agent_uid, newest.number), "its newest files"
    assert (await rig.status(agent)).branch == 0


async def test_a_step_without_its_snapshot_is_listed_and_refused(rig: BranchRig) -> None:
    rig.branches.script = [shell("1"), shell("2"), shell("3"), say("one")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    uid = (await rig.status(agent)).agent_uid
    await rig.branches.store.delete([manifest_key(uid, 2)])
    found = await Checkpoints(rig.branches.store).all(await rig.standpoint(agent))
    assert {point.name: point.kept for point in found} == {"0:0": True, "0:1": False, "0:2": True, "0:3": True}
    gone = await rig.refusal(agent, c.RewindRequest(step=1))
    assert gone.type == "CheckpointGone"
    assert "snapshot 2" in gone.message
    assert "0:0" in gone.message
    none = await rig.refusal(agent, c.RewindRequest(step=9))
    assert none.type == "CheckpointNotFound"
    assert "0:3" in none.message
    assert (await rig.status(agent)).branch == 0


async def test_checkpoints_outlast_continue_as_new_and_the_tail(rig: BranchRig) -> None:
    world = rig.branches
    agent = await rig.start()
    for number in range(25):
        world.script = [shell(str(number)), say("done")]
        await rig.ask(agent, "go")
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    points = await rig.points(agent)
    assert list(points) == [f"0:{step}" for step in range(50)]
    assert points["0:0"] == 1
    status = await rig.rewind(agent, 0)
    assert status.snapshot is not None
    assert (status.branch, status.steps, status.snapshot.number) == (1, 1, 1)


async def test_a_file_put_while_a_branch_begins_is_the_old_branchs(rig: BranchRig) -> None:
    """The container that the file is put into holds the branch that is left: the new one never sees it."""
    world = rig.branches
    world.script = [shell("1"), shell("2"), say("one"), shell("3"), say("two")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    world.hold_rewind = asyncio.Event()
    await rig.order(agent, "rewind", c.RewindRequest(step=0))
    while not world.rewinds:
        await asyncio.sleep(0.02)
    handle = rig.client.get_workflow_handle(agent.id)
    await handle.execute_update("put_file", c.PutFile(upload_ref="up", path="/x"), result_type=c.PutFileResult)
    assert (await rig.status(agent)).generation == 3, "the rewind is a generation of its own"
    world.hold_rewind.set()
    status = await rig.until(agent, rewinding=None)
    assert (status.branch, status.lease) == (1, None)
    assert status.snapshot is not None
    assert status.snapshot.number == 1
    assert [request.lease.generation for request in world.destroyed] == [1, 3]
    await rig.ask(agent, "another way")
    uid = status.agent_uid
    assert [one.ref for one in world.restored] == [manifest_key(uid, 3), manifest_key(uid, 1)]
    assert world.snapshots[-1].parent == manifest_key(uid, 1)
    assert (world.restored[-1].branch_first, world.restored[-1].branch_base) == (6, manifest_key(uid, 1))


async def test_a_second_order_while_the_first_is_carried_out_is_carried_out_too(rig: BranchRig) -> None:
    world = rig.branches
    world.script = [shell("1"), shell("2"), say("one")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    world.hold_rewind = asyncio.Event()
    await rig.order(agent, "rewind", c.RewindRequest(step=0))
    while not world.rewinds:
        await asyncio.sleep(0.02)
    await rig.order(agent, "rewind", c.RewindRequest(step=1))
    world.hold_rewind.set()
    status = await rig.until(agent, rewinding=None)
    assert (status.branch, status.steps) == (2, 2)
