"""DeleteAgentWorkflow: removes what a closed agent left, step by retriable step."""

from temporalio import workflow

from hibernaut import contracts
from workflows import options


@workflow.defn(name=contracts.DELETE_WORKFLOW)
class DeleteAgentWorkflow:
    """Deletes an agent's objects, then its Temporal runs."""

    @workflow.run
    async def run(self, request: contracts.DeleteRequest) -> contracts.PurgeResult:
        """Delete everything; safe to run again after any failure."""
        if request.lease is not None:
            await options.call(
                contracts.SANDBOX_DESTROY,
                contracts.DestroyRequest(agent_uid=request.agent_uid, lease=request.lease),
                summary=f"generation {request.lease.generation} on {request.lease.host_id}",
                task_queue=request.lease.task_queue,
            )
        purged = contracts.PurgeResult(objects=0)
        if request.agent_uid:
            purged = await options.call(
                contracts.AGENT_PURGE,
                contracts.PurgeRequest(agent_id=request.agent_id, agent_uid=request.agent_uid),
                summary=f"objects of {request.agent_id}",
            )
        await options.call(
            contracts.AGENT_FORGET,
            contracts.ForgetRequest(agent_id=request.agent_id, started_before=request.requested_at),
            summary=f"runs of {request.agent_id}",
        )
        return purged
