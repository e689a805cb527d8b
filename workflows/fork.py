"""ForkAgentWorkflow: another agent goes on from a step of one; it is done to the end whoever goes away."""

import asyncio

from pydantic import JsonValue
from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import ActivityError, ApplicationError, WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

from hibernaut import contracts
from hibernaut.models import AgentState, Checkpoint, Event, EventKind, Origin
from workflows import options
from workflows.checkpoints import files_of
from workflows.children import memo, told
from workflows.context import MODEL, STATE
from workflows.failures import code_of, reason_of
from workflows.record import AgentRecord
from workflows.window import CompactionState

SUMMARY = 200
"""Temporal's limit of a static summary, in bytes; ids are ASCII."""
GENERATION = 1
"""The new agent's first sandbox is the next: this one wrote its first snapshot."""


@workflow.defn(name=contracts.FORK_WORKFLOW)
class ForkAgentWorkflow:
    """Finds the step, writes what the new agent begins with, starts it."""

    @workflow.run
    async def run(self, request: contracts.ForkRequest) -> contracts.ForkResult:
        """Fork.

        Raises:
            ApplicationError: Type `CheckpointNotFound`, `CheckpointGone`, `AgentAlreadyExists`, or of what failed for
                good; nothing is left of the new agent then.
        """
        uid = workflow.uuid4().hex
        try:
            found = await options.call(
                contracts.CHECKPOINT_FIND,
                contracts.FindCheckpointRequest(source=request.source, step=request.step, branch=request.branch),
                summary="the newest step" if request.step is None else f"step {request.step}",
            )
        except ActivityError as error:
            raise ApplicationError(reason_of(error), type=code_of(error), non_retryable=True) from error
        if request.made is not None:
            return _same(request, request.made, found.checkpoint)
        try:
            return await self._made(request, uid, found)
        except (Exception, asyncio.CancelledError) as error:
            # Nothing names the new uid: what was written under it would stay for ever.
            await options.call(
                contracts.AGENT_PURGE,
                contracts.PurgeRequest(agent_id=request.new_id, agent_uid=uid),
                summary=f"what was written for {request.new_id}",
            )
            if isinstance(error, ActivityError) and isinstance(error.cause, ApplicationError):
                raise ApplicationError(reason_of(error), type=code_of(error), non_retryable=True) from error
            raise

    async def _made(
        self, request: contracts.ForkRequest, uid: str, found: contracts.FoundCheckpoint
    ) -> contracts.ForkResult:
        source, point = request.source, found.checkpoint
        origin = Origin(agent_id=source.agent_id, agent_uid=source.agent_uid, branch=point.branch, step=point.step)
        state = await options.call(
            contracts.AGENT_FORK,
            contracts.ForkStateRequest(
                agent_uid=source.agent_uid,
                checkpoint=point,
                pending=found.pending,
                new_uid=uid,
                branch=point.branch + 1,
                generation=GENERATION,
            ),
            summary=f"step {point.name} of {source.agent_id} for {request.new_id}",
        )
        record = _record(request.new_id, uid, source, origin, point, state)
        if request.parent is not None:
            record.parent = request.parent
            record.pending.append(contracts.Note(text=told(request.parent)))
        summary = f"agent {request.new_id}: fork of {source.agent_id} at step {point.name}"[:SUMMARY]
        starting = asyncio.create_task(_started(request.new_id, source.spec, record, summary))
        try:
            # Whoever cancels this too late finds the agent made: what it lives on must not be deleted.
            await workflow.wait_condition(starting.done)
        except asyncio.CancelledError:
            await workflow.wait_condition(starting.done)
        try:
            await starting
        except WorkflowAlreadyStartedError as error:
            raise _exists(request.new_id) from error
        workflow.set_current_details(f"agent {request.new_id} goes on from step {point.name} of {source.agent_id}")
        return contracts.ForkResult(
            agent_id=request.new_id, agent_uid=uid, forked_from=origin, step=request.step, branch=_asked(request)
        )


def _same(request: contracts.ForkRequest, made: contracts.ForkResult, point: Checkpoint) -> contracts.ForkResult:
    """The agent that is there, when it is the one that this makes."""
    origin = made.forked_from
    if (origin.agent_uid, origin.branch, origin.step) != (request.source.agent_uid, point.branch, point.step):
        raise _exists(request.new_id)
    return made


def _asked(request: contracts.ForkRequest) -> int:
    """The branch on which the step was spoken of."""
    return request.source.branch if request.branch is None else request.branch


def _exists(agent_id: str) -> ApplicationError:
    return ApplicationError(f"There is an agent {agent_id!r} already.", type=contracts.AGENT_EXISTS, non_retryable=True)


async def _started(new_id: str, spec: dict[str, JsonValue], record: AgentRecord, summary: str) -> None:
    await workflow.start_child_workflow(
        contracts.AGENT_WORKFLOW,
        args=[spec, record],
        id=new_id,
        task_queue=contracts.TASK_QUEUE,
        parent_close_policy=ParentClosePolicy.ABANDON,
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        search_attributes=TypedSearchAttributes(
            [
                SearchAttributePair(STATE, AgentState.HIBERNATED.value),
                SearchAttributePair(MODEL, str(spec.get("model", ""))),
            ]
        ),
        memo=memo(record.parent),
        static_summary=summary,
    )


def _record(
    new_id: str,
    uid: str,
    source: contracts.Standpoint,
    origin: Origin,
    point: Checkpoint,
    state: contracts.ForkStateResult,
) -> AgentRecord:
    """What the new agent begins with: nothing that waits for the old one is its own."""
    branch, now = point.branch + 1, workflow.now()
    begun = point.model_copy(
        update={
            "branch": branch,
            "at": now,
            "turn": 0,
            "segment_ref": state.transcript_ref,
            "snapshot": files_of(state.snapshot),
            "kept": True,
        }
    )
    return AgentRecord(
        uid=uid,
        born_at=now,
        branch=branch,
        branches=branch,
        step=point.step + 1,
        ran=point.step,
        transcript_ref=state.transcript_ref,
        pending=[contracts.Note(text=_note(source, point))],
        generation=GENERATION,
        image_id=state.image_id or source.image_id,
        snapshot=state.snapshot,
        snapshot_number=state.snapshot.number if state.snapshot is not None else 0,
        snapshots=1 if state.snapshot is not None else 0,
        answered=begun,
        checkpoint=begun,
        forked_from=origin,
        # It begins with the whole conversation: whether that is too long, the worker finds out before the first call.
        compaction=CompactionState(due=True) if source.compacted else None,
        shown_state=AgentState.HIBERNATED.value,
        events=[
            # Who reads an agent's id from its events looks at the first.
            Event(
                seq=1,
                at=now,
                kind=EventKind.STARTED,
                step=point.step + 1,
                summary=f"agent {new_id}",
                data={"agent_uid": uid},
            ),
            Event(
                seq=2,
                at=now,
                kind=EventKind.FORKED,
                step=point.step + 1,
                summary=f"forked from step {point.name} of agent {source.agent_id}",
                data={**origin.model_dump(mode="json"), "checkpoint": begun.model_dump(mode="json")},
            ),
        ],
        last_event=2,
    )


def _note(source: contracts.Standpoint, point: Checkpoint) -> str:
    return (
        f"[hibernaut] You are a fork of the agent {source.agent_id!r}, made at the end of its step {point.step}: the "
        "conversation and the files up to here are its own, and both of you go on apart from now on. You have a "
        "computer of your own; processes that ran in the background run no more."
    )
