"""The workflow's hold on a sandbox: acquire, snapshot, recover, give up."""

import asyncio
import contextlib
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from hibernaut import contracts
from hibernaut.models import AgentState, EventKind, LeaseStatus
from workflows import options
from workflows.acquire import acquire, destroy
from workflows.capture import Capture
from workflows.context import Context
from workflows.failures import code_of, reason_of
from workflows.recovery import report_loss

_WORTH_ANOTHER = frozenset({contracts.SANDBOX_LOST, contracts.SANDBOX_NOT_FRESH})
"""Failures of a new container that the next one may be spared."""
_TRIES = 3
CLOSE_PATIENCE = timedelta(minutes=10)
"""What an agent that ends gives its last snapshot, a large one to a slow store included."""
DESTROY_PATIENCE = timedelta(minutes=2)
"""And then the removal of its container, whose host may be gone for good."""


class Lease:
    """At most one sandbox. Turns use it one after the other, files may be put into it meanwhile."""

    def __init__(self, context: Context) -> None:
        """Start from the lease that the record carries."""
        self._context = context
        self._record = context.record
        self._acquiring: asyncio.Task[None] | None = None
        self._capture = Capture(context)
        self._replacing = asyncio.Lock()
        self._recovering = False
        self._users = 0
        self.uses = 0
        """Counts what was done in the sandbox beside the turns: each restarts the idle timer."""

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

    def begin_snapshot(self, after: str) -> None:
        """Start a snapshot in the background, while the model thinks."""
        self._capture.begin(after)

    async def hold(self) -> bool:
        """Hold a sandbox; pauses with the reason while that fails. False when the turn is to end instead."""
        tries = 0
        while self._record.lease is None:
            self.begin()
            task = self._acquiring
            if task is None:
                continue
            await workflow.wait_condition(lambda task=task: task.done() or self._record.stopping)
            if not task.done():
                # Whoever needs a sandbox next finds this one on its way.
                return False
            try:
                await task
            except ActivityError as error:
                tries += 1
                if code_of(error) in _WORTH_ANOTHER and tries < _TRIES:
                    continue
                self._context.pause(f"no sandbox: {reason_of(error)}")
                if not await self._context.while_paused():
                    return False
        return True

    async def ready(self) -> bool:
        """Hold a sandbox whose earlier work is durable; recover it when it was lost.

        Returns False when something was lost, or the turn is to end: a call decided on the old state must not run.
        """
        intact = True
        while await self.hold():
            await workflow.wait_condition(lambda: self._capture.done or self._record.stopping)
            if not self._capture.done:
                return False
            if self._capture.lost is not None:
                await self.recover(self._capture.lost)
                intact = False
            elif self._capture.error is not None:
                self._context.pause(f"{contracts.SNAPSHOT_FAILED}: {reason_of(self._capture.error)}")
                if not await self._context.while_paused():
                    return False
                self.begin_snapshot("after resume")
            elif self._record.dirty:
                # A run that ended between a command and its snapshot's success leaves it to the next run.
                self.begin_snapshot("not yet durable")
            else:
                return intact
        return False

    async def put_file(self, request: contracts.PutFile) -> contracts.PutFileResult:
        """Write an uploaded object into the sandbox; returns when a snapshot holds it.

        Raises:
            ActivityError: No sandbox could be had, the path cannot be written, or the snapshot failed.
            ApplicationError: The sandbox was lost again and again; type `SandboxBusy`.
        """
        self._users += 1
        try:
            for _ in range(_TRIES):
                result = await self._put(request)
                if result is not None:
                    return result
        finally:
            self._users -= 1
            self.uses += 1
        raise ApplicationError("the sandbox was lost while the file was written; send it again", type="SandboxBusy")

    async def _put(self, request: contracts.PutFile) -> contracts.PutFileResult | None:
        """One try; None when the sandbox was lost, and replaced, before the file was durable."""
        self.begin()
        if self._acquiring is not None:
            await self._acquiring
        lease = self._record.lease
        if lease is None:
            return None
        try:
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
        except ActivityError as error:
            if code_of(error) != contracts.SANDBOX_LOST:
                raise
            await self.recover(reason_of(error), lost=lease.generation)
            return None
        self.begin_snapshot(f"put {request.path}")
        await self._capture.join()
        if self._capture.error is not None:
            raise self._capture.error
        if self._capture.lost is not None:
            await self.recover(self._capture.lost, lost=lease.generation)
        if self._record.lease is None or self._record.lease.generation != lease.generation:
            return None
        self._context.journal.add(
            EventKind.FILE_PUT, f"put {result.path}: {result.size} bytes", path=result.path, size=result.size
        )
        return result

    async def release(self) -> bool:
        """Snapshot what is there, then destroy the container. False when that was not possible."""
        await self._abandon()
        lease = self._record.lease
        if lease is None:
            return True
        await self._capture.join()
        while self._capture.lost is None:
            # Processes in the background may have written since the last command ended.
            self.begin_snapshot("before hibernation")
            await self._capture.join()
            if self._users == 0:
                break
            await workflow.wait_condition(lambda: self._users == 0)
        if self._capture.error is not None:
            return False
        if self._capture.lost is not None:
            snapshot = self._record.snapshot
            report_loss(self._context, self._capture.lost, restored=snapshot.number if snapshot else None)
            self._capture.forget()
        await self._destroy(lease)
        return True

    async def end(self) -> str | None:
        """Give the sandbox up for good; what could not be done, when a host or a store is away for too long."""
        undone: list[str] = []
        if not await _within(self.release(), CLOSE_PATIENCE):
            undone.append("its last changes are not in a snapshot")
        lease = self._record.lease or self._record.acquiring
        if lease is not None and not await _within(self._destroy(lease), DESTROY_PATIENCE):
            undone.append(f"its container of generation {lease.generation} may be left on host {lease.host_id}")
        return ", ".join(undone) or None

    async def quiet(self) -> None:
        """Wait until nothing works in the background: a run ends with no activity of its own."""
        await self._abandon()
        await self._capture.join()

    async def recover(self, reason: str, uncertain: tuple[str, ...] = (), *, lost: int | None = None) -> None:
        """Replace a lost sandbox by the next generation, restored from the newest snapshot, and tell the model.

        Args:
            reason: Why it is lost.
            uncertain: Commands that may or may not have taken effect.
            lost: The generation that is lost; the one held when absent.
        """
        record = self._record
        generation = lost or record.generation
        async with self._replacing:
            if record.generation == generation:
                state = self._context.state
                self._context.show(AgentState.RECOVERING, reason)
                await self._capture.join()
                requested = record.snapshot.number if record.snapshot else None
                self._capture.forget()
                record.lease = None
                self._recovering = True
                await self.hold()
                self._recovering = False
                # When the turn is to end instead, the next hold restores this very snapshot.
                restored = record.snapshot.number if record.snapshot else None
                report_loss(self._context, reason, uncertain, restored=restored, requested=requested)
                self._context.show(AgentState.PAUSED if record.paused else state)
            elif uncertain:
                snapshot = record.snapshot
                report_loss(self._context, reason, uncertain, restored=snapshot.number if snapshot else None)

    async def _abandon(self) -> None:
        """Let an acquire under way end, whatever its outcome."""
        if self._acquiring is not None:
            try:
                await self._acquiring
            except ActivityError as error:
                workflow.logger.warning("acquire failed while nobody waited: %s", reason_of(error))
            self._acquiring = None

    async def _acquire(self) -> None:
        self._record.lease = await acquire(self._context, "recover: " if self._recovering else "")

    async def _destroy(self, lease: LeaseStatus) -> None:
        self._record.lease = None
        await destroy(self._record, lease)


async def _within(work: Coroutine[Any, Any, object], patience: timedelta) -> bool:
    """Whether it was done, and well, in time; what was not is cancelled."""
    task = asyncio.create_task(work)
    try:
        await workflow.wait_condition(task.done, timeout=patience, timeout_summary="go on without it")
        return (await task) is not False
    except ActivityError as error:
        workflow.logger.warning("given up at the end: %s", reason_of(error))
        return False
    except TimeoutError:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ActivityError):
            await task
        return False
