"""Deleting an agent: a workflow of its own does it, so that it is done to the end whoever goes away."""

from datetime import UTC, datetime
from typing import Any

from temporalio.client import RPCTimeoutOrCancelledError, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from hibernaut._connect import translate
from hibernaut._temporal import ATTEMPT, Workflows
from hibernaut._waiting import ensure_not_cancelled
from hibernaut.contracts import DELETE_WORKFLOW, TASK_QUEUE, DeleteRequest
from hibernaut.errors import DeletionFailed
from hibernaut.models import LeaseStatus


async def begin_deletion(
    workflows: Workflows, agent_id: str, agent_uid: str, lease: LeaseStatus | None = None
) -> WorkflowHandle[Any, Any]:
    """Start `DeleteAgentWorkflow`, or find the one under way."""
    client = workflows.client
    request = DeleteRequest(agent_id=agent_id, agent_uid=agent_uid, lease=lease, requested_at=datetime.now(UTC))
    try:
        return await client.start_workflow(
            DELETE_WORKFLOW,
            request,
            id=f"delete-{agent_id}",
            task_queue=TASK_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"delete agent {agent_id}",
            rpc_timeout=ATTEMPT,
        )
    except RPCError as error:
        raise translate(error, client.namespace) from error


async def delete_closed(workflows: Workflows, agent_id: str, agent_uid: str, lease: LeaseStatus | None = None) -> None:
    """Delete a closed agent and wait for the end of it.

    Raises:
        NoWorker: nobody is there to do it.
        DeletionFailed: something is left.
    """
    await workflows.require_worker()
    deletion = await begin_deletion(workflows, agent_id, agent_uid, lease)
    while True:
        try:
            await deletion.result(rpc_timeout=ATTEMPT)
        except WorkflowFailureError as error:
            raise DeletionFailed(
                f"Agent {agent_id} could not be deleted: {error.cause}.",
                agent_id=agent_id,
                hint=f"The workflow delete-{agent_id} says more; deleting again goes on with it.",
            ) from error
        except (RPCError, RPCTimeoutOrCancelledError):
            ensure_not_cancelled()
            await workflows.require_worker()
        else:
            return
