"""Snapshots of the held sandbox: one at a time, in the background, their outcome kept until somebody asks."""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError

from hibernaut import contracts
from hibernaut.models import EventKind, LeaseStatus, SnapshotStatus
from workflows import options
from workflows.checkpoints import mark
from workflows.context import Context
from workflows.failures import finding_of, reason_of
from workflows.ladder import Finding
from workflows.loss import Loss


class Capture:
    """Takes snapshots of whatever sandbox the record's lease names."""

    def __init__(self, context: Context) -> None:
        """Nothing is under way."""
        self._context = context
        self._record = context.record
        self._task: asyncio.Task[None] | None = None
        self._taking = asyncio.Lock()
        self.error: ActivityError | None = None
        """Why the newest snapshot failed."""
        self.lost: Loss | None = None
        """What is wrong with the sandbox, when a snapshot found it so."""

    @property
    def done(self) -> bool:
        """Whether none is under way."""
        return self._task is None or self._task.done()

    def begin(self, after: str, *, thorough: bool = False) -> None:
        """Start one; it waits for the one under way."""
        if self._record.lease is not None:
            self.error = None
            self._task = asyncio.create_task(self._take(self._record.lease, after, thorough=thorough))

    async def join(self) -> None:
        """Wait until none is under way."""
        while self._task is not None and not self._task.done():
            await self._task

    def forget(self) -> None:
        """Forget the outcome: the sandbox it spoke of is replaced."""
        self.error = None
        self.lost = None
        self._record.too_large = None

    async def _take(self, lease: LeaseStatus, after: str, *, thorough: bool) -> None:
        async with self._taking:
            await self._take_one(lease, after, thorough=thorough)

    async def _take_one(self, lease: LeaseStatus, after: str, *, thorough: bool) -> None:
        record = self._record
        covered, ran = len(record.dirty), record.ran
        record.snapshot_number += 1
        try:
            result = await options.call(
                contracts.SNAPSHOT_TAKE,
                contracts.SnapshotRequest(
                    agent_uid=record.uid,
                    lease=lease,
                    number=record.snapshot_number,
                    parent=record.snapshot.ref if record.snapshot else None,
                    policy=self._context.spec.sandbox.snapshots,
                    thorough=thorough,
                ),
                summary=f"snapshot {record.snapshot_number} ({after})",
                task_queue=lease.task_queue,
            )
        except ActivityError as error:
            finding = finding_of(error)
            if record.lease is None or record.lease.generation != lease.generation:
                # It spoke of a sandbox that is replaced; the store may have refused it for that very reason.
                return
            if finding is Finding.FAILED:
                self.error = error
            else:
                self.lost = Loss(reason_of(error), finding, lease.generation)
            return
        record.too_large = None
        record.cover(result.number, record.dirty[:covered])
        del record.dirty[:covered]
        if result.unchanged or result.ref is None:
            mark(record)
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
            EventKind.SNAPSHOT,
            result.summary,
            branch=record.branch,
            after_step=ran,
            **result.model_dump(mode="json", exclude={"summary"}),
        )
        mark(record)
