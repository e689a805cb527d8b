"""Compaction: the older part of a conversation gives way to a summary when it nears the model's window."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from hibernaut import contracts
from hibernaut.models import EventKind
from workflows import options
from workflows.budget import Budget
from workflows.context import Context
from workflows.failures import code_of, reason_of
from workflows.giving_up import PATCH, settled
from workflows.window import CompactionState

PATIENCE = timedelta(hours=1)
"""After which the agent goes on without: the next call may fit all the same."""
AGAIN_AFTER = 10
"""Steps after one that failed, or was not worth it."""
_PATCH = "compaction-on-overflow"


class Compaction:
    """Decides when to compact, and has it done."""

    def __init__(self, context: Context) -> None:
        """Share the agent's context."""
        self._context = context
        self._record = context.record
        self._budget = Budget(context)
        self._failure = ""
        self._counted = False

    @property
    def _state(self) -> CompactionState:
        if self._record.compaction is None:
            self._record.compaction = CompactionState()
        return self._record.compaction

    async def before_call(self) -> None:
        """Compact when the last reply said that it is time."""
        state = self._record.compaction
        if state is not None and state.due and self._record.step >= state.not_before:
            await self._compact(hard=False)

    def kept(self, reply: contracts.ModelReply) -> None:
        """Note what a kept reply tells of the window."""
        if reply.compact or self._record.compaction is not None:
            self._state.due = reply.compact

    async def overflowed(self, error: ActivityError, *, counted: bool = False) -> bool:
        """Deal with a model call that failed: False unless it failed for the length of the conversation.

        Then the conversation is shorter now and the model is to be asked again, or the agent is paused, or is to be for
        its budget. `counted`: whether the call said what it may have cost.
        """
        # Histories of before there was a compaction go on as they did: with the pause that the caller makes.
        if code_of(error) != contracts.CONTEXT_OVERFLOW or not workflow.patched(_PATCH):
            return False
        record, state = self._record, self._state
        again = state.squeezed == record.step
        state.squeezed = None
        if counted and self._budget.exhausted() is not None:
            # A compaction costs too: the turn pauses for the budget, and says so.
            return True
        if again:
            self._pause("it was compacted, and does not fit all the same", error)
        elif record.transcript_ref is None:
            self._pause("it has only begun: the instructions and the first messages alone are too long", error)
        elif await self._compact(hard=True):
            state.squeezed = record.step
        elif not record.stopping and not (self._counted and self._budget.exhausted() is not None):
            self._pause(f"it could not be compacted ({self._failure})", error)
        return True

    def _pause(self, why: str, error: ActivityError) -> None:
        told = f"the conversation is longer than the model's window, and {why}: {reason_of(error)}"
        self._context.pause(told)

    async def _compact(self, *, hard: bool) -> bool:
        """Whether the conversation is shorter now."""
        record, state = self._record, self._state
        if record.transcript_ref is None:
            return False
        self._counted = False
        doing = self._context.doing
        self._context.show(self._context.state, "compacting the conversation")
        handle = options.start(
            contracts.TRANSCRIPT_COMPACT,
            contracts.CompactRequest(
                agent_uid=record.uid,
                branch=record.branch,
                step=record.step,
                ordinal=record.ordinal,
                transcript_ref=record.transcript_ref,
                compaction_ref=state.ref,
                provider=self._context.spec.provider,
                model=self._context.spec.model,
                priced=self._budget.limits.has_money,
                limited=self._budget.limits.is_metered,
                hard=hard,
            ),
            summary=f"step {record.step}: compact the conversation",
            schedule_to_close=PATIENCE,
        )
        try:
            result = await settled(record, handle)
        except ActivityError as error:
            if not record.stopping or workflow.patched(PATCH):
                self._counted = self._budget.dropped(error)
            if not record.stopping:
                self._put_off(reason_of(error))
                self._context.journal.add(
                    EventKind.COMPACTION_FAILED,
                    f"the conversation could not be compacted: {self._failure}",
                    reason=self._failure,
                )
            return False
        finally:
            self._context.show(self._context.state, doing)
        if result.ref is None:
            self._put_off("nothing is left to be summarised")
            return False
        self._keep(result)
        return True

    def _put_off(self, why: str) -> None:
        self._failure = why
        self._state.due = False
        self._state.not_before = self._record.step + AGAIN_AFTER

    def _keep(self, result: contracts.CompactResult) -> None:
        state = self._state
        state.ref = result.ref
        state.covers_branch, state.covers_step = result.covers_branch, result.covers_step
        state.count += 1
        state.due = False
        state.not_before = 0
        self._record.usage += result.usage
        self._budget.also_spent(result.usage, result.estimated)
        self._context.journal.add(
            EventKind.COMPACTED,
            f"compacted: {result.steps} steps, {result.tokens_before:,} -> about {result.tokens_after:,} tokens",
            ref=result.ref,
            covers_branch=result.covers_branch,
            covers_step=result.covers_step,
            steps=result.steps,
            tokens_before=result.tokens_before,
            tokens_after=result.tokens_after,
            input_tokens=result.usage.input_tokens,
            output_tokens=result.usage.output_tokens,
            summary_head=result.summary_head,
            duration_ms=result.duration_ms,
        )
