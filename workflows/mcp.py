"""A call of an MCP server's tool: one activity on any worker, as each has a session of its own with the server."""

from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, TimeoutError as Expired
from temporalio.workflow import ActivityHandle

from hibernaut import contracts
from hibernaut.models import AgentSpec, ToolCall
from hibernaut.models.mcp import McpSpec, server_of
from workflows import options
from workflows.failures import code_of, reason_of

SLACK = timedelta(minutes=10)
"""What an attempt may take beside the call itself, as a server may have to be started; the heartbeat tells a dead
worker long before."""
ATTEMPTS = 5
"""Of a call that may run again; the model decides what then."""


@dataclass(frozen=True, slots=True)
class McpTool:
    """A tool of a server that the spec names."""

    spec: McpSpec
    name: str
    """As the model calls it."""

    @classmethod
    def of(cls, spec: AgentSpec, call: ToolCall) -> "McpTool | None":
        """The tool that a call is for, if it is one of a server's."""
        server = server_of(call.tool)
        found = next((one for one in spec.mcp if one.server == server), None)
        return cls(found, call.tool) if found is not None else None

    @property
    def approval(self) -> bool:
        """Whether every call waits for a person's consent."""
        return self.spec.asks(self.name)

    def start(self, call: ToolCall, shown: str) -> ActivityHandle[contracts.McpCallResult]:
        """Run a call; at most once unless the spec says that it may run again."""
        stub = contracts.MCP_CALL
        request = contracts.McpCallRequest(
            server=self.spec.server, tool=self.name, arguments=call.arguments or {}, timeout=self.spec.timeout
        )
        handle: ActivityHandle[contracts.McpCallResult] = workflow.start_activity(
            stub.name,
            request,
            result_type=stub.result,
            task_queue=contracts.TASK_QUEUE,
            start_to_close_timeout=self.spec.timeout + SLACK,
            heartbeat_timeout=options.OPTIONS[stub.name].heartbeat,
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=1),
                maximum_attempts=ATTEMPTS if self.spec.is_retry_safe(self.name) else 1,
            ),
            summary=options.summary_line(shown),
        )
        return handle

    def told(self, error: ActivityError) -> tuple[str, str] | None:
        """Why a call that failed was not run or has an unknown end, and the word for it; None when it just failed."""
        code, reason = code_of(error), reason_of(error)
        if code in (contracts.MCP_UNAVAILABLE, contracts.MCP_REJECTED):
            return f"not run: {reason}", "not_run"
        if isinstance(error.cause, Expired):
            reason = "the worker that ran the call was lost"
        elif code != contracts.MCP_CALL_UNKNOWN:
            return None
        return f"unknown: {reason}; it may or may not have taken effect", "unknown"
