"""Deleting an agent: a workflow of its own does it, so that it is done to the end whoever goes away."""

from datetime import UTC, datetime

from temporalio.client import RPCTimeoutOrCancelledError, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from hibernaut._connect import translate
from hibernaut._temporal import ATTEMPT, Workflows
from hibernaut._waiting import ensure_not_cancelled
from hibernaut.contracts import DELETE_WORKFLOW, TASK_QUEUE, DeleteRequest
from hibernaut.errors import DeletionFailed
from hibernaut.models import LeaseStatus


async def delete_closed(workflows: Workflows, agent_id: str, agent_uid: str, lease: LeaseStatus | None = None) -> None:
    """Start `DeleteAgentWorkflow`, or find the one under way, and wait for its end.

    Raises:
        NoWorker: nobody is there to do it.
        DeletionFailed: something is left.
    """
    client = workflows.client
    await workflows.require_worker()
    request = DeleteRequest(agent_id=agent_id, agent_uid=agent_uid, lease=lease, requested_at=datetime.now(UTC))
    try:
        deletion = await client.start_workflow(
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
