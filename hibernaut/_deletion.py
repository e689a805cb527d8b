"""Deleting an agent: a workflow of its own does it, so that it is done to the end whoever goes away."""

import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from temporalio.client import RPCTimeoutOrCancelledError, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from hibernaut._connect import translate
from hibernaut._temporal import ATTEMPT, Workflows, not_found
from hibernaut._waiting import ensure_not_cancelled
from hibernaut.contracts import DELETE_WORKFLOW, TASK_QUEUE, DeleteRequest
from hibernaut.contracts.names import DELETION_PREFIX
from hibernaut.errors import AgentNotFound, DeletionFailed, RequestRejected
from hibernaut.models import LeaseStatus
from hibernaut.models.deletion import Deletion

if TYPE_CHECKING:
    from hibernaut.models import AgentStatus


async def begin_deletion(
    workflows: Workflows, agent_id: str, agent_uid: str, lease: LeaseStatus | None = None, *, by: str = ""
) -> WorkflowHandle[object, Deletion]:
    """Start `DeleteAgentWorkflow`, or find the one under way; `by` is who asks."""
    client = workflows.client
    request = DeleteRequest(
        agent_id=agent_id, agent_uid=agent_uid, lease=lease, requested_at=datetime.now(UTC), requested_by=by
    )
    try:
        return await client.start_workflow(
            DELETE_WORKFLOW,
            request,
            id=deletion_id(agent_id),
            result_type=Deletion,
            task_queue=TASK_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"delete agent {agent_id}",
            rpc_timeout=ATTEMPT,
        )
    except RPCError as error:
        raise translate(error, client.namespace) from error


async def delete_closed(
    workflows: Workflows, agent_id: str, agent_uid: str, lease: LeaseStatus | None = None, *, by: str = ""
) -> Deletion:
    """Delete a closed agent and wait for the end of it.

    Raises:
        NoWorker: nobody is there to do it.
        DeletionFailed: something is left.
    """
    await workflows.require_worker()
    return await _end(workflows, agent_id, await begin_deletion(workflows, agent_id, agent_uid, lease, by=by))


async def deleted_before(workflows: Workflows, agent_id: str) -> Deletion:
    """What became of the deletion of an agent that is gone, waiting for the end of one under way.

    Raises:
        AgentNotFound: the server knows of none.
        DeletionFailed: something is left.
    """
    deletion = workflows.client.get_workflow_handle(deletion_id(agent_id), result_type=Deletion)
    try:
        await deletion.describe(rpc_timeout=ATTEMPT)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise not_found(agent_id) from error
        raise translate(error, workflows.client.namespace) from error
    return await _end(workflows, agent_id, deletion)


async def _end(workflows: Workflows, agent_id: str, deletion: WorkflowHandle[object, Deletion]) -> Deletion:
    while True:
        try:
            return await deletion.result(rpc_timeout=ATTEMPT)
        except WorkflowFailureError as error:
            raise DeletionFailed(
                f"Agent {agent_id} could not be deleted: {error.cause}.",
                agent_id=agent_id,
                hint=f"The workflow {deletion.id} says more; deleting again goes on with it.",
            ) from error
        except (RPCError, RPCTimeoutOrCancelledError):
            ensure_not_cancelled()
            await workflows.require_worker()


class Deletable:
    """The part of an agent's handle that deletes it."""

    id: str
    _workflows: "Workflows"

    if TYPE_CHECKING:

        async def close(self) -> AgentStatus: ...

        async def status(self) -> AgentStatus: ...

        async def _ended(self) -> bool: ...

        async def _delete_children(self, by: str) -> None: ...

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
            ended = await self._ended()
        except AgentNotFound:
            return await deleted_before(self._workflows, self.id)
        if not ended:
            await self.close()
        await self._delete_children(who)
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
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
