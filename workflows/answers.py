"""The answers to tool calls, on their way to the model."""

from pydantic import JsonValue

from hibernaut import contracts
from hibernaut.contracts import plain
from hibernaut.models import CommandOutcome, EventKind, OutcomeKind, ToolCall
from workflows.context import Context
from workflows.inbox import EVENT_TEXT


class Answers:
    """Puts what became of a call among the items that the next model call is told."""

    def __init__(self, context: Context) -> None:
        """Share the agent's context."""
        self._context = context
        self._record = context.record

    def ran(self, call: ToolCall, result: contracts.ExecResult) -> None:
        """Answer a call with what its exec found."""
        most = self._context.spec.max_output_length
        for outcome in result.outcomes:
            self._tell(outcome)
            self._record.budget.shown += min(outcome.stdout_bytes, most) + min(outcome.stderr_bytes, most)
        self._answer(call, record_ref=result.record_ref)

    def lost(self, call: ToolCall, outcomes: tuple[CommandOutcome, ...]) -> None:
        """Answer a call whose exec left no record."""
        for outcome in outcomes:
            self._tell(outcome)
        self._answer(call, outcomes=outcomes)

    def refused(self, call: ToolCall, reason: str) -> None:
        """Answer a call that could not be carried out."""
        self._answer(call, error=reason)

    @property
    def size(self) -> int:
        """Bytes of the results that wait for the next model call."""
        items = [item for item in self._record.pending if item.kind == "tool_result"]
        return sum(plain.size_of(item.output) for item in items if item.output is not None)

    def returned(self, call: ToolCall, output: JsonValue, *, function: str | None = None) -> None:
        """Answer a call of a tool that is not the shell; `function`: of the function tool of this name."""
        self._answer(call, output=output, function=function)

    def not_run(self, call: ToolCall, outcomes: tuple[CommandOutcome, ...]) -> None:
        """Answer a call of which nothing was begun."""
        if call.tool == "shell":
            self._answer(call, outcomes=outcomes)
        else:
            self._answer(call, error="not run: the computer was lost, or the turn was stopped, before its time came")

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
        output: JsonValue | None = None,
        function: str | None = None,
    ) -> None:
        self._record.pending.append(
            contracts.ToolResult(
                call_id=call.call_id,
                call_kind=call.kind,
                record_ref=record_ref,
                outcomes=outcomes,
                error=error,
                output=output,
                function=function,
                max_output_length=call.max_output_length,
            )
        )
