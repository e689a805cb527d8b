"""The workflow's hold on a sandbox: acquire, snapshot, recover, give up."""

import asyncio
import contextlib
from collections.abc import Coroutine, Generator
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

from hibernaut import contracts
from hibernaut.models import LeaseStatus
from workflows import options
from workflows.acquire import Acquisition, destroy
from workflows.capture import Capture
from workflows.context import Context
from workflows.failures import reason_of
from workflows.ladder import Finding
from workflows.loss import Loss, Recovered
from workflows.recovery import Recovery
from workflows.report import report_dropped

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
        self._keeping: asyncio.Task[None] | None = None
        self._capture = Capture(context)
        self._recovery = Recovery(context, self)
        self._placement: contracts.Placement | None = None
        self._taken: list[str] | None = None
        self._destroyed = True
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

    @contextlib.contextmanager
    def in_use(self) -> Generator[None]:
        """Keep the sandbox from being given up for as long as the block takes, and idle time from running."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self.uses += 1

    async def acquired(self) -> LeaseStatus | None:
        """The sandbox, acquired if there is none; raises what an acquire raises instead of pausing."""
        self.begin()
        if self._acquiring is not None:
            await self._acquiring
        return self._record.lease

    async def snapshot(self, after: str) -> Loss | None:
        """Take a snapshot now; what is wrong with the sandbox, when that is why there is none.

        Raises:
            ActivityError: The snapshot failed for good.
        """
        self.begin_snapshot(after)
        await self._capture.join()
        if self._capture.error is not None:
            raise self._capture.error
        return self._capture.lost

    async def hold(self) -> bool:
        """Hold a sandbox; pauses with the reason while that fails. False when the turn is to end instead."""
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
            # Files that are put meanwhile may have found the sandbox lost: what became of it is known at the end.
            await workflow.wait_condition(lambda: self.settled or self._record.stopping)
            if not self.settled:
                return False
            if self._capture.lost is not None:
                if await self.recover(self._capture.lost) is Recovered.INTACT:
                    self.begin_snapshot("again")
                else:
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
                return intact and not self._record.untold
        return False

    @property
    def settled(self) -> bool:
        """Whether no snapshot is under way, nor a recovery."""
        return self._capture.done and not self._recovery.climbing

    async def release(self) -> bool:
        """Snapshot what is there, then destroy the container. False when that was not possible."""
        await self._abandon()
        lease = self._record.lease
        if lease is None:
            return True
        await self._capture.join()
        while self._capture.lost is None or await self._answers(lease, self._capture.lost):
            # Processes in the background may have written since the last command ended.
            self.begin_snapshot("before hibernation")
            await self._capture.join()
            if self._capture.lost is None and self._users == 0:
                break
            await workflow.wait_condition(lambda: self._users == 0)
        if self._capture.error is not None:
            return False
        if self._capture.lost is not None:
            report_dropped(self._context, self._capture.lost.reason)
            self._capture.forget()
        await self._destroy(lease)
        return True

    async def _answers(self, lease: LeaseStatus, loss: Loss) -> bool:
        """Whether a host that took no task is there all the same; the loss is forgotten then."""
        if loss.finding is not Finding.UNCLAIMED or await self._recovery.ping(lease) is Finding.SILENT:
            return False
        self._capture.forget()
        return True

    async def end(self) -> str | None:
        """Give the sandbox up for good; what could not be done, when a host or a store is away for too long."""
        undone: list[str] = []
        held = self._record.lease
        if not await _within(self.release(), CLOSE_PATIENCE) and self._record.lease is not None:
            undone.append("its last changes are not in a snapshot")
        lease = self._record.lease or self._record.acquiring or (None if self._destroyed else held)
        if lease is not None and not await _within(self._destroy(lease), DESTROY_PATIENCE):
            undone.append(f"its container of generation {lease.generation} may be left on host {lease.host_id}")
        return ", ".join(undone) or None

    async def quiet(self) -> None:
        """Wait until nothing works in the background: a run ends with no activity of its own."""
        await self._abandon()
        await self._capture.join()
        if self._keeping is not None:
            await self._keeping

    async def recover(self, loss: Loss) -> Recovered:
        """Bring the sandbox back, or the next one in its place, and tell the model what was lost."""
        return await self._recovery.run(loss)

    async def settle(self) -> None:
        """See `Holder`."""
        await self._capture.join()
        self._capture.forget()

    async def replace(self, placement: contracts.Placement | None, taken: list[str]) -> bool:
        """See `Holder`."""
        self._placement, self._taken = placement, taken
        held = await self.hold()
        self._placement = self._taken = None
        return held

    async def _abandon(self) -> None:
        """Let an acquire under way end, whatever its outcome."""
        if self._acquiring is not None:
            try:
                await self._acquiring
            except ActivityError as error:
                workflow.logger.warning("acquire failed while nobody waited: %s", reason_of(error))
            self._acquiring = None

    async def _acquire(self) -> None:
        placement, self._placement = self._placement, None
        recovering = self._taken is not None
        taken = self._taken if self._taken is not None else []
        record = self._record
        record.lease = await Acquisition(self._context, taken, recovering=recovering, placement=placement).run()
        if not record.image_kept and self._keeping is None:
            self._keeping = asyncio.create_task(self._keep_image(record.lease))

    async def _keep_image(self, lease: LeaseStatus) -> None:
        """Put the base image into the store, so that any host can wake the agent; not worth stopping for."""
        try:
            await options.call(
                contracts.IMAGE_KEEP,
                contracts.KeepImageRequest(image_id=lease.image_id, image=self._context.spec.sandbox.image),
                summary=f"keep image {lease.image_id[7:19]} in the store",
                task_queue=lease.task_queue,
            )
            self._record.image_kept = True
        except ActivityError as error:
            workflow.logger.warning("the image is not in the store: %s", reason_of(error))
        self._keeping = None

    async def _destroy(self, lease: LeaseStatus) -> bool:
        self._record.lease = None
        self._destroyed = await destroy(self._context, lease)
        return self._destroyed


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
