"""MCP servers as a source of tools: what a spec says of them. Where they are is a setting of the worker."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from hibernaut.models.base import Model

MAX_SERVERS = 20
MAX_NAMES_CHARACTERS = 4_000
"""Characters of all tools that a spec names: they travel with every model call."""
SEPARATOR = "__"
MAX_TOOL_NAME = 64
"""Characters of a tool's name as a model knows it; no provider takes more."""
SERVER_NAME = r"^[A-Za-z0-9]+([_-][A-Za-z0-9]+)*$"
"""Without the separator, so that a tool's name tells its server."""

_UNUSABLE = re.compile(r"[^A-Za-z0-9_-]")

ToolNames = tuple[Annotated[str, Field(min_length=1, max_length=128)], ...]
Which = bool | ToolNames
"""All tools of a server, none, or those of these names."""


class McpSpec(Model):
    """The tools of one MCP server, which the worker's operator has configured under this name."""

    server: Annotated[str, Field(pattern=SERVER_NAME, max_length=32)]
    """Name of a server in the worker's settings; addresses, commands and keys never enter a spec."""
    tools: Annotated[ToolNames, Field(max_length=200)] | None = None
    """The tools that are offered, by the server's names for them; all by default."""
    approval: Which = False
    """Whether every call waits for a person's consent, whatever the approval policy says; or the tools that ask."""
    retry_safe: Which = False
    """Whether a call may run again when its end was not seen; or the tools for which that holds. Else: at most once."""
    timeout: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(hours=24))] = timedelta(minutes=1)
    """Limit of one call."""

    @model_validator(mode="after")
    def _known(self) -> "McpSpec":
        for field, which in (("approval", self.approval), ("retry_safe", self.retry_safe)):
            unknown = [] if isinstance(which, bool) or self.tools is None else [n for n in which if n not in self.tools]
            if unknown:
                raise ValueError(f"`{field}` names the tool {unknown[0]!r}, which is not among `tools`")
        return self

    def asks(self, tool: str) -> bool:
        """Whether a call of the tool of this offered name waits for consent."""
        return self._holds(self.approval, tool)

    def is_retry_safe(self, tool: str) -> bool:
        """Whether a call of the tool of this offered name may run again."""
        return self._holds(self.retry_safe, tool)

    def _holds(self, which: Which, tool: str) -> bool:
        return which if isinstance(which, bool) else tool in {offered_name(self.server, name) for name in which}


def offered_name(server: str, tool: str) -> str:
    """A tool's name as the model calls it; what no provider takes in a name becomes an underscore."""
    return f"{server}{SEPARATOR}{_UNUSABLE.sub('_', tool)}"


def server_of(tool: str) -> str:
    """The server that a tool's name speaks of; empty when it speaks of none."""
    server, found, _ = tool.partition(SEPARATOR)
    return server if found else ""


def fault_of(specs: Sequence[McpSpec], functions: Sequence[str]) -> str | None:
    """Why these servers cannot stand beside each other and these functions; None when they can."""
    servers = [spec.server for spec in specs]
    twice = next((name for name in servers if servers.count(name) > 1), None)
    if twice is not None:
        return f"names the MCP server {twice!r} twice; put its tools into one entry"
    size = sum(len(name) for spec in specs for name in spec.tools or ())
    if size > MAX_NAMES_CHARACTERS:
        return f"names tools with {size} characters in all and the limit is {MAX_NAMES_CHARACTERS}; name fewer"
    clash = next((name for name in functions if server_of(name) in servers), None)
    if clash is not None:
        return f"has the server {server_of(clash)!r}, and the function {clash!r} has a name of that server's tools"
    return None
