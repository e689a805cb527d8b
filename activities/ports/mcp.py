"""The port to one MCP server: a session that is opened, asked, and closed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ListedTool:
    """A tool as its server describes it; nothing of it is to be trusted."""

    name: str
    description: str
    schema: Mapping[str, Any]
    """JSON Schema of its arguments."""


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What a server answered to a call, as its JSON; nothing of it is to be trusted."""

    content: tuple[Mapping[str, Any], ...]
    """Blocks of text, images, audio and resources."""
    structured: object | None
    is_error: bool


class McpSession(Protocol):
    """An open session with a server."""

    @property
    def alive(self) -> bool:
        """Whether it can be asked; a session that is not never is again."""
        ...

    @property
    def changes(self) -> int:
        """How often the server has said that its tools changed."""
        ...

    async def tools(self) -> tuple[ListedTool, ...]:
        """What the server offers.

        Raises:
            McpUnavailable: it does not answer, or with nonsense.
        """
        ...

    async def call(self, name: str, arguments: Mapping[str, Any], timeout_s: float) -> ToolAnswer:
        """Call a tool once.

        Raises:
            McpUnavailable: the call was not sent.
            McpCallUnknown: it was sent, and its end was not seen.
        """
        ...

    async def close(self) -> None:
        """End the session, and the server when it is a process of ours."""
        ...
