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
from workflows.acquire import destroy
from workflows.acquiring import Acquiring
from workflows.capture import Capture
from workflows.context import Context
from workflows.failures import code_of, reason_of
from workflows.ladder import Finding
from workflows.loss import Loss, Recovered
from workflows.network import Rules
from workflows.record import KEPT_DIRTY
from workflows.recovery import Recovery
from workflows.report import report_dropped, tell_too_large

CLOSE_PATIENCE = timedelta(minutes=10)
"""What an agent that ends gives its last snapshot, a large one to a slow store included."""
DESTROY_PATIENCE = timedelta(minutes=2)
"""And then the removal of its container, whose host may be gone for good."""

_NOT_FOREVER = "a-sandbox-on-its-way-is-not-waited-for-for-ever"
_REPLAYED_UNDER_RULES = "a-replay-waits-for-the-newest-network-rules"


class Lease:
    """At most one sandbox. Turns use it one after the other, files may be put into it meanwhile."""

    def __init__(self, context: Context) -> None:
        """Start from the lease that the record carries."""
        self._context = context
        self._record = context.record
        self.rules = Rules(context)
        self._acquiring = Acquiring(context, self.rules)
        self._capture = Capture(context)
        self._recovery = Recovery(context, self)
        self._destroyed = True
        self._users = 0
        self.unsaved = False
        """Whether a container was vacated without a snapshot; to be reset by whoever asks."""
        self.uses = 0
        """Counts what was done in the sandbox beside the turns: each restarts the idle timer."""

    @property
    def idle(self) -> bool:
        """Whether nothing works in the sandbox or for it."""
        return not self._acquiring.under_way and self._users == 0

    @property
    def held(self) -> bool:
        """Whether there is a sandbox, or one on its way."""
        return self._record.lease is not None or not self.idle

    def begin(self) -> None:
        """Start to acquire a sandbox in the background: a model call need not wait for it."""
        self._acquiring.begin()

    def begin_snapshot(self, after: str, *, thorough: bool = False) -> None:
        """Start a snapshot in the background, while the model thinks."""
        self._capture.begin(after, thorough=thorough)

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
        await self._acquiring.done()
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
            if (task := self._acquiring.task) is None:
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

    async def ready(self, *, final: bool = False) -> bool:
        """Hold a sandbox whose earlier work is durable; recover it when it was lost.

        Files that are too large for a snapshot are told to the model; then its calls may go on, so that it can delete
        some. `final`: they may not, for a turn is to end.

        Returns False when something was lost, or the turn is to end: a call decided on the old state must not run.
        """
        while await self._sound(final=final):
            if final or not self.rules.due:
                return True
            if not await self.rules.enforce(self.recover):
                return False
        return False

    async def _sound(self, *, final: bool) -> bool:
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
                if self._told_too_large(self._capture.error, final=final):
                    return intact and not self._record.untold
                self._context.pause(f"{contracts.SNAPSHOT_FAILED}: {reason_of(self._capture.error)}")
                if not await self._context.while_paused():
                    return False
                self._record.too_large = None
                self.begin_snapshot("after resume")
            elif self._record.dirty:
                # A run that ended between a command and its snapshot's success leaves it to the next run.
                self.begin_snapshot("not yet durable")
            else:
                return intact and not self._record.untold
        return False

    def tell(self) -> None:
        """Tell what is known to stand between the model's work and its durability, before it is asked what to do."""
        if self.settled and self._record.too_large is None and self._capture.error is not None:
            self._told_too_large(self._capture.error, final=False)

    def _told_too_large(self, error: ActivityError, *, final: bool) -> bool:
        """Whether a snapshot failed for the size of the files alone, and the model may go on because of that."""
        if code_of(error) != contracts.SNAPSHOT_TOO_LARGE:
            return False
        told, reason = self._record.too_large, reason_of(error)
        if reason == told:
            return not final
        del self._record.dirty[:-KEPT_DIRTY]
        tell_too_large(self._context, reason, again=told is not None and not final)
        return True

    @property
    def failure(self) -> str:
        """Why the newest snapshot failed; empty when it did not."""
        return reason_of(self._capture.error) if self._capture.error is not None else ""

    @property
    def settled(self) -> bool:
        """Whether no snapshot is under way, nor a recovery."""
        return self._capture.done and not self._recovery.climbing

    async def arrived(self) -> bool:
        """Wait for a sandbox that is on its way; False when the agent is to close, or to go back, instead.

        To be asked before whatever lets one arrive first: it may never come.
        """
        task, record = self._acquiring.task, self._record
        if task is None or task.done() or not workflow.patched(_NOT_FOREVER):
            return True
        await workflow.wait_condition(lambda: task.done() or record.closing or record.going_back)
        return task.done()

    async def release(self) -> bool:
        """Snapshot what is there, then destroy the container. False when that was not possible."""
        await self._acquiring.abandon()
        if (lease := self._record.lease) is None:
            return True
        await self._capture.join()
        while self._capture.lost is None or await self._answers(lease, self._capture.lost):
            # Processes in the background may have written since the last command ended.
            self.begin_snapshot("before hibernation", thorough=True)
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

    async def vacate(self, *, discard: bool) -> bool:
        """Do the same without waiting for a sandbox that is on its way; when `discard`, without the snapshot.

        What cannot be removed is of a generation that is about to be superseded: housekeeping removes it.
        """
        await self._acquiring.break_off(wanted=self._users > 0)
        record = self._record
        if record.lease is not None and not discard:
            return await self.release()
        left = record.lease or record.acquiring
        if left is not None:
            self.unsaved |= record.lease is not None
            await _within(self._destroy(left), DESTROY_PATIENCE)
        # What was under way in it finds it gone, and ends, or asks for the next one.
        await self.settle()
        await workflow.wait_condition(lambda: self._users == 0 or record.lease is not None or self._acquiring.under_way)
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
        await self._acquiring.abandon()
        await self._capture.join()
        await self._acquiring.kept()
        await self.rules.quiet()

    async def recover(self, loss: Loss) -> Recovered:
        """Bring the sandbox back, or the next one in its place, and tell the model what was lost."""
        return await self._recovery.run(loss)

    async def settle(self) -> None:
        """See `Holder`."""
        await self._capture.join()
        self._capture.forget()

    async def replace(self, placement: contracts.Placement | None, taken: list[str]) -> bool:
        """See `Holder`."""
        self._acquiring.placement, self._acquiring.taken = placement, taken
        held = await self.hold()
        self._acquiring.placement = self._acquiring.taken = None
        return held

    async def ruled(self) -> bool:
        """See `Holder`."""
        return not self.rules.due or not workflow.patched(_REPLAYED_UNDER_RULES) or await self.rules.hold_by_now()

    async def _destroy(self, lease: LeaseStatus) -> bool:
        self._record.lease = None
        self._record.tick(workflow.now())
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
