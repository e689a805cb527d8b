"""DeleteAgentWorkflow: removes what a closed agent left, step by retriable step, and certifies it."""

from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError

from hibernaut import contracts
from hibernaut.contracts import deletion, stubs
from hibernaut.models import LeaseStatus
from hibernaut.models.deletion import NAMELESS, Deletion
from workflows import options
from workflows.failures import unclaimed

CERTIFIED = "deletion-certificate"
"""The patch since which a deletion counts first and leaves a certificate."""
TRIES = 3
"""How often a host is asked, each time as long as a task may wait for a worker, to remove what is there."""


@workflow.defn(name=contracts.DELETE_WORKFLOW)
class DeleteAgentWorkflow:
    """Deletes an agent's objects, then its Temporal runs; the certificate comes last."""

    @workflow.run
    async def run(self, request: contracts.DeleteRequest) -> Deletion:
        """Delete everything; safe to run again after any failure."""
        remnants = await _destroyed(request, request.lease) if request.lease is not None else ()
        if not workflow.patched(CERTIFIED):
            return Deletion(objects=(await self._purged(request)).objects, runs=(await self._forgotten(request)).runs)
        # What never ran has no uid, and gets a certificate all the same.
        name = request.agent_uid or f"{NAMELESS}{workflow.info().run_id}"
        await options.call(
            stubs.AGENT_SURVEY,
            deletion.SurveyRequest(
                agent_id=request.agent_id,
                agent_uid=request.agent_uid,
                name=name,
                asked_by=request.requested_by,
                asked_at=request.requested_at,
                begun_at=_begun(request),
                seen_host=request.lease.host_id if request.lease else "",
                seen_generation=request.lease.generation if request.lease else 0,
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
                begun_at=_begun(request),
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
                agent_id=request.agent_id, started_before=_begun(request), agent_uid=request.agent_uid
            ),
            summary=f"runs of {request.agent_id}",
        )


def _begun(request: contracts.DeleteRequest) -> datetime:
    """The server's clock has dated the runs; whoever asks may have another one."""
    return request.begun_at or workflow.info().workflow_start_time


async def _destroyed(request: contracts.DeleteRequest, lease: LeaseStatus) -> tuple[str, ...]:
    """Remove the container that a terminated agent left; what is left of it, or that its host is not there."""
    for _ in range(TRIES):
        try:
            destroyed = await options.call(
                contracts.SANDBOX_DESTROY,
                contracts.DestroyRequest(agent_uid=request.agent_uid, lease=lease),
                summary=f"generation {lease.generation} on {lease.host_id}",
                task_queue=lease.task_queue,
            )
        except ActivityError as error:
            if not unclaimed(error):
                raise
        else:
            return tuple(f"{lease.host_id}: {one}" for one in destroyed.remnants)
    # Housekeeping removes it when the host is back, if ever; the certificate says what it cannot.
    return (f"{lease.host_id}: the host does not answer; if it is there, so is the container {lease.sandbox_id[:12]}",)
