"""A turn: from a message to the final answer, step by step."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

from hibernaut import contracts
from hibernaut.models import AgentState as State
from hibernaut.models import Answer, AnswerState, EventKind
from workflows import options
from workflows.calls import Calls
from workflows.context import Context
from workflows.failures import reason_of
from workflows.inbox import EVENT_TEXT
from workflows.lease import Lease
from workflows.record import CurrentTurn


class Turn:
    """Works on the record's current turn until it ends, is paused, or the run should end."""

    def __init__(self, context: Context, lease: Lease) -> None:
        """Share the agent's context and lease."""
        self._context = context
        self._record = context.record
        self._lease = lease
        self._calls = Calls(context, lease)

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

    async def run(self) -> None:
        """Take steps until the turn is finished, or hand back to the main loop between two of them."""
        record, spec = self._record, self._context.spec
        while record.current is not None:
            if record.stopping:
                self._finish(AnswerState.INTERRUPTED, "The turn was interrupted.")
            elif record.paused or workflow.info().is_continue_as_new_suggested() or self._context.journal.due:
                return
            elif record.current.steps >= spec.max_steps:
                # What was lost meanwhile is told in the next turn; what was not is durable before this one ends.
                if record.lease is not None:
                    await self._lease.ready()
                self._finish(AnswerState.FAILED, f"The turn reached its limit of {spec.max_steps} steps (max_steps).")
            else:
                self._context.show(State.RUNNING, f"step {record.step}: asking {spec.model}")
                self._lease.begin()
                reply = await self._ask()
                if reply is not None and reply.tool_calls:
                    await self._calls.answer(reply)
                elif reply is not None and await self._durable():
                    self._finish(
                        AnswerState.REFUSED if reply.refusal else AnswerState.DONE,
                        reply.text_head,
                        truncated=reply.text_truncated,
                    )

    async def _durable(self) -> bool:
        """Whether everything the answer speaks of is safe; if not, the model is told before it may answer."""
        record, lease = self._record, self._lease
        return ((record.lease is None and lease.settled) or await lease.ready()) and not record.untold

    async def _ask(self) -> contracts.ModelReply | None:
        """One model call; None when it was interrupted or failed for good, which pauses the agent."""
        record, spec = self._record, self._context.spec
        self._tell_woke()
        handle = options.start(
            contracts.MODEL_CALL,
            contracts.ModelRequest(
                agent_uid=record.uid,
                branch=record.branch,
                step=record.step,
                ordinal=record.ordinal,
                transcript_ref=record.transcript_ref,
                new_items=record.new_items(),
                provider=spec.provider,
                model=spec.model,
            ),
            summary=f"step {record.step}: {spec.model}",
        )
        sent = len(record.pending)
        await workflow.wait_condition(lambda: handle.done() or record.stopping)
        if not handle.done():
            handle.cancel()
        try:
            reply = await handle
        except ActivityError as error:
            # Whatever that attempt may still write goes to a segment nobody refers to.
            record.ordinal += 1
            if not record.stopping:
                self._context.pause(f"the model call failed: {reason_of(error)}")
            return None
        # Notes of an acquire that ended meanwhile were not part of the request.
        unsent = record.pending[sent:]
        record.pending = unsent
        self._keep(reply)
        return reply

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
        record.transcript_ref = reply.segment_ref
        record.step += 1
        record.ordinal = 0
        record.usage += reply.usage
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
        )

    def _finish(self, state: AnswerState, text: str, *, truncated: bool = False) -> None:
        record = self._record
        current = record.current
        if current is None:
            return
        record.answer(
            Answer(
                message_id=current.message_id,
                state=state,
                text=text,
                truncated=truncated,
                segment_ref=record.transcript_ref if state in {AnswerState.DONE, AnswerState.REFUSED} else None,
                turn=record.turn,
                steps=current.steps,
            )
        )
        record.current = None
        record.interrupt = False
        kind = EventKind.INTERRUPTED if state is AnswerState.INTERRUPTED else EventKind.TURN_FINISHED
        self._context.journal.add(
            kind,
            f"turn {record.turn} {state.value}: {text[:EVENT_TEXT]}",
            message_id=current.message_id,
            state=state.value,
            steps=current.steps,
            duration_ms=int((workflow.now() - current.started_at).total_seconds() * 1000),
        )
