"""Deleting an agent: a workflow of its own does it, so that it is done to the end whoever goes away."""

import asyncio
import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import EventType
from temporalio.client import (
    RPCTimeoutOrCancelledError,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from hibernaut._connect import translate
from hibernaut._temporal import ATTEMPT, OPEN, Workflows, not_found
from hibernaut._waiting import ensure_not_cancelled
from hibernaut.contracts import AGENT_WORKFLOW, DELETE_WORKFLOW, TASK_QUEUE, DeleteRequest
from hibernaut.contracts.names import DELETION_PREFIX
from hibernaut.errors import AgentNotFound, DeletionFailed, RequestRejected
from hibernaut.models import LeaseStatus
from hibernaut.models.base import Open
from hibernaut.models.deletion import NAMELESS, Deletion

PAUSE_S = 0.5

if TYPE_CHECKING:
    from hibernaut.models import AgentStatus


async def begin_deletion(
    workflows: Workflows, agent_id: str, agent_uid: str, lease: LeaseStatus | None = None, *, by: str = ""
) -> WorkflowHandle[object, Deletion]:
    """Start `DeleteAgentWorkflow`, or find the one under way; `by` is who asks."""
    request = DeleteRequest(
        agent_id=agent_id, agent_uid=agent_uid, lease=lease, requested_at=datetime.now(UTC), requested_by=by
    )
    return await _begun(workflows, request)


async def delete_closed(
    workflows: Workflows, agent_id: str, agent_uid: str, lease: LeaseStatus | None = None, *, by: str = ""
) -> Deletion:
    """Delete a closed agent and wait for the end of it.

    Raises:
        NoWorker: nobody is there to do it.
        DeletionFailed: something is left.
    """
    await workflows.require_worker()
    while True:
        begun = await begin_deletion(workflows, agent_id, agent_uid, lease, by=by)
        done = await _end(workflows, agent_id, begun)
        if _is_of(done, agent_uid):
            return done
        # An earlier agent of this id was still being deleted: now it is this one's turn.


async def deleted_before(workflows: Workflows, agent_id: str) -> Deletion:
    """What became of the deletion of an agent that is gone, waiting for the end of one under way.

    One that failed, or was ended by somebody, is begun again: only its own request still knows what there was.

    Raises:
        AgentNotFound: the server knows of none.
        DeletionFailed: something is left.
    """
    deletion = workflows.client.get_workflow_handle(deletion_id(agent_id), result_type=Deletion)
    try:
        found = await deletion.describe(rpc_timeout=ATTEMPT)
        ended = found.status not in {*OPEN, None, WorkflowExecutionStatus.COMPLETED}
        request = await _asked(workflows, deletion) if ended else None
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise not_found(agent_id) from error
        raise translate(error, workflows.client.namespace) from error
    if request is not None:
        await workflows.require_worker()
        again = request.model_copy(update={"begun_at": request.begun_at or found.start_time})
        deletion = await _begun(workflows, again)
    return await _end(workflows, agent_id, deletion)


async def deletion_step(workflows: Workflows, agent_id: str) -> str | None:
    """What a deletion under way is at, and why it tries again; None where none is seen."""
    try:
        found = await workflows.client.get_workflow_handle(deletion_id(agent_id)).describe(rpc_timeout=ATTEMPT)
    except (RPCError, RPCTimeoutOrCancelledError):
        ensure_not_cancelled()
        return None
    if found.status is not WorkflowExecutionStatus.RUNNING:
        return None
    for pending in found.raw_description.pending_activities:
        why = f": {pending.last_failure.message}" if pending.last_failure.message else ""
        again = f", attempt {pending.attempt}" if pending.attempt > 1 else ""
        return f"{pending.activity_type.name}{again}{why}"
    return "begun"


async def _begun(workflows: Workflows, request: DeleteRequest) -> WorkflowHandle[object, Deletion]:
    client = workflows.client
    try:
        return await client.start_workflow(
            DELETE_WORKFLOW,
            request,
            id=deletion_id(request.agent_id),
            result_type=Deletion,
            task_queue=TASK_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"delete agent {request.agent_id}",
            rpc_timeout=ATTEMPT,
        )
    except RPCError as error:
        raise translate(error, client.namespace) from error


async def _asked(workflows: Workflows, deletion: WorkflowHandle[object, Deletion]) -> DeleteRequest | None:
    """What a deletion was asked, from its history."""
    async for event in deletion.fetch_history_events(page_size=1):
        payloads = event.workflow_execution_started_event_attributes.input.payloads
        if not payloads:
            return None
        return (await workflows.client.data_converter.decode(list(payloads)[:1], [DeleteRequest]))[0]
    return None


async def untouched(workflows: Workflows, agent_id: str) -> tuple[str, LeaseStatus | None] | None:
    """Uid and lease of an agent whose last run ended before a worker took it up, so that no query reaches it.

    A run that goes on from another, or was forked, was given them; else it had none.

    Raises:
        AgentNotFound: the id is that of a workflow that is no agent.
    """
    carried: object = None
    try:
        async for event in workflows.client.get_workflow_handle(agent_id).fetch_history_events(page_size=10):
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                return None
            if event.HasField("workflow_execution_started_event_attributes"):
                begun = event.workflow_execution_started_event_attributes
                if begun.workflow_type.name != AGENT_WORKFLOW:
                    raise not_found(agent_id)
                payloads = begun.input.payloads
                carried = [*await workflows.client.data_converter.decode(payloads), None, None][1]
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise not_found(agent_id) from error
        raise translate(error, workflows.client.namespace) from error
    if not isinstance(carried, dict):
        return "", None
    known = _Carried.model_validate(carried)
    return known.uid, known.lease


def _is_of(done: Deletion, agent_uid: str) -> bool:
    """Whether it is the deletion of this agent, and not of an earlier one of the same id."""
    # Workers of older releases name none; what never ran has a name instead.
    return not done.agent_uid or (done.agent_uid == agent_uid if agent_uid else done.agent_uid.startswith(NAMELESS))


async def _end(workflows: Workflows, agent_id: str, deletion: WorkflowHandle[object, Deletion]) -> Deletion:
    while True:
        try:
            return await deletion.result(rpc_timeout=ATTEMPT)
        except WorkflowFailureError as error:
            raise DeletionFailed(
                f"Agent {agent_id} could not be deleted: {_why(error)}.",
                agent_id=agent_id,
                hint=f"The workflow {deletion.id} says more; deleting again goes on with it.",
            ) from error
        except (RPCError, RPCTimeoutOrCancelledError) as error:
            ensure_not_cancelled()
            if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
                # Somebody deleted its run, or the namespace's retention did: it is not waited for in vain.
                raise not_found(agent_id) from error
            await workflows.require_worker()
            await asyncio.sleep(PAUSE_S)


def _why(error: BaseException) -> str:
    """What was at the bottom of it: each layer of Temporal's wraps the one below."""
    while (cause := getattr(error, "cause", None)) is not None:
        error = cause
    return str(error).rstrip(".")


class _Carried(Open):
    """Of what an agent's run hands to the next."""

    uid: str
    lease: LeaseStatus | None = None


class Deletable:
    """The part of an agent's handle that deletes it."""

    id: str
    _workflows: "Workflows"

    if TYPE_CHECKING:

        async def close(self) -> AgentStatus: ...

        async def status(self) -> AgentStatus: ...

        async def _ended(self) -> bool: ...

        async def _delete_children(self, by: str, *, begun: bool = True) -> None: ...

    async def delete(self, *, by: str | None = None) -> Deletion:
        """Delete the agent and all it has, its children included: files, conversation, output, every Temporal run.

        A certificate says what was removed, what was looked for afterwards, and what others still need. Of an agent
        that was deleted before, the same is returned again.

        Args:
            by: Who asks, for the certificate; by default this process's user.

        Raises:
            AgentNotFound: there is no such agent, and the server knows of no deletion of one.
            NoWorker, RequestRejected: nobody is there to do it, or to say what the agent has in the store.
            DeletionFailed: something is left; deleting again goes on with it.
        """
        who = _user() if by is None else by
        try:
            return await self._delete(who)
        except AgentNotFound:
            # It was gone before, or somebody else deletes it at this moment.
            return await deleted_before(self._workflows, self.id)

    async def _delete(self, who: str) -> Deletion:
        if not await self._ended():
            await self.close()
        known = await untouched(self._workflows, self.id)
        await self._delete_children(who, begun=known is None)
        if known is not None:
            return await delete_closed(self._workflows, self.id, *known, by=who)
        try:
            status = await self.status()
        except RequestRejected:
            if not await self._workflows.never_ran(self.id):
                # Without its uid nobody would find again what it has in the store.
                raise
            return await delete_closed(self._workflows, self.id, "", by=who)
        return await delete_closed(self._workflows, self.id, status.agent_uid, status.lease, by=who)


def deletion_id(agent_id: str) -> str:
    """The id of the workflow that deletes an agent."""
    return f"{DELETION_PREFIX}{agent_id}"


def _user() -> str:
    try:
        # A name may have bytes that are no text.
        return getpass.getuser().encode(errors="replace").decode()
    except (KeyError, OSError):
        return ""
