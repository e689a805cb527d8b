"""`mcp.call`: whoever ends it, what is not known is not called a failure."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import cast

import pytest
from temporalio.testing import ActivityEnvironment

from activities.mcp_call import McpActivities
from activities.mcp_errors import McpCallUnknown
from activities.mcp_pool import McpPool
from hibernaut.contracts import McpCallRequest, McpCallResult

REQUEST = McpCallRequest(server="s", tool="s__a", arguments={}, timeout=timedelta(seconds=1))


class Waiting(McpPool):
    """Servers that take their time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def call(self, request: McpCallRequest) -> McpCallResult:
        del request
        self.asked.set()
        await asyncio.sleep(3_600)
        raise AssertionError


@pytest.mark.parametrize(("stops", "error"), [(False, asyncio.CancelledError), (True, McpCallUnknown)])
async def test_a_call_that_is_cut_short(*, stops: bool, error: type[BaseException]) -> None:
    environment, pool = ActivityEnvironment(), Waiting()
    running = asyncio.ensure_future(cast("Awaitable[object]", environment.run(McpActivities(pool).call, REQUEST)))
    await pool.asked.wait()
    if stops:
        environment.worker_shutdown()
    environment.cancel()
    with pytest.raises(error):
        await running
