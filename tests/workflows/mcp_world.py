"""Calls of MCP tools in a world for workflow tests: scripted, with a log of what was asked."""

import asyncio
from dataclasses import dataclass, field

from temporalio import activity

from hibernaut import contracts as c
from tests.workflows.network_world import NetworkWorld


@dataclass
class McpWorld(NetworkWorld):
    """What the tools of MCP servers return next."""

    tool_results: list[c.McpCallResult | BaseException] = field(default_factory=list[c.McpCallResult | BaseException])
    tool_calls: list[c.McpCallRequest] = field(default_factory=list[c.McpCallRequest])
    block_tool: bool = False
    tool_blocked: asyncio.Event = field(default_factory=asyncio.Event)
    tool_cancelled: bool = False

    @activity.defn(name=c.MCP_CALL.name)
    async def call_tool(self, request: c.McpCallRequest) -> c.McpCallResult:
        self.tool_calls.append(request)
        if self.block_tool:
            self.tool_blocked.set()
            try:
                while True:
                    activity.heartbeat()
                    await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                self.tool_cancelled = True
                raise
        result = self.tool_results.pop(0)
        if isinstance(result, BaseException):
            raise result
        return result
