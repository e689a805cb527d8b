"""A sandbox on its way, in the background: at most one."""

import asyncio
import contextlib
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError

from hibernaut import contracts
from hibernaut.models import LeaseStatus
from workflows import options
from workflows.acquire import Acquisition
from workflows.context import Context
from workflows.failures import reason_of
from workflows.network import Rules

PATIENCE = timedelta(minutes=1)
"""What somebody else who waits for a sandbox is given before it is broken off."""


class Acquiring:
    """Acquires a sandbox while something else goes on, and notes it as the lease once it is there."""

    def __init__(self, context: Context, rules: Rules) -> None:
        """Nothing is on its way."""
        self._rules = rules
        self._context = context
        self._record = context.record
        self._keeping: asyncio.Task[None] | None = None
        self.task: asyncio.Task[None] | None = None
        """The newest."""
        self.placement: contracts.Placement | None = None
        """The host for the next one, when it was chosen already."""
        self.taken: list[str] | None = None
        """Receives the rungs of the next one, when it is a recovery's."""

    @property
    def under_way(self) -> bool:
        """Whether one is on its way."""
        return self.task is not None and not self.task.done()

    def begin(self) -> None:
        """Start, unless there is one, or one on its way."""
        if self._record.lease is None and not self.under_way:
            self.task = asyncio.create_task(self._acquire())

    async def done(self) -> None:
        """Wait for the one under way.

        Raises:
            ActivityError: There is none to be had.
            ApplicationError: It was broken off; type `SandboxBusy`.
        """
        task = self.task
        if task is None:
            return
        try:
            await task
        except (ActivityError, asyncio.CancelledError) as error:
            cancelled = task.cancelled() or isinstance(error.__cause__, CancelledError)
            if not cancelled or self.task is task:
                raise
            raise ApplicationError(
                "the sandbox was given up while it was made; try again", type="SandboxBusy", non_retryable=True
            ) from error

    async def abandon(self) -> None:
        """Let the one under way end, whatever its outcome."""
        task = self.task
        if task is not None:
            try:
                await task
            except ActivityError as error:
                workflow.logger.warning("acquire failed while nobody waited: %s", reason_of(error))
            if self.task is task:
                self.task = None

    async def break_off(self, *, wanted: bool) -> None:
        """Do not wait for the one under way: it may never come. Who else waits for it is `wanted`, and given a moment.

        What it leaves behind is named by the record's `acquiring`.
        """
        task = self.task
        if task is None or task.done():
            return
        if wanted:
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    task.done, timeout=PATIENCE, timeout_summary="a sandbox that somebody waits for"
                )
        if not task.done():
            self.task = None
            task.cancel()
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    task.done, timeout=PATIENCE, timeout_summary="the removal of a sandbox that was on its way"
                )
            task.cancel()
            await workflow.wait_condition(task.done)
            if not task.cancelled() and (error := task.exception()) is not None:
                workflow.logger.warning("an acquire was broken off: %s", error)

    async def kept(self) -> None:
        """Wait until the image is in the store, or cannot be put there."""
        if self._keeping is not None:
            await self._keeping

    async def _acquire(self) -> None:
        placement, self.placement = self.placement, None
        recovering = self.taken is not None
        taken = self.taken if self.taken is not None else []
        record = self._record
        rules = record.network.number
        record.lease = await Acquisition(self._context, taken, recovering=recovering, placement=placement).run()
        # They were part of the request; what was changed since is not.
        record.network.given(record.lease.generation, rules)
        self._rules.begin()
        record.tick(workflow.now())
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
