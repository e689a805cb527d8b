"""A turn: from a message to the final answer, step by step."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from hibernaut import contracts
from hibernaut.models import AgentState as State
from hibernaut.models import Answer, AnswerState, CommandOutcome, EventKind, OutcomeKind, ToolCall
from workflows import options
from workflows.context import Context
from workflows.failures import code_of, reason_of
from workflows.inbox import EVENT_TEXT
from workflows.lease import Lease
from workflows.outcomes import not_run, shown_line
from workflows.record import CurrentTurn

MAX_COMMANDS = 200
"""Commands of one reply: each leaves an event, and model output is hostile input."""
EXEC_MARGIN = timedelta(seconds=60)
"""What an exec may take beyond the commands' own limits: the kill, the output's way to the store."""


class Turn:
    """Works on the record's current turn until it ends, is paused, or the run should end."""

    def __init__(self, context: Context, lease: Lease) -> None:
        """Share the agent's context and lease."""
        self._context = context
        self._record = context.record
        self._lease = lease

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
                self._finish(AnswerState.FAILED, f"The turn reached its limit of {spec.max_steps} steps (max_steps).")
            else:
                self._context.show(State.RUNNING, f"step {record.step}: asking {spec.model}")
                self._lease.begin()
                reply = await self._ask()
                if reply is not None and reply.tool_calls:
                    await self._answer_calls(reply)
                elif reply is not None and await self._durable():
                    self._finish(
                        AnswerState.REFUSED if reply.refusal else AnswerState.DONE,
                        reply.text_head,
                        truncated=reply.text_truncated,
                    )

    async def _durable(self) -> bool:
        """Whether everything the answer speaks of is safe; if not, the model is told before it may answer."""
        return self._record.lease is None or await self._lease.ready()

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

    async def _answer_calls(self, reply: contracts.ModelReply) -> None:
        """Every call gets an answer, whatever happens: a wire with an unanswered call is stuck for good."""
        intact = True
        commands = 0
        for index, call in enumerate(reply.tool_calls):
            prefix = f"b{self._record.branch}-s{self._record.step - 1}-c{index}"
            commands += len(call.commands)
            if call.error is not None:
                self._answer(call, error=call.error)
            elif commands > MAX_COMMANDS:
                self._answer(call, error=f"not run: one reply may ask for {MAX_COMMANDS} commands; ask again for these")
            elif intact and not self._record.stopping and await self._lease.ready():
                intact = await self._exec(call, prefix, reply.segment_ref)
            else:
                intact = False
                self._answer(call, outcomes=not_run(call, prefix))

    async def _exec(self, call: ToolCall, prefix: str, segment_ref: str) -> bool:
        """Run one call's commands; False when the sandbox was lost under them."""
        record, spec = self._record, self._context.spec
        lease = record.lease
        if lease is None:
            raise RuntimeError("a call is about to run without a sandbox")
        timeout_ms = call.timeout_ms or int(spec.command_timeout.total_seconds() * 1000)
        shown = shown_line(call)
        self._context.show(State.RUNNING, f"`$ {shown[:120]}`")
        handle = options.start(
            contracts.SHELL_EXEC,
            contracts.ExecRequest(
                agent_uid=record.uid,
                lease=lease,
                exec_prefix=prefix,
                call_id=call.call_id,
                commands=call.commands,
                segment_ref=segment_ref if call.cut else None,
                timeout_ms=timeout_ms,
                max_output_length=min(call.max_output_length or spec.max_output_length, spec.max_output_length),
            ),
            summary=f"$ {shown}",
            task_queue=lease.task_queue,
            start_to_close=timedelta(milliseconds=timeout_ms * len(call.commands)) + EXEC_MARGIN,
        )
        await workflow.wait_condition(lambda: handle.done() or self._record.stopping)
        if not handle.done():
            handle.cancel()
        try:
            result = await handle
        except ActivityError as error:
            return await self._exec_failed(call, prefix, error)
        return await self._exec_done(call, result, lease.generation)

    async def _exec_done(self, call: ToolCall, result: contracts.ExecResult, generation: int) -> bool:
        record = self._record
        for outcome in result.outcomes:
            self._tell(outcome)
            if outcome.kind is not OutcomeKind.NOT_RUN:
                record.dirty.append(outcome.command[:200])
        self._answer(call, record_ref=result.record_ref)
        if result.lost is None:
            self._lease.begin_snapshot(f"$ {shown_line(call)}")
            return True
        uncertain = tuple(outcome.command for outcome in result.outcomes if outcome.kind is OutcomeKind.UNKNOWN)
        for command in uncertain:
            record.dirty.remove(command[:200])
        await self._lease.recover(result.lost, uncertain, lost=generation)
        return False

    async def _exec_failed(self, call: ToolCall, prefix: str, error: ActivityError) -> bool:
        """The activity itself failed for good: its commands may or may not have run."""
        reason = reason_of(error)
        if code_of(error) == contracts.INVALID_COMMAND:
            self._answer(call, error=reason)
            return True
        kind = OutcomeKind.INTERRUPTED if self._record.stopping else OutcomeKind.UNKNOWN
        outcomes = tuple(
            CommandOutcome(exec_id=f"{prefix}-i{index}", command=command, kind=kind)
            for index, command in enumerate(call.commands)
        )
        self._record.dirty.extend(command[:200] for command in call.commands)
        for outcome in outcomes:
            self._tell(outcome)
        self._answer(call, outcomes=outcomes)
        self._record.pending.append(contracts.Note(text=f"[hibernaut] The shell failed: {reason}."))
        self._lease.begin_snapshot("after a failed exec")
        return True

    def _tell(self, outcome: CommandOutcome) -> None:
        end = f"exit {outcome.exit_code}" if outcome.kind is OutcomeKind.EXIT else outcome.kind.value
        self._context.journal.add(
            EventKind.COMMAND,
            f"$ {outcome.command[:200]} -> {end} in {outcome.duration_ms} ms",
            **outcome.model_copy(update={"command": outcome.command[:EVENT_TEXT]}).model_dump(mode="json"),
        )

    def _answer(
        self,
        call: ToolCall,
        *,
        record_ref: str | None = None,
        outcomes: tuple[CommandOutcome, ...] = (),
        error: str | None = None,
    ) -> None:
        self._record.pending.append(
            contracts.ToolResult(
                call_id=call.call_id,
                call_kind=call.kind,
                record_ref=record_ref,
                outcomes=outcomes,
                error=error,
                max_output_length=call.max_output_length,
            )
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
