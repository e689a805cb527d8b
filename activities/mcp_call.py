"""`mcp.call`: one call of a tool of an MCP server of this worker."""

import asyncio

from temporalio import activity

from activities.heartbeat import beating
from activities.mcp_errors import McpCallUnknown
from activities.mcp_pool import McpPool
from hibernaut.contracts import MCP_CALL, McpCallRequest, McpCallResult


class McpActivities:
    """Activities that speak to MCP servers."""

    def __init__(self, pool: McpPool) -> None:
        """Take the servers of this worker."""
        self._pool = pool

    @activity.defn(name=MCP_CALL.name)
    async def call(self, request: McpCallRequest) -> McpCallResult:
        """Call a tool once; how often it is tried is the workflow's to say.

        Raises:
            McpRejected: this worker knows no server of that name.
            McpUnavailable: the server does not answer; nothing was sent to it.
            McpCallUnknown: the call was sent, and its end was not seen.
        """
        async with beating():
            try:
                return await self._pool.call(request)
            except asyncio.CancelledError:
                if not activity.is_worker_shutdown():
                    raise
                # Not a cancellation that anybody asked for: the workflow decides whether it may run again.
                told = f"The worker was stopped while it called {request.tool}."
                raise McpCallUnknown(told) from None
