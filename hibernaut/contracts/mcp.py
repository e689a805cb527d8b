"""Requests and results of calls to MCP servers."""

from datetime import timedelta

from pydantic import JsonValue

from hibernaut.models.base import Open


class McpOffer(Open):
    """One server whose tools a model is offered."""

    server: str
    tools: tuple[str, ...] | None = None
    """The tools that are offered, by the server's names; None: all."""


class McpCallRequest(Open):
    """Asks for one call of a tool."""

    server: str
    tool: str
    """The tool's name as the model knows it."""
    arguments: dict[str, JsonValue]
    timeout: timedelta
    """Limit of the call itself, from the moment it is sent."""


class McpCallResult(Open):
    """What the tool returned, within the bounds of a function's result."""

    output: JsonValue = None
    error: str | None = None
    """What it told when it failed."""
