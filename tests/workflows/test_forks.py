"""Forks of the real AgentWorkflow over a scripted world."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import (
    Interceptor,
    StartChildWorkflowInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from activities.snapshots.layout import manifest_key
from hibernaut import contracts as c
from hibernaut.models import AgentState, Checkpoint
from tests.workflows.branch_rig import BranchRig, branch_rig
from tests.workflows.branch_world import pruned
from tests.workflows.world import say, shell


@pytest.fixture
async def rig(skipping: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[BranchRig]:
    async with branch_rig(skipping, tmp_path) as rig:
        yield rig


async def test_a_fork_goes_on_apart(rig: BranchRig) -> None:
    world = rig.branches
    world.script = [shell("1"), shell("2"), say("one"), shell("4"), say("forked"), say("original")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    new_id = f"new-{uuid4().hex[:6]}"
    result = await rig.fork(agent, new_id, 0)
    source = await rig.status(agent)
    assert (result.forked_from.agent_id, result.forked_from.step) == (agent.id, 0)
    assert result.agent_uid != source.agent_uid
    fork = rig.client.get_workflow_handle(new_id)
    status = await rig.until(fork, state=AgentState.HIBERNATED)
    assert status.forked_from == result.forked_from
    assert (status.branch, status.steps, status.turn, status.inbox) == (1, 1, 0, 0)
    await rig.ask(fork, "what if")
    request = world.requests[-2]
    assert (request.agent_uid, request.branch, request.step) == (result.agent_uid, 1, 1)
    assert request.transcript_ref == c.StoreKeys.segment(result.agent_uid, 1, 0, 0)
    assert [item.kind for item in request.new_items] == ["note", "user"]
    assert [one.ref for one in world.restored] == [manifest_key(result.agent_uid, 1)]
    assert (world.acquired[-1].generation, world.acquired[-1].image_id) == (2, "sha256:image")
    assert await rig.points(fork) == {"1:0": 1, "1:1": 2, "1:2": 2}
    await rig.ask(agent, "go on")
    assert (world.requests[-1].agent_uid, world.requests[-1].branch) == (source.agent_uid, 0)


async def test_a_fork_of_a_closed_agent(rig: BranchRig) -> None:
    rig.branches.script = [shell("1"), say("one")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    await rig.order(agent, "close")
    await agent.result()
    result = await rig.fork(agent, f"new-{uuid4().hex[:6]}")
    assert result.forked_from.step == 1
    files = rig.branches.forks[-1].checkpoint.snapshot
    assert files is not None
    assert files.number == 2, "the last snapshot, which was taken as it closed"


async def test_what_the_model_has_not_heard_yet_goes_with_the_newest_step(rig: BranchRig) -> None:
    world = rig.branches
    world.script = [shell("1")]
    agent = await rig.start()
    world.block_model = False
    await rig.send(agent, "go")
    await rig.until(agent, steps=1)
    # The next model call has nothing to say: the script is empty, and its failure is tried again and again.
    for _ in range(300):
        if (await rig.standpoint(agent)).newest is not None:
            break
        await asyncio.sleep(0.02)
    await rig.fork(agent, f"new-{uuid4().hex[:6]}")
    request = world.forks[-1]
    assert [item.kind for item in request.pending] == ["tool_result"]
    assert request.checkpoint.name == "0:0"


async def test_an_id_that_is_taken_leaves_nothing(rig: BranchRig) -> None:
    rig.branches.script = [shell("1"), say("one")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    with pytest.raises(WorkflowFailureError) as caught:
        await rig.fork(agent, agent.id)
    cause = caught.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == c.AGENT_EXISTS
    assert [one.agent_uid for one in rig.branches.purged] == [rig.branches.forks[-1].new_uid]


async def test_a_fork_that_fails_leaves_nothing(rig: BranchRig) -> None:
    rig.branches.script = [shell("1"), say("one")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    rig.branches.fork_error = pruned()
    with pytest.raises(WorkflowFailureError) as caught:
        await rig.fork(agent, f"new-{uuid4().hex[:6]}")
    cause = caught.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == "CheckpointGone"
    assert [one.agent_uid for one in rig.branches.purged] == [rig.branches.forks[-1].new_uid]


async def test_a_fork_of_a_conversation_that_was_too_long_is_compacted_first(rig: BranchRig) -> None:
    world = rig.branches
    near = shell("1").model_copy(update={"compact": True})
    world.script = [near, shell("2"), say("one"), say("forked")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    new_id = f"new-{uuid4().hex[:6]}"
    result = await rig.fork(agent, new_id)
    await rig.ask(rig.client.get_workflow_handle(new_id), "what if")
    last = world.compactions[-1]
    assert (last.agent_uid, last.hard) == (result.agent_uid, False)
    assert world.requests[-1].compaction_ref == c.StoreKeys.compaction(result.agent_uid, 1, last.step, 0)


async def test_whether_a_fork_is_the_one_that_is_there_is_told_by_where_its_step_lies(rig: BranchRig) -> None:
    world = rig.branches
    world.script = [shell("1"), say("one"), say("two")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    first = await rig.fork(agent, f"new-{uuid4().hex[:6]}", 0)
    assert (first.step, first.branch) == (0, 0)
    await rig.rewind(agent, 1)
    source = await rig.standpoint(agent)
    same = await rig.ask_fork(c.ForkRequest(source=source, new_id=first.agent_id, step=0, made=first))
    assert same == first, "branch 1 grew from step 0:1: its step 0 is that of branch 0"
    with pytest.raises(WorkflowFailureError) as caught:
        await rig.ask_fork(c.ForkRequest(source=source, new_id=first.agent_id, step=1, made=first))
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == c.AGENT_EXISTS
    assert len(world.forks) == 1
    assert not world.purged


class _Slowly(WorkflowOutboundInterceptor):
    """Lets it take a while until it is seen that a child has started."""

    async def start_child_workflow(
        self,
        input: StartChildWorkflowInput,  # noqa: A002  # the SDK's name for it
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        handle = await super().start_child_workflow(input)
        await workflow.sleep(5)
        return handle


class _Inbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Slowly(outbound))


class SlowStarts(Interceptor):
    """Slows the starts of children down."""

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002  # the SDK's name for it
    ) -> type[WorkflowInboundInterceptor]:
        del input
        return _Inbound


async def test_who_cancels_a_fork_too_late_finds_it_made(skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with branch_rig(skipping, tmp_path, SlowStarts()) as rig:
        world = rig.branches
        world.script = [shell("1"), say("one")]
        agent = await rig.start()
        await rig.ask(agent, "go")
        new_id = f"new-{uuid4().hex[:6]}"
        request = c.ForkRequest(source=await rig.standpoint(agent), new_id=new_id)
        handle = await rig.client.start_workflow(
            c.FORK_WORKFLOW, request, id=f"fork:{new_id}", task_queue=c.TASK_QUEUE, result_type=c.ForkResult
        )
        fork = rig.client.get_workflow_handle(new_id)
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(RPCError):
                    await fork.describe()
                    break
                await asyncio.sleep(0.02)
            await handle.cancel()
            assert (await handle.result()).agent_uid == (await rig.status(fork)).agent_uid
        assert not world.purged, "what it lives on is there"


def test_the_name_of_a_checkpoint_is_what_a_command_line_takes() -> None:
    point = Checkpoint.model_validate({"branch": 2, "step": 7, "at": "2026-01-01T00:00:00Z", "segment_ref": "x"})
    assert point.name == "2:7"


async def test_a_rewind_to_before_a_compaction_leaves_it_behind(rig: BranchRig) -> None:
    world = rig.branches
    near = shell("2").model_copy(update={"compact": True})
    world.script = [shell("1"), near, shell("3"), say("one"), say("kept"), say("dropped")]
    agent = await rig.start()
    await rig.ask(agent, "go")
    first = world.requests[-1].compaction_ref
    assert first is not None, "it stands for the steps up to 1"
    await rig.rewind(agent, 2)
    await rig.ask(agent, "this way")
    assert world.requests[-1].compaction_ref == first
    await rig.rewind(agent, 0, branch=0)
    await rig.ask(agent, "that way")
    # The worker is asked whether what is left is too long, and makes another.
    assert [request.compaction_ref for request in world.compactions] == [None, None]
    uid = world.requests[-1].agent_uid
    assert world.requests[-1].compaction_ref == c.StoreKeys.compaction(uid, 2, 1, 0)
