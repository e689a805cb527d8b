"""Errors about MCP servers, of the same root and style as those in `activities.errors`.

    HibernautActivityError
    └── McpError
        ├── McpSettingsInvalid      the file of servers cannot be used
        ├── McpRejected             this worker knows no server of that name, and a retry changes nothing
        ├── McpUnavailable          the server does not answer; the call was not sent, and is worth a retry
        └── McpCallUnknown          the call was sent and its end was not seen

No message holds a secret of a server's settings.
"""

from activities.errors import HibernautActivityError


class McpError(HibernautActivityError):
    """An MCP server could not be used."""


class McpSettingsInvalid(McpError):
    """The file of servers cannot be used; the message names file, server and field."""


class McpRejected(McpError):
    """This worker knows no server of that name."""


class McpUnavailable(McpError):
    """The server cannot be started or reached, or answers what is no MCP. Nothing was sent to a tool."""

    retryable = True

    def __init__(self, message: str, *, session_gone: bool = False) -> None:
        super().__init__(message)
        self.session_gone = session_gone
        """Whether the server has forgotten the session, so that a new one may do."""


class McpCallUnknown(McpError):
    """The call was sent and its end was not seen: it may or may not have taken effect."""

    retryable = True
