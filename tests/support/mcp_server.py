"""An MCP server to call: `python -m tests.support.mcp_server stdio` or `... http PORT`."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

server = MCPServer("test")
CALLS = os.environ.get("MCP_TEST_CALLS")
"""File to which every call is noted: how often a tool ran is what its server saw."""


def note(what: str) -> None:
    if CALLS:
        with Path(CALLS).open("a", encoding="utf-8") as file:
            file.write(f"{what}\n")


class Sum(BaseModel):
    total: int
    of: list[int]


@server.tool()
def add(numbers: list[int]) -> Sum:
    """Add numbers."""
    note("add")
    return Sum(total=sum(numbers), of=numbers)


@server.tool()
def greet(name: str, times: int = 1) -> str:
    """Greet somebody."""
    note(f"greet {name}")
    return " ".join([f"hello {name}"] * times)


@server.tool()
def refuse(why: str) -> str:
    """Fail."""
    note("refuse")
    raise ToolError(f"I refuse: {why}")


@server.tool()
def environment(name: str = os.environ.get("TOKEN", "")) -> str:
    """Tell a variable."""
    return os.environ.get(name, "not set")


@server.tool()
def header(name: str, ctx: Context) -> str:
    """Tell a header of the request."""
    return (ctx.headers or {}).get(name, "not set")


@server.tool(structured_output=False)
def draw() -> list[Image | str]:
    """Draw something."""
    return ["here it is", Image(data=b"x" * 3_000, format="png")]


@server.tool()
async def wait(seconds: float) -> str:
    """Wait."""
    note("wait")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note("cancelled")
        raise
    return "waited"


@server.tool()
def spawn() -> int:
    """Start a program that keeps this one's pipes."""
    return subprocess.Popen(["sleep", "600"]).pid


@server.tool(structured_output=False)
def shout(megabytes: int) -> str:
    """Answer at length."""
    note("shout")
    return "x" * (megabytes << 20)


@server.tool()
async def freeze(seconds: float) -> str:
    """Do nothing else meanwhile, not even read."""
    note("freeze")
    time.sleep(seconds)  # noqa: ASYNC251  # that is the point
    return "thawed"


@server.tool()
def crash() -> str:
    """End the server in the midst of a call."""
    note("crash")
    os._exit(1)


@server.tool()
async def learn(name: str, ctx: Context) -> str:
    """Offer another tool from now on."""

    def learnt() -> str:
        return f"I learnt {name}"

    server.add_tool(learnt, name=name, description="Learnt.")
    # The newest protocol has subscriptions, the older one notifications.
    await ctx.notify_tools_changed()
    await ctx.session.send_tool_list_changed()
    return "learnt"


if __name__ == "__main__":
    note(f"started {os.getpid()}")
    if sys.argv[1] == "http":
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run("stdio")
