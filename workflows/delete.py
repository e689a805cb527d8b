"""DeleteAgentWorkflow: removes what a closed agent left, step by retriable step, and certifies it."""

from temporalio import workflow

from hibernaut import contracts
from hibernaut.contracts import deletion, stubs
from hibernaut.models.deletion import Deletion
from workflows import options

CERTIFIED = "deletion-certificate"
"""The patch since which a deletion counts first and leaves a certificate."""


@workflow.defn(name=contracts.DELETE_WORKFLOW)
class DeleteAgentWorkflow:
    """Deletes an agent's objects, then its Temporal runs; the certificate comes last."""

    @workflow.run
    async def run(self, request: contracts.DeleteRequest) -> Deletion:
        """Delete everything; safe to run again after any failure."""
        remnants: tuple[str, ...] = ()
        if request.lease is not None:
            destroyed = await options.call(
                contracts.SANDBOX_DESTROY,
                contracts.DestroyRequest(agent_uid=request.agent_uid, lease=request.lease),
                summary=f"generation {request.lease.generation} on {request.lease.host_id}",
                task_queue=request.lease.task_queue,
            )
            remnants = destroyed.remnants
        if not workflow.patched(CERTIFIED):
            return Deletion(objects=(await self._purged(request)).objects, runs=(await self._forgotten(request)).runs)
        # What never ran has no uid, and gets a certificate all the same.
        name = request.agent_uid or f"none-{workflow.info().run_id}"
        await options.call(
            stubs.AGENT_SURVEY,
            deletion.SurveyRequest(
                agent_id=request.agent_id,
                agent_uid=request.agent_uid,
                name=name,
                asked_by=request.requested_by,
                asked_at=request.requested_at,
            ),
            summary=f"what {request.agent_id} has",
        )
        purged = await self._purged(request)
        forgotten = await self._forgotten(request)
        certified = await options.call(
            stubs.AGENT_CERTIFY,
            deletion.CertifyRequest(
                agent_id=request.agent_id,
                agent_uid=request.agent_uid,
                name=name,
                asked_by=request.requested_by,
                asked_at=request.requested_at,
                runs=forgotten.by_kind,
                remnants=remnants,
            ),
            summary=f"certificate of {request.agent_id}",
        )
        workflow.set_current_details(f"`{certified.ref}`, digest `{certified.digest}`")
        return Deletion(
            objects=purged.objects,
            agent_uid=name,
            certificate=certified.ref,
            digest=certified.digest,
            runs=certified.runs,
            retained_packs=certified.retained_packs,
            pending_packs=certified.pending_packs,
            remnants=certified.remnants,
        )

    async def _purged(self, request: contracts.DeleteRequest) -> contracts.PurgeResult:
        if not request.agent_uid:
            return contracts.PurgeResult(objects=0)
        return await options.call(
            contracts.AGENT_PURGE,
            contracts.PurgeRequest(agent_id=request.agent_id, agent_uid=request.agent_uid),
            summary=f"objects of {request.agent_id}",
        )

    async def _forgotten(self, request: contracts.DeleteRequest) -> contracts.ForgetResult:
        return await options.call(
            contracts.AGENT_FORGET,
            contracts.ForgetRequest(
                agent_id=request.agent_id, started_before=request.requested_at, agent_uid=request.agent_uid
            ),
            summary=f"runs of {request.agent_id}",
        )
