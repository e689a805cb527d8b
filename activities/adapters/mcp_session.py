"""A session with an MCP server, through the official package, which is imported here and in `mcp_wire` alone."""

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Self, cast

import anyio
from mcp import Client
from mcp.client.subscriptions import ListenNotSupportedError
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    PARSE_ERROR,
    REQUEST_TIMEOUT,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    Implementation,
    InputRequiredResult,
    PaginatedRequestParams,
    ToolListChangedNotification,
)
from pydantic import TypeAdapter, ValidationError

from activities.adapters.mcp_http import MAX_MESSAGE, NO_ANSWER, NOT_SENT, REFUSED, SESSION_GONE
from activities.adapters.mcp_wire import wire
from activities.mcp_errors import McpCallUnknown, McpUnavailable
from activities.mcp_settings import Server
from activities.ports.mcp import ListedTool, ToolAnswer

log = logging.getLogger(__name__)
# What the package logs holds what servers write, and the ids of sessions.
logging.getLogger("mcp").setLevel(logging.CRITICAL)

CLOSING_S = 15.0
"""Seconds that a session gets to end by itself, its process included."""
WRITING_S = 20.0
"""Seconds that a server may take to accept a call."""
LISTEN_AGAIN_S = 30.0
MAX_PAGES = 50
MODE = "auto"
"""How the protocol's version is agreed on: the newest that both sides know."""
MAX_LISTED = 1_000
_ANSWER: TypeAdapter[CallToolResult | InputRequiredResult] = TypeAdapter(CallToolResult | InputRequiredResult)
_UNKNOWN = frozenset({CONNECTION_CLOSED, REQUEST_TIMEOUT, NO_ANSWER, PARSE_ERROR})
"""The package's own codes; the last of them stands for an answer that is cut, too long or no JSON."""


