"""The wire to an MCP server: a process of ours and its pipes, or HTTP; it says when it has ended."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO, cast

import anyio
import httpx2
from mcp import StdioServerParameters
from mcp.client._transport import ReadStream, Transport, TransportStreams
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from activities.adapters.mcp_http import MAX_MESSAGE, TellingTransport
from activities.adapters.mcp_stdio import served
from activities.mcp_settings import Server

CONNECT_S = 30.0
Message = SessionMessage | Exception


async def wire(server: Server, stack: AsyncExitStack, over: asyncio.Event) -> Transport:
    """The wire to a server, not open yet; what it needs lives as long as the stack, and its end sets `over`."""
    settings = server.settings
    if settings.url is not None:
        http = httpx2.AsyncClient(
            headers={
                "accept-encoding": "identity",
                **{name: value.get_secret_value() for name, value in server.headers.items()},
            },
            # How long an answer may take is a matter of each request.
            timeout=httpx2.Timeout(CONNECT_S, read=None),
            transport=TellingTransport(),
        )
        await stack.enter_async_context(http)
        found = streamable_http_client(settings.url, http_client=http, max_sse_event_size=MAX_MESSAGE)
    else:
        program, *arguments = settings.command
        parameters = StdioServerParameters(
            command=program,
            args=arguments,
            env={name: value.get_secret_value() for name, value in server.env.items()},
            cwd=settings.cwd,
        )
        found = served(parameters, stack.enter_context(_log(server)))
    return cast("Transport", _watched(found, over))


def _log(server: Server) -> TextIO:
    return (server.settings.log or Path(os.devnull)).open("a", encoding="utf-8")


@asynccontextmanager
async def _watched(
    wire: AbstractAsyncContextManager[TransportStreams], over: asyncio.Event
) -> AsyncGenerator[TransportStreams]:
    async with wire as (read, write):
        yield _Watched(read, over), write


class _Watched:
    """A stream of messages that says when it ends: the package's session stays open over a server that has died."""

    def __init__(self, stream: ReadStream[Message], over: asyncio.Event) -> None:
        self._stream = stream
        self._over = over

    @property
    def last_context(self) -> object:
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> Message:
        try:
            return await self._stream.receive()
        except anyio.EndOfStream:
            self._over.set()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> ReadStream[Message]:
        return self

    async def __anext__(self) -> Message:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            self._over.set()
            raise

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool | None:
        return await self._stream.__aexit__(exc_type, exc_val, exc_tb)
