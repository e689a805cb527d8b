"""A call of a function tool, or of an MCP server's: one Temporal activity, whose end is told to the model."""

import json
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, TimeoutError as Expired
from temporalio.workflow import ActivityHandle

from hibernaut.contracts import McpCallResult, plain
from hibernaut.models import AgentState, EventKind, ToolCall
from hibernaut.models.functions import MAX_RESULT, FunctionSpec
from workflows import bounds, options
from workflows.answers import Answers
from workflows.context import Context
from workflows.failures import reason_of, unclaimed
from workflows.mcp import ATTEMPTS, McpTool

MAX_REASON = 4_000
"""Characters of a failure that the model is told."""
MAX_TOGETHER = 300_000
"""Bytes of all results that go into one model call: what is in the history has limits."""
SHOWN = 200
_TOGETHER = "which is too much together with the other results: call it again, alone"


class FunctionCalls:
    """Runs the calls of function tools and of MCP servers' tools, and answers them."""

    def __init__(self, context: Context, answers: Answers) -> None:
        """Share the agent's context; calls are answered through `answers`."""
        self._context = context
        self._answers = answers
        self._specs = {spec.name: spec for spec in context.spec.functions}

    def find(self, call: ToolCall) -> FunctionSpec | McpTool | None:
        """The function that a call is for, the spec's own or a server's."""
        return self._specs.get(call.tool) or McpTool.of(self._context.spec, call)

    async def run(self, function: FunctionSpec | McpTool, call: ToolCall) -> None:
        """Run one call to its end; at most once unless the spec says that it may run again."""
        shown = f"{call.tool}({json.dumps(call.arguments, ensure_ascii=False)})"
        self._context.show(AgentState.RUNNING, f"`{shown[:SHOWN]}`")
        began = workflow.now()
        bounds.note_work()
        handle: ActivityHandle[Any] = (
            function.start(call, shown) if isinstance(function, McpTool) else _start(function, call, shown)
        )
        await workflow.wait_condition(lambda: handle.done() or self._context.record.stopping)
        if not handle.done():
            handle.cancel()
        end = "returned"
        try:
            returned: McpCallResult | RawValue = await handle
            end = self._ended(call, returned) if isinstance(returned, McpCallResult) else self._returned(call, returned)
        except ActivityError as error:
            end = self._failed(function, call, error)
        took = round((workflow.now() - began).total_seconds() * 1000)
        self._context.journal.add(
            EventKind.TOOL,
            f"{shown[:SHOWN]} -> {end} in {took} ms",
            call_id=call.call_id,
            tool=call.tool,
            end=end,
            duration_ms=took,
        )

    def _ended(self, call: ToolCall, result: McpCallResult) -> str:
        """Answer with what a server's tool returned; how it ended."""
        if result.error is not None:
            self._answers.refused(call, f"the tool failed: {result.error[:MAX_REASON]}")
            return "failed"
        if (size := plain.size_of(result.output)) + self._answers.size > MAX_TOGETHER:
            self._answers.refused(call, f"the tool returned {size} bytes, {_TOGETHER}")
            return "too_long"
        self._answers.returned(call, result.output, function=call.tool)
        return "returned"

    def _returned(self, call: ToolCall, raw: RawValue) -> str:
        """Answer with what a stranger's activity returned; how it ended."""
        encoding, data = raw.payload.metadata.get("encoding", b""), raw.payload.data
        fault = f"and the limit is {MAX_RESULT}: ask it for less" if len(data) > MAX_RESULT else ""
        if not fault and len(data) + self._answers.size > MAX_TOGETHER:
            fault = _TOGETHER
        if fault:
            self._answers.refused(call, f"the tool returned {len(data)} bytes, {fault}")
            return "too_long"
        try:
            if encoding not in (b"json/plain", b"binary/null"):
                raise ValueError(f"it is encoded as {encoding.decode(errors='replace')[:100]}")
            result = plain.loaded(data or b"null")
        except ValueError as error:
            self._answers.refused(
                call, f"the tool returned what is no plain JSON: {error}. Its own fault, not your call's"
            )
            return "unreadable"
        self._answers.returned(call, result, function=call.tool)
        return "returned"

    def _failed(self, function: FunctionSpec | McpTool, call: ToolCall, error: ActivityError) -> str:
        known = function.told(error) if isinstance(function, McpTool) else None
        if known is not None:
            told, end = known
        elif unclaimed(error) and isinstance(function, FunctionSpec):
            told = f"not run: no worker of the task queue {function.task_queue} took the call"
            end = "not_run"
        elif isinstance(error.cause, Expired) and isinstance(function, FunctionSpec):
            told = f"unknown: the tool did not end within {function.timeout}; it may or may not have taken effect"
            end = "unknown"
        elif self._context.record.stopping:
            told = "interrupted: the call was cancelled; it may or may not have taken effect"
            end = "interrupted"
        else:
            told = f"the tool failed: {reason_of(error)[:MAX_REASON]}"
            end = "failed"
        self._answers.refused(call, told)
        return end


def _start(function: FunctionSpec, call: ToolCall, shown: str) -> ActivityHandle[RawValue]:
    handle: ActivityHandle[RawValue] = workflow.start_activity(
        function.activity_name,
        call.arguments,
        task_queue=function.task_queue,
        start_to_close_timeout=function.timeout,
        schedule_to_start_timeout=function.start_timeout,
        result_type=RawValue,
        retry_policy=RetryPolicy(
            initial_interval=timedelta(seconds=1), maximum_attempts=ATTEMPTS if function.retry_safe else 1
        ),
        summary=options.summary_line(shown),
    )
    return handle
