"""The workflow's hold on a sandbox: acquire, restore, snapshot, recover, give up."""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from hibernaut import contracts
from hibernaut.models import AgentState, EventKind, LeaseStatus, SnapshotStatus
from workflows import options
from workflows.acquire import acquire, destroy
from workflows.context import Context
from workflows.failures import code_of, reason_of
from workflows.recovery import report_loss

_WORTH_ANOTHER = frozenset({contracts.SANDBOX_LOST, contracts.SANDBOX_NOT_FRESH})
"""Failures of a new container that the next one may be spared."""
_TRIES = 3


class Lease:
    """At most one sandbox, and at most one snapshot of it under way."""

    def __init__(self, context: Context) -> None:
        """Start from the lease that the record carries."""
        self._context = context
        self._record = context.record
        self._acquiring: asyncio.Task[None] | None = None
        self._snapshot: asyncio.Task[None] | None = None
        self._snapshot_error: ActivityError | None = None
        self._taking = asyncio.Lock()
        self._users = 0
        self.uses = 0
        """Counts what was done in the sandbox beside the turns: each restarts the idle timer."""
        self._lost: str | None = None
        self._recovering = False

    @property
    def idle(self) -> bool:
        """Whether nothing works in the sandbox or for it."""
        return (self._acquiring is None or self._acquiring.done()) and self._users == 0

    @property
    def held(self) -> bool:
        """Whether there is a sandbox, or one on its way."""
        return self._record.lease is not None or not self.idle

    def begin(self) -> None:
        """Start to acquire a sandbox in the background: a model call need not wait for it."""
        if self._record.lease is None and (self._acquiring is None or self._acquiring.done()):
            self._acquiring = asyncio.create_task(self._acquire())

    async def hold(self) -> bool:
        """Hold a sandbox; pauses with the reason while that fails. False when the turn is to end instead."""
        tries = 0
        while self._record.lease is None:
            if self._record.interrupt or self._record.closing:
                await self._abandon()
                return self._record.lease is not None
            try:
                await self._acquired()
            except ActivityError as error:
                tries += 1
                if code_of(error) in _WORTH_ANOTHER and tries < _TRIES:
                    continue
                self._context.pause(f"no sandbox: {reason_of(error)}")
                if not await self._context.while_paused():
                    return False
        return True

    async def ready(self, uncertain: str | None = None) -> bool:
        """Hold a sandbox whose earlier work is durable; recover it when it was lost.

        Returns False when something was lost: a call decided on the old state must not run.
        """
        intact = True
        while await self.hold():
            await self._join_snapshot()
            if self._lost is not None:
                await self.recover(self._lost, uncertain)
                intact = False
            elif self._snapshot_error is not None:
                self._context.pause(f"snapshot failed: {reason_of(self._snapshot_error)}")
                if not await self._context.while_paused():
                    return False
                self.begin_snapshot("after resume")
            elif self._record.dirty:
                # A run that ended between a command and its snapshot's success leaves it to the next run.
                self.begin_snapshot("not yet durable")
            else:
                return intact
        return False

    def begin_snapshot(self, after: str) -> None:
        """Start a snapshot in the background, while the model thinks."""
        if self._record.lease is not None:
            self._snapshot_error = None
            self._snapshot = asyncio.create_task(self._take(self._record.lease, after))

    async def put_file(self, request: contracts.PutFile) -> contracts.PutFileResult:
        """Write an uploaded object into the sandbox and snapshot it.

        Raises:
            ActivityError: No sandbox could be had, the path cannot be written, or the snapshot failed.
        """
        self._users += 1
        try:
            await self._acquired()
            lease = self._record.lease
            if lease is None:
                raise ApplicationError("the sandbox was given up meanwhile; send the file again", type="SandboxBusy")
            result = await options.call(
                contracts.FILES_PUT,
                contracts.PutFileRequest(
                    agent_uid=self._record.uid,
                    lease=lease,
                    upload_ref=request.upload_ref,
                    path=request.path,
                    mode=request.mode,
                ),
                summary=f"put {request.path}",
                task_queue=lease.task_queue,
            )
            self._context.journal.add(
                EventKind.FILE_PUT, f"put {result.path}: {result.size} bytes", path=result.path, size=result.size
            )
            self.begin_snapshot(f"put {request.path}")
            await self._join_snapshot()
            if self._snapshot_error is not None:
                raise self._snapshot_error
            return result
        finally:
            self._users -= 1
            self.uses += 1

    async def release(self) -> bool:
        """Snapshot what is there, then destroy the container. False when that was not possible."""
        await self._abandon()
        lease = self._record.lease
        if lease is None:
            return True
        await self._join_snapshot()
        while self._lost is None:
            # Processes in the background may have written since the last command ended.
            self.begin_snapshot("before hibernation")
            await self._join_snapshot()
            if self._users == 0:
                break
            await workflow.wait_condition(lambda: self._users == 0)
        if self._snapshot_error is not None:
            return False
        if self._lost is not None:
            snapshot = self._record.snapshot
            report_loss(self._context, self._lost, None, restored=snapshot.number if snapshot else None)
            self._lost = None
        await self._destroy(lease)
        return True

    async def quiet(self) -> None:
        """Wait until nothing works in the background: a run ends with no activity of its own."""
        await self._abandon()
        await self._join_snapshot()

    async def destroy_anyway(self) -> None:
        """Destroy the container though its last work is not durable: only for an agent that ends."""
        if self._record.lease is not None:
            await self._destroy(self._record.lease)

    async def recover(self, reason: str, uncertain: str | None) -> None:
        """Replace a lost sandbox by the next generation, restored from the newest snapshot, and tell the model."""
        record = self._record
        self._context.show(AgentState.RECOVERING, reason)
        await self._join_snapshot()
        requested = record.snapshot.number if record.snapshot else None
        self._lost = None
        self._snapshot_error = None
        record.lease = None
        self._recovering = True
        await self.hold()
        self._recovering = False
        # When the turn is to end instead, the next hold restores this very snapshot.
        restored = record.snapshot.number if record.snapshot else None
        report_loss(self._context, reason, uncertain, restored=restored, requested=requested)
        self._lost = None
        self._context.show(AgentState.RUNNING)

    async def _abandon(self) -> None:
        """Let an acquire under way end, whatever its outcome."""
        if self._acquiring is not None:
            try:
                await self._acquired()
            except ActivityError as error:
                workflow.logger.warning("acquire failed while nobody waited: %s", reason_of(error))

    async def _join_snapshot(self) -> None:
        while self._snapshot is not None and not self._snapshot.done():
            await self._snapshot

    async def _acquired(self) -> None:
        """Join the acquire under way, or start one; raises its ActivityError."""
        self.begin()
        task = self._acquiring
        if task is None:
            return
        try:
            await task
        finally:
            if self._acquiring is task:
                self._acquiring = None

    async def _acquire(self) -> None:
        self._record.lease = await acquire(self._context, "recover: " if self._recovering else "")

    async def _take(self, lease: LeaseStatus, after: str) -> None:
        async with self._taking:
            await self._take_one(lease, after)

    async def _take_one(self, lease: LeaseStatus, after: str) -> None:
        record = self._record
        covered = len(record.dirty)
        record.snapshot_number += 1
        try:
            result = await options.call(
                contracts.SNAPSHOT_TAKE,
                contracts.SnapshotRequest(
                    agent_uid=record.uid,
                    lease=lease,
                    number=record.snapshot_number,
                    parent=record.snapshot.ref if record.snapshot else None,
                ),
                summary=f"snapshot {record.snapshot_number} ({after})",
                task_queue=lease.task_queue,
            )
        except ActivityError as error:
            if code_of(error) == contracts.SANDBOX_LOST:
                self._lost = reason_of(error)
            else:
                self._snapshot_error = error
            return
        del record.dirty[:covered]
        if result.unchanged or result.ref is None:
            return
        record.snapshots += 1
        record.snapshot = SnapshotStatus(
            ref=result.ref,
            number=result.number,
            taken_at=workflow.now(),
            files=result.files,
            bytes_total=result.bytes_total,
            bytes_new=result.bytes_new,
            duration_ms=result.duration_ms,
            capture=result.capture,
            summary=result.summary,
        )
        self._context.journal.add(
            EventKind.SNAPSHOT, result.summary, **result.model_dump(mode="json", exclude={"summary"})
        )

    async def _destroy(self, lease: LeaseStatus) -> None:
        self._record.lease = None
        await destroy(self._record, lease)
