"""A turn: from a message to the final answer, step by step."""

import asyncio
import contextlib

from temporalio import workflow
from temporalio.exceptions import ActivityError

from hibernaut import contracts
from hibernaut.models import AgentState as State, Answer, AnswerState, EventKind
from workflows import bounds, options
from workflows.budget import CALL_FAILED, Budget
from workflows.calls import Calls
from workflows.checkpoints import step_done
from workflows.compaction import Compaction
from workflows.context import Context
from workflows.failures import reason_of
from workflows.giving_up import settled
from workflows.inbox import EVENT_TEXT
from workflows.lease import Lease
from workflows.network import tell_rules
from workflows.record import CurrentTurn, OpenReply
from workflows.waits import over


class Turn:
    """Works on the record's current turn until it ends, is paused, or the run should end."""

    def __init__(self, context: Context, lease: Lease) -> None:
        """Share the agent's context and lease."""
        self._context = context
        self._record = context.record
        self._lease = lease
        self._calls = Calls(context, lease)
        self._compaction = Compaction(context)
        self._budget = Budget(context)

    @property
    def waits(self) -> bool:
        """Whether there is nothing to do but to wait for a person or a time."""
        return not over(self._context)

    def open(self) -> None:
        """Take the next message of the inbox."""
        record = self._record
        message = record.inbox.pop(0)
        told = any(item.kind == "instructions" for item in record.pending)
        if record.transcript_ref is None and not told and self._context.spec.instructions:
            record.pending.append(contracts.Instructions(text=self._context.spec.instructions))
        record.pending.append(message)
        record.turn += 1
        record.current = CurrentTurn(message_id=message.message_id, started_at=workflow.now())
        self._context.journal.add(
            EventKind.TURN_STARTED,
            f"turn {record.turn}: {message.text[:EVENT_TEXT]}",
            message_id=message.message_id,
        )
        self._budget.turn_began()

    async def run(self) -> None:
        """Take steps until the turn is finished, or hand back to the main loop between two of them."""
        record, spec = self._record, self._context.spec
        while record.current is not None:
            if record.open is not None:
                if not await self._calls.answer():
                    return
            elif record.stopping:
                self._finish(AnswerState.INTERRUPTED, "The turn was interrupted.")
            elif record.paused or bounds.due() or self._context.journal.due:
                return
            elif record.current.steps >= spec.max_steps:
                # What was lost meanwhile is told in the next turn; what was not is durable before this one ends.
                if record.lease is not None:
                    await self._lease.ready(final=True)
                self._finish(AnswerState.FAILED, f"The turn reached its limit of {spec.max_steps} steps (max_steps).")
            elif (spent := self._budget.exhausted()) is not None:
                self._context.pause(spent)
            else:
                self._context.show(State.RUNNING, f"step {record.step}: asking {spec.model}")
                self._lease.begin()
                self._lease.tell()
                reply = await self._ask()
                if reply is not None and not reply.tool_calls and self._last_word() and await self._durable():
                    self._finish(
                        AnswerState.REFUSED if reply.refusal else AnswerState.DONE,
                        reply.text_head,
                        truncated=reply.text_truncated,
                    )

    def _last_word(self) -> bool:
        """Whether an answer ends the turn: one that did not hear of a message does so only when no step is left."""
        current = self._record.current
        return not self._record.steering or current is None or current.steps >= self._context.spec.max_steps

    async def _durable(self) -> bool:
        """Whether everything the answer speaks of is safe; if not, the model is told before it may answer."""
        record, lease = self._record, self._lease
        return ((record.lease is None and lease.settled) or await lease.ready(final=True)) and not record.untold

    async def _ask(self) -> contracts.ModelReply | None:
        """One model call; None when it was interrupted or failed for good, which pauses the agent."""
        record, spec = self._record, self._context.spec
        await self._compaction.before_call()
        if record.stopping or self._budget.exhausted() is not None:
            # A compaction costs too.
            return None
        if spec.functions and not await self._functions_kept():
            return None
        self._tell_woke()
        tell_rules(self._context)
        self._steer()
        handle = options.start(
            contracts.MODEL_CALL,
            contracts.ModelRequest(
                agent_uid=record.uid,
                branch=record.branch,
                step=record.step,
                ordinal=record.ordinal,
                transcript_ref=record.transcript_ref,
                compaction_ref=record.compaction.ref if record.compaction is not None else None,
                new_items=record.new_items(),
                provider=spec.provider,
                model=spec.model,
                tools=spec.tools,
                mcp=tuple(contracts.McpOffer(server=one.server, tools=one.tools) for one in spec.mcp),
                functions_ref=record.functions_ref,
                priced=self._budget.limits.has_money,
                limited=self._budget.limits.is_metered,
            ),
            summary=f"step {record.step}: {spec.model}",
        )
        sent = len(record.pending)
        try:
            reply = await settled(record, handle)
        except ActivityError as error:
            # Whatever that attempt may still write goes to a segment nobody refers to.
            record.ordinal += 1
            await self._failed(error)
            return None
        # Notes of an acquire that ended meanwhile were not part of the request.
        unsent = record.pending[sent:]
        record.pending = unsent
        self._keep(reply)
        return reply

    async def _failed(self, error: ActivityError) -> None:
        """Count what a call may have cost that left no reply, and see to it that the next one is of more use."""
        record, spec = self._record, self._context.spec
        counted = self._budget.dropped(error)
        if record.stopping or await self._compaction.overflowed(error, counted=counted):
            return
        wait = self._budget.in_vain(error)
        if wait is None:
            told = f"{CALL_FAILED}: {reason_of(error)}"
            # A person may have paused it meanwhile, which no larger budget ends.
            self._context.pause(f"{record.paused_reason or 'by request'}; {told}" if record.paused else told)
        elif self._budget.exhausted() is None:
            self._context.show(
                State.RUNNING, f"step {record.step}: asking {spec.model} again, after {reason_of(error)}"
            )
            with contextlib.suppress(asyncio.TimeoutError):
                await workflow.wait_condition(
                    lambda: record.stopping or record.paused, timeout=wait, timeout_summary="the model is asked again"
                )

    async def _functions_kept(self) -> bool:
        """Whether the spec's functions are where the model call finds them: in the store, not in every request."""
        record = self._record
        if record.functions_ref is None:
            text = f"[{','.join(function.model_dump_json() for function in self._context.spec.functions)}]"
            request = contracts.KeepTextRequest(agent_uid=record.uid, message_id="functions", text=text)
            try:
                kept = await options.call(contracts.TRANSCRIPT_KEEP, request, summary="the spec's functions")
            except ActivityError as error:
                self._context.pause(f"the functions of the spec could not be kept: {reason_of(error)}")
                return False
            record.functions_ref = kept.ref
        return True

    def _steer(self) -> None:
        """Take up the messages that were sent to the running turn."""
        record = self._record
        if record.current is not None:
            record.current.joined += [message.message_id for message in record.steering]
            record.pending += record.steering
            record.steering = []

    def _tell_woke(self) -> None:
        record = self._record
        if record.tell_woke and record.snapshot is not None:
            text = (
                f"[hibernaut] The computer slept and is restored from snapshot {record.snapshot.number}: files, "
                "installed packages, working directory and exported variables are as you left them. "
                "Processes that ran in the background run no more."
            )
            record.pending.append(contracts.Note(text=text))
        record.tell_woke = False

    def _keep(self, reply: contracts.ModelReply) -> None:
        record = self._record
        record.open = OpenReply(reply=reply) if reply.tool_calls else None
        record.transcript_ref = reply.segment_ref
        record.step += 1
        record.ordinal = 0
        record.usage += reply.usage
        self._budget.spent(reply)
        self._compaction.kept(reply)
        if record.current is not None:
            record.current.steps += 1
        commands = [command for call in reply.tool_calls for command in call.commands]
        what = "; ".join(f"$ {command}" for command in commands) or reply.text_head
        self._context.journal.add(
            EventKind.REPLY,
            what[:EVENT_TEXT],
            text_head=reply.text_head[:EVENT_TEXT],
            tool_calls=len(reply.tool_calls),
            input_tokens=reply.usage.input_tokens,
            output_tokens=reply.usage.output_tokens,
            duration_ms=reply.duration_ms,
            branch=record.branch,
            step=record.step - 1,
            segment_ref=reply.segment_ref,
        )
        if not reply.tool_calls:
            step_done(record, reply)

    def _finish(self, state: AnswerState, text: str, *, truncated: bool = False) -> None:
        record = self._record
        current = record.current
        if current is None:
            return
        for message_id in (*current.joined, current.message_id):
            record.answer(
                Answer(
                    message_id=message_id,
                    state=state,
                    text=text,
                    truncated=truncated,
                    segment_ref=record.transcript_ref if state in {AnswerState.DONE, AnswerState.REFUSED} else None,
                    turn=record.turn,
                    steps=current.steps,
                )
            )
        # What came too late for this turn is the next one's.
        record.inbox[:0] = record.steering
        record.steering = []
        self._budget.turn_ended()
        record.current = None
        record.interrupt = False
        # What changes from now on is not of the steps before the last.
        record.ran = record.step - 1
        kind = EventKind.INTERRUPTED if state is AnswerState.INTERRUPTED else EventKind.TURN_FINISHED
        self._context.journal.add(
            kind,
            f"turn {record.turn} {state.value}: {text[:EVENT_TEXT]}",
            message_id=current.message_id,
            joined=current.joined,
            state=state.value,
            steps=current.steps,
            duration_ms=int((workflow.now() - current.started_at).total_seconds() * 1000),
        )