class Session:
    """Implements the port `McpSession`. A task of its own enters and leaves the package's scopes."""

    def __init__(self, server: Server) -> None:
        """Prepare; `open` opens it."""
        self._server = server
        self._ready = asyncio.Event()
        self._over = asyncio.Event()
        self._scope: anyio.CancelScope | None = None
        self._owner: asyncio.Task[None] | None = None
        self._client: Client | None = None
        self._fault = "it did not get ready in time"
        self.changes = 0

    @classmethod
    async def open(cls, server: Server) -> Self:
        """Start or reach the server, and agree on the protocol.

        Raises:
            McpUnavailable: it cannot be, within its `start_timeout_s`.
        """
        session = cls(server)
        session._owner = asyncio.create_task(session._own(), name=f"mcp-{server.name}")
        ready = asyncio.create_task(session._ready.wait())
        try:
            await asyncio.wait(
                {session._owner, ready},
                timeout=server.settings.start_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        except BaseException:
            await session.close()
            raise
        finally:
            ready.cancel()
        if not session.alive:
            await session.close()
            raise McpUnavailable(f"MCP server {server.name!r} does not answer: {session._fault}.")
        return session

    @property
    def alive(self) -> bool:
        """See the port."""
        return self._ready.is_set() and not self._over.is_set() and self._owner is not None and not self._owner.done()

    async def tools(self) -> tuple[ListedTool, ...]:
        """See the port."""
        found: list[ListedTool] = []
        cursor: str | None = None
        size = 0
        try:
            async with asyncio.timeout(self._server.settings.start_timeout_s):
                for _ in range(MAX_PAGES):
                    page = await self._session().session.list_tools(params=PaginatedRequestParams(cursor=cursor))
                    for tool in page.tools:
                        # A default or an example in there may be what the server was given.
                        schema = self._hidden(json.dumps(tool.input_schema))
                        size += len(schema)
                        described = self._hidden(tool.description or tool.title or "")
                        found.append(ListedTool(tool.name, described, json.loads(schema)))
                    cursor = page.next_cursor
                    if cursor is None or len(found) > MAX_LISTED or size > MAX_MESSAGE:
                        break
        except (MCPError, ValidationError, TimeoutError) as error:
            gone = isinstance(error, MCPError) and error.code == SESSION_GONE
            raise McpUnavailable(self._told(error), session_gone=gone) from None
        return tuple(found[:MAX_LISTED])

    async def call(self, name: str, arguments: Mapping[str, Any], timeout_s: float) -> ToolAnswer:
        """See the port."""
        request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=dict(arguments)))
        session = self._session().session
        try:
            # The package's own clock starts when all is written.
            async with asyncio.timeout(timeout_s + WRITING_S):
                answer = await session.send_request(request, _ANSWER, request_read_timeout_seconds=timeout_s)
        except TimeoutError as error:
            raise McpCallUnknown(self._told(error)) from None
        except MCPError as error:
            if error.code in (NOT_SENT, REFUSED, SESSION_GONE):
                raise McpUnavailable(self._told(error), session_gone=error.code == SESSION_GONE) from None
            if error.code in _UNKNOWN:
                raise McpCallUnknown(self._told(error)) from None
            return _refusal(f"the server answered with an error: {error.message} ({error.code})")
        except ValidationError:
            return _refusal("the server answered what is no result of a tool; the call may have taken effect")
        if isinstance(answer, InputRequiredResult):
            return _refusal("it asks for input by a person in the midst of a call, which this engine does not offer")
        blocks = tuple(block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in answer.content)
        return ToolAnswer(blocks, cast("object", answer.structured_content), answer.is_error)

    async def close(self) -> None:
        """See the port."""
        self._over.set()
        owner = self._owner
        if owner is None:
            return
        if not self._ready.is_set():
            self._cancel()
        done, _ = await asyncio.wait({owner}, timeout=CLOSING_S)
        if not done:
            self._cancel()
            await asyncio.wait({owner}, timeout=CLOSING_S)

    def _cancel(self) -> None:
        if self._scope is not None:
            # Not the task: what the package shields, such as the end of a process, is shielded from scopes alone.
            self._scope.cancel()

    async def _own(self) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                async with AsyncExitStack() as stack:
                    self._client = await stack.enter_async_context(
                        Client(
                            await wire(self._server, stack, self._over),
                            message_handler=self._heard,
                            client_info=Implementation(name="hibernaut", version="1"),
                            cache=None,
                            mode=MODE,
                        )
                    )
                    self._ready.set()
                    await self._stay(self._client)
        except Exception as error:  # noqa: BLE001  # whatever ends a session is told to who asks it next
            self._fault = self._reason(error)
        finally:
            self._over.set()

    async def _stay(self, client: Client) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._listen, client)
            await self._over.wait()
            group.cancel_scope.cancel()

    async def _listen(self, client: Client) -> None:
        """Hear of changed tools where the protocol asks for a subscription; without one, the listing grows old."""
        while True:
            try:
                async with client.listen(tools_list_changed=True) as events:
                    async for _ in events:
                        self.changes += 1
            except (ListenNotSupportedError, MCPError):
                return
            except Exception:  # noqa: BLE001  # no more than news is lost, whatever happened; calls go on
                log.debug("MCP server %s: the subscription has ended", self._server.name)
            await anyio.sleep(LISTEN_AGAIN_S)
            # What changed meanwhile was not heard.
            self.changes += 1

    async def _heard(self, message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            self.changes += 1

    def _session(self) -> Client:
        if not self.alive or self._client is None:
            raise McpUnavailable(f"MCP server {self._server.name!r} does not answer: its session is over.")
        return self._client

    def _hidden(self, text: str) -> str:
        return self._server.hide(text)

    def _told(self, error: Exception) -> str:
        return f"MCP server {self._server.name!r}: {self._reason(error)}."

    def _reason(self, error: BaseException) -> str:
        while isinstance(error, BaseExceptionGroup):
            error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
        if isinstance(error, ValidationError):
            return "it answers what is no MCP"
        words = str(error) or ("it did not answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
        return self._hidden(" ".join(words.split()))[:300].rstrip(".")


def _refusal(text: str) -> ToolAnswer:
    return ToolAnswer(({"type": "text", "text": text},), None, is_error=True)
