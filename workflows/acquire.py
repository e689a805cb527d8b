"""A sandbox, rung by rung: a host, a container of the next generation, the newest snapshot in it."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from hibernaut import contracts
from hibernaut.models import EventKind, LeaseStatus, SnapshotStatus
from workflows import options
from workflows.context import Context
from workflows.destroyed import note_destruction
from workflows.failures import code_of, finding_of, reason_of, unclaimed
from workflows.ladder import Finding, Rung, climb, first
from workflows.report import report_loss

_LONGEST_PAUSE = timedelta(minutes=10)
_TRIES = 3
"""Containers that may be lost one after the other before a person is asked."""


class Acquisition:
    """One climb from nothing to a container that holds the newest snapshot."""

    def __init__(
        self,
        context: Context,
        taken: list[str],
        *,
        recovering: bool = False,
        placement: contracts.Placement | None = None,
    ) -> None:
        """Prepare.

        Args:
            context: The agent.
            taken: Receives the rungs that were taken.
            recovering: Begins the summaries with a word, so that a recovery stands out in the timeline.
            placement: The host, when it was chosen already.
        """
        self._context = context
        self._record = context.record
        self._taken = taken
        self._prefix = "recover: " if recovering else ""
        self._placement = placement
        self._lease: LeaseStatus | None = None
        self._lost = 0
        self._unclaimed = 0
        self._loaded_on: str | None = None
        self._error: ActivityError | None = None

    async def run(self) -> LeaseStatus:
        """Climb.

        Raises:
            ActivityError: A rung failed for good; no container is left behind.
        """
        begin = Rung.ACQUIRE if self._placement else first(Finding.NEEDED)
        steps = {
            Rung.PLACE: self._place,
            Rung.ACQUIRE: self._acquire,
            Rung.LOAD_IMAGE: self._load_image,
            Rung.RESTORE: self._restore,
        }
        last = await climb(begin, steps, self._taken)
        if last is Rung.PAUSE and self._error is not None:
            raise self._error
        if self._lease is None:
            raise RuntimeError("a climb ended without a sandbox")
        self._record.acquiring = None
        return self._lease

    async def _place(self) -> Finding:
        if self._unclaimed > 1:
            # Whoever names a host that then takes no task may do so again and again.
            pause = min(_LONGEST_PAUSE, timedelta(seconds=5 * 2**self._unclaimed))
            await workflow.sleep(pause, summary="before another host is asked for")
        self._placement = await choose(self._context, self._prefix)
        return Finding.DONE

    async def _acquire(self) -> Finding:
        record, context, placement = self._record, self._context, self._placement
        if placement is None:
            raise RuntimeError("a container was asked for before a host was chosen")
        record.generation += 1
        record.acquiring = LeaseStatus(
            generation=record.generation,
            host_id=placement.host_id,
            task_queue=placement.task_queue,
            sandbox_id="",
            image_id="",
        )
        try:
            acquired = await options.call(
                contracts.SANDBOX_ACQUIRE,
                contracts.AcquireRequest(
                    agent_id=context.agent_id,
                    agent_uid=record.uid,
                    generation=record.generation,
                    spec=context.spec.sandbox,
                    image_id=record.image_id,
                    restores=record.snapshot.ref if record.snapshot else None,
                ),
                summary=f"{self._prefix}generation {record.generation} on {placement.host_id}",
                task_queue=placement.task_queue,
            )
        except ActivityError as error:
            missing = code_of(error) == contracts.IMAGE_NOT_FOUND
            if missing and record.image_id is not None and self._loaded_on != placement.host_id:
                self._error = error
                return Finding.NO_IMAGE
            return self._failed(error)
        lease = self._lease = acquired.lease
        record.image_id = lease.image_id
        record.image_kept = acquired.image_kept
        context.journal.add(
            EventKind.SANDBOX,
            f"sandbox {lease.sandbox_id[:12]} (generation {lease.generation}) on {lease.host_id}",
            generation=lease.generation,
            host_id=lease.host_id,
            sandbox_id=lease.sandbox_id,
            duration_ms=acquired.duration_ms,
        )
        return Finding.DONE

    async def _load_image(self) -> Finding:
        record, placement = self._record, self._placement
        if placement is None or record.image_id is None:
            raise RuntimeError("an image was to be loaded before one was chosen")
        self._loaded_on = placement.host_id
        try:
            await options.call(
                contracts.IMAGE_LOAD,
                contracts.LoadImageRequest(image_id=record.image_id),
                summary=f"{self._prefix}image {record.image_id[7:19]} from the store to {placement.host_id}",
                task_queue=placement.task_queue,
            )
        except ActivityError as error:
            return self._failed(error)
        return Finding.DONE

    async def _restore(self) -> Finding:
        record, lease = self._record, self._lease
        if record.snapshot is None or lease is None:
            return Finding.DONE
        try:
            await self._restore_into(lease, record.snapshot)
        except ActivityError as error:
            self._lease = None
            await destroy(self._context, lease)
            return self._failed(error)
        return Finding.DONE

    async def _restore_into(self, lease: LeaseStatus, snapshot: SnapshotStatus) -> None:
        record, context = self._record, self._context
        result = await options.call(
            contracts.SNAPSHOT_RESTORE,
            contracts.RestoreRequest(
                agent_uid=record.uid,
                lease=lease,
                ref=snapshot.ref,
                branch_first=record.branch_first,
                branch_base=record.branch_base,
            ),
            summary=f"{self._prefix}restore snapshot {snapshot.number} into generation {lease.generation}",
            task_queue=lease.task_queue,
        )
        context.journal.add(
            EventKind.RESTORED,
            f"restored snapshot {result.restored_number}: {result.files} files, {result.bytes} bytes",
            ref=result.restored_ref,
            number=result.restored_number,
            branch=record.branch,
            after_step=record.ran,
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
                lost=record.uncover(result.restored_number),
            )

    def _failed(self, error: ActivityError) -> Finding:
        self._error = error
        finding = finding_of(error)
        self._unclaimed += finding is Finding.UNCLAIMED
        if finding is Finding.LOST:
            self._lost += 1
            if self._lost >= _TRIES:
                return Finding.FAILED
        return finding


async def choose(context: Context, prefix: str = "") -> contracts.Placement:
    """Any host with room; waits until one answers."""
    return await options.call(
        contracts.PLACEMENT_CHOOSE,
        contracts.PlacementRequest(agent_uid=context.record.uid, spec=context.spec.sandbox),
        summary=f"{prefix}a host for {context.spec.sandbox.image}",
        task_queue=contracts.PLACEMENT_QUEUE,
    )


async def destroy(context: Context, lease: LeaseStatus) -> bool:
    """Remove the agent's containers up to the lease's generation; False when their host does not answer.

    What is left there is frozen by the host's watchdog, and removed by housekeeping when the host is back.
    """
    try:
        result = await options.call(
            contracts.SANDBOX_DESTROY,
            contracts.DestroyRequest(agent_uid=context.record.uid, lease=lease),
            summary=f"generation {lease.generation} on {lease.host_id}",
            task_queue=lease.task_queue,
        )
    except ActivityError as error:
        if not unclaimed(error):
            raise
        workflow.logger.warning("generation %d is left to housekeeping: %s", lease.generation, reason_of(error))
        return False
    if result.checked:
        note_destruction(context.journal, lease, result)
    acquiring = context.record.acquiring
    if acquiring is not None and acquiring.generation <= lease.generation:
        context.record.acquiring = None
    return True
