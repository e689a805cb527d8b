"""Rewinding: the agent goes on from an earlier step, on a branch of its own; what came after that step remains."""

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from hibernaut import contracts
from hibernaut.contracts.branching import LAST_SNAPSHOT_FAILED
from hibernaut.models import AgentStatus, Checkpoint, EventKind, SnapshotStatus
from workflows import options
from workflows.checkpoints import standpoint
from workflows.failures import code_of, reason_of
from workflows.parts import Parts, resting_state
from workflows.report import report_dropped

TURN_UNDER_WAY = "TurnUnderWay"


_AT_ONCE = "rewind-at-once"


class Branching(Parts):
    """Takes the order to rewind, and carries it out between two turns."""

    _carried_out: contracts.RewindOrder | None = None
    """The order to rewind that is being carried out."""

    @workflow.query
    def standpoint(self) -> contracts.Standpoint:
        """What is needed to find the agent's checkpoints, and to fork it."""
        return standpoint(self._context)

    @workflow.update
    async def rewind(self, request: contracts.RewindRequest) -> AgentStatus:
        """Go back to a step as soon as no turn runs: `rewinding` of the status says until when, and `branch` where to.

        The same order again, while one waits, is that one.
        """
        record = self._record
        found = await self._found(request)
        if (problem := self._refusal() or self._unfit(request)) is not None:
            # Somebody was quicker while the step was looked for.
            raise problem
        waits, asked = record.rewind, (found.checkpoint.name, request.discard)
        if waits is None or (waits.found.checkpoint.name, waits.discard) != asked:
            if waits is not None and waits is not self._carried_out:
                record.rewind_ended(waits.branch, "another rewind was asked for before this one began")
            record.branches = max(record.branches, record.branch) + 1
            record.rewind = contracts.RewindOrder(
                branch=record.branches,
                found=found,
                discard=request.discard,
                # Runs of older builds let such an order wait: their histories replay as they were.
                at_once=workflow.patched(_AT_ONCE),
            )
        record.rewind_failure = ""
        if record.current is not None:
            record.interrupt = True
        return self._context.status()

    @rewind.validator
    def _check_rewind(self, request: contracts.RewindRequest) -> None:
        problem = self._refusal() or self._unfit(request)
        if problem is not None:
            raise problem

    def _unfit(self, request: contracts.RewindRequest) -> ApplicationError | None:
        if self._record.current is None or request.interrupt:
            return None
        return ApplicationError(
            f"agent {self._context.agent_id} is in the middle of a turn; wait for its end, or have it interrupted",
            type=TURN_UNDER_WAY,
            non_retryable=True,
        )

    async def _found(self, request: contracts.RewindRequest) -> contracts.FoundCheckpoint:
        try:
            return await options.call(
                contracts.CHECKPOINT_FIND,
                contracts.FindCheckpointRequest(
                    source=standpoint(self._context), step=request.step, branch=request.branch
                ),
                summary=f"step {request.step}",
            )
        except ActivityError as error:
            raise ApplicationError(reason_of(error), type=code_of(error), non_retryable=True) from error

    async def _go_back(self, order: contracts.RewindOrder) -> None:
        """Keep what there is, give the container up, and go on from the step that was asked for."""
        record, context, point = self._record, self._context, order.found.checkpoint
        context.show(context.state, f"rewinding to step {point.name}")
        self._carried_out, self._lease.unsaved = order, False
        failure, opened = "it was broken off", None
        try:
            opened, failure = await self._left(order), ""
            if opened is None:
                failure = f"{LAST_SNAPSHOT_FAILED}: {self._lease.failure}"
                # The next turn is held up only if this one fails as well.
                self._lease.begin_snapshot("after a rewind that failed")
        except ActivityError as error:
            failure = reason_of(error)
            if self._lease.unsaved:
                report_dropped(context, f"the container was given up for a rewind that came to nothing: {failure}")
            record.tell_woke = record.snapshot is not None and record.lease is None and not self._lease.unsaved
        finally:
            self._carried_out = None
            if record.rewind is order:
                record.rewind = None
                record.rewind_failure = failure
            record.rewind_ended(order.branch, failure)
            if failure:
                context.journal.add(EventKind.REWIND_FAILED, f"not rewound: {failure}", branch=order.branch)
            context.show(resting_state(record, held=self._lease.held))
        if opened is not None:
            self._begin(order, opened.transcript_ref)
            context.show(resting_state(record, held=self._lease.held))

    async def _left(self, order: contracts.RewindOrder) -> contracts.OpenBranchResult | None:
        """The new branch, once the container of the old one is given up; none when that failed."""
        while await (self._lease.vacate(discard=order.discard) if order.at_once else self._lease.release()):
            if order.at_once and self._lease.held:
                # The next generation, asked for while the container was removed, is not to be fenced off unseen.
                continue
            opened = await self._opened(order)
            if opened is not None and not self._lease.held:
                return opened
            # A file was put meanwhile, into a container that holds the branch that is left.
        return None

    async def _opened(self, order: contracts.RewindOrder) -> contracts.OpenBranchResult | None:
        """The new branch; none when another sandbox took over meanwhile."""
        record = self._record
        if order.at_once:
            # A host that was cut off may still be at a snapshot of the sandbox that was given up: it is to be refused.
            # An older build counted no generation, and its histories know the next sandbox by that number.
            record.generation += 1
        generation = record.generation
        try:
            return await options.call(
                contracts.AGENT_REWIND,
                contracts.OpenBranchRequest(
                    agent_uid=record.uid, generation=generation, branch=order.branch, found=order.found
                ),
                summary=f"branch {order.branch} at step {order.found.checkpoint.name}",
            )
        except ActivityError as error:
            if code_of(error) == contracts.SNAPSHOT_FENCED and record.generation != generation:
                return None
            raise

    def _begin(self, order: contracts.RewindOrder, transcript_ref: str) -> None:
        record, point, branch = self._record, order.found.checkpoint, order.branch
        left, number = record.branch, point.snapshot.number if point.snapshot is not None else None
        # What came after it on the branch that is left was not durable, and never will be.
        newest = record.checkpoint.step if record.checkpoint is not None else -1
        lost = record.answered is not None and record.answered.step > newest
        record.branch = branch
        record.step, record.ordinal = point.step + 1, 0
        record.transcript_ref = transcript_ref
        if record.compaction is not None:
            # A summary may speak of more than was said by then.
            record.compaction = record.compaction.rewound(point.branch, point.step)
        record.pending = [contracts.Note(text=_note(point, number, discarded=order.discard))]
        record.snapshot = _snapshot_of(point)
        record.branch_first, record.branch_base = (
            record.snapshot_number + 1,
            record.snapshot.ref if record.snapshot else None,
        )
        # It may have heard of changed rules after that step.
        record.network.told = record.network.of_spec
        record.dirty, record.too_large, record.tell_woke = [], None, False
        record.uncover(number or 0)
        record.ran = point.step
        moved = {"branch": branch, "segment_ref": transcript_ref, "kept": True, "at": workflow.now()}
        record.answered = record.checkpoint = point.model_copy(update=moved)
        told = f"rewound to step {point.name}: branch {branch} begins there"
        if order.discard or lost:
            why = "was not kept, as asked" if order.discard else "was lost with its sandbox"
            told += f"; what branch {left} did after " + (f"step {newest}" if newest >= 0 else "its begin") + f" {why}"
        self._context.journal.add(
            EventKind.REWOUND,
            told,
            branch=branch,
            from_branch=point.branch,
            left_branch=left,
            left_newest=newest,
            discarded=order.discard,
            step=point.step,
            checkpoint=record.checkpoint.model_dump(mode="json"),
        )


def _note(point: Checkpoint, number: int | None, *, discarded: bool) -> str:
    files = f"as snapshot {number} holds them" if number is not None else "those of the image"
    gone = " What you changed there since its last snapshot is not kept anywhere." if discarded else ""
    return (
        f"[hibernaut] You were set back to the end of step {point.step}, as above: whatever you did or said after it "
        f"is no longer part of this conversation, and the files of your computer are {files}.{gone} Processes that ran "
        "in the background run no more. What commands did outside the computer is not undone."
    )


def _snapshot_of(point: Checkpoint) -> SnapshotStatus | None:
    files = point.snapshot
    if files is None:
        return None
    return SnapshotStatus(**files.model_dump(), summary=f"snapshot {files.number}: rewound to step {point.name}")
