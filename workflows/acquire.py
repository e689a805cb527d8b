"""A sandbox, step by step: a host, a container of the next generation, the newest snapshot in it."""

from temporalio.exceptions import ActivityError

from hibernaut import contracts
from hibernaut.models import EventKind, LeaseStatus, SnapshotStatus
from workflows import options
from workflows.context import Context
from workflows.record import AgentRecord
from workflows.recovery import report_loss


async def acquire(context: Context, prefix: str = "") -> LeaseStatus:
    """Choose a host, create the container there, restore the newest snapshot into it.

    Args:
        context: The agent.
        prefix: Begins the summaries, so that a recovery stands out in the timeline.

    Raises:
        ActivityError: One of the three failed for good; no container is left behind.
    """
    record = context.record
    placement = await options.call(
        contracts.PLACEMENT_CHOOSE,
        contracts.PlacementRequest(agent_uid=record.uid, spec=context.spec.sandbox),
        summary=f"{prefix}a host for {context.spec.sandbox.image}",
        task_queue=contracts.PLACEMENT_QUEUE,
    )
    record.generation += 1
    record.acquiring = LeaseStatus(
        generation=record.generation,
        host_id=placement.host_id,
        task_queue=placement.task_queue,
        sandbox_id="",
        image_id="",
    )
    acquired = await options.call(
        contracts.SANDBOX_ACQUIRE,
        contracts.AcquireRequest(
            agent_id=context.agent_id,
            agent_uid=record.uid,
            generation=record.generation,
            spec=context.spec.sandbox,
            image_id=record.image_id,
        ),
        summary=f"{prefix}generation {record.generation} on {placement.host_id}",
        task_queue=placement.task_queue,
    )
    lease = acquired.lease
    record.image_id = lease.image_id
    context.journal.add(
        EventKind.SANDBOX,
        f"sandbox {lease.sandbox_id[:12]} (generation {lease.generation}) on {lease.host_id}",
        generation=lease.generation,
        host_id=lease.host_id,
        sandbox_id=lease.sandbox_id,
        duration_ms=acquired.duration_ms,
    )
    if record.snapshot is not None:
        try:
            await _restore(context, lease, record.snapshot, prefix)
        except ActivityError:
            await destroy(record, lease)
            raise
    record.acquiring = None
    return lease


async def destroy(record: AgentRecord, lease: LeaseStatus) -> None:
    """Remove the agent's containers up to the lease's generation from its host."""
    await options.call(
        contracts.SANDBOX_DESTROY,
        contracts.DestroyRequest(agent_uid=record.uid, lease=lease),
        summary=f"generation {lease.generation} on {lease.host_id}",
        task_queue=lease.task_queue,
    )
    record.acquiring = None


async def _restore(context: Context, lease: LeaseStatus, snapshot: SnapshotStatus, prefix: str) -> None:
    record = context.record
    result = await options.call(
        contracts.SNAPSHOT_RESTORE,
        contracts.RestoreRequest(agent_uid=record.uid, lease=lease, ref=snapshot.ref),
        summary=f"{prefix}restore snapshot {snapshot.number} into generation {lease.generation}",
        task_queue=lease.task_queue,
    )
    context.journal.add(
        EventKind.RESTORED,
        f"restored snapshot {result.restored_number}: {result.files} files, {result.bytes} bytes",
        number=result.restored_number,
        files=result.files,
        bytes=result.bytes,
        duration_ms=result.duration_ms,
    )
    if result.restored_ref != snapshot.ref:
        older = {"ref": result.restored_ref, "number": result.restored_number}
        record.snapshot = snapshot.model_copy(update=older)
        report_loss(
            context,
            result.reason or f"snapshot {snapshot.number} is damaged",
            restored=result.restored_number,
            requested=snapshot.number,
        )
