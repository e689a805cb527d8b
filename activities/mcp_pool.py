"""The MCP servers of a worker: one session each, opened at first use, kept, and opened again after a failure."""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from activities.functions import Functions
from activities.mcp_errors import McpRejected, McpSettingsInvalid, McpUnavailable
from activities.mcp_results import rendered
from activities.mcp_settings import VARIABLE, Server
from activities.mcp_tools import UsableTool, chosen, lacking, usable
from activities.ports.mcp import McpSession, ToolAnswer
from hibernaut.contracts import McpCallRequest, McpCallResult, McpOffer

log = logging.getLogger(__name__)

PAUSE_S = 15.0
"""Seconds for which model calls do not wait again for a server that did not answer."""
PAUSE_FACTOR = 4
"""The same, in times of how long it kept one waiting, when that is longer."""
AGAIN_S = 1.0
"""Seconds between the two attempts to open a session: a server that was just replaced is back by then."""
QUICK_S = 5.0
"""Seconds within which the first must have failed: one that keeps silent is not waited for twice."""
KEPT = 200
"""Choices of tools that are remembered: to check many schemas takes a while."""
MISSING = "the package `mcp` is not installed on this worker: pip install 'hibernaut[mcp]'"

Opener = Callable[[Server], Awaitable[McpSession]]


@dataclass(frozen=True, slots=True)
class Offered:
    """What an agent is offered of the servers that its spec names."""

    tools: Functions
    absent: tuple[str, ...] = ()
    """Servers whose tools are not known now: they have not answered yet."""
    present: tuple[str, ...] = ()
    lacking: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Of each server that is present, the tools that the spec names and that cannot be offered."""


def _opener() -> Opener:
    """What opens sessions; it needs an optional package, and takes a second to import."""
    try:
        from activities.adapters.mcp_session import Session  # noqa: PLC0415  # for workers that have servers
    except ImportError as error:
        raise McpSettingsInvalid(f"{VARIABLE} names MCP servers, and {MISSING} ({error}).") from None
    return Session.open


class McpPool:
    """The servers of one worker."""

    def __init__(self, servers: Mapping[str, Server] | None = None, opener: Opener | None = None) -> None:
        """Take servers by name; nothing is started yet.

        Raises:
            McpSettingsInvalid: there are servers, and nothing that speaks to them.
        """
        self._connections: dict[str, _Connection] = {}
        self._chosen: OrderedDict[tuple[object, ...], Offered] = OrderedDict()
        if servers:
            opens = opener or _opener()
            self._connections = {name: _Connection(one, opens) for name, one in servers.items()}

    async def offered(self, offers: Sequence[McpOffer]) -> Offered:
        """The tools of these servers, as far as they are known: a server that does not answer keeps nobody waiting.

        Raises:
            McpRejected: this worker knows no server of that name.
        """
        connections = [self._connection(offer.server) for offer in offers]
        await asyncio.gather(*(one.listing() for one in connections))
        # Taken without a pause in between: what is remembered under a version is what it stands for.
        key = (*offers, *(one.version for one in connections))
        listings = {offer.server: one.tools for offer, one in zip(offers, connections, strict=True)}
        found = self._chosen.get(key)
        if found is None:
            known = {server: tools for server, tools in listings.items() if tools is not None}
            found = self._chosen[key] = Offered(
                await asyncio.to_thread(chosen, offers, known),
                absent=tuple(server for server in listings if server not in known),
                present=tuple(known),
                lacking=lacking(offers, known),
            )
            while len(self._chosen) > KEPT:
                self._chosen.popitem(last=False)
        return found

    async def call(self, request: McpCallRequest) -> McpCallResult:
        """Call a tool at most once.

        Raises:
            McpRejected: this worker knows no server of that name.
            McpUnavailable: the server does not answer; nothing was sent to it.
            McpCallUnknown: the call was sent, and its end was not seen.
        """
        return await self._connection(request.server).call(request)

    async def close(self) -> None:
        """End every session, and the servers that are processes of ours."""
        await asyncio.gather(*(one.close() for one in self._connections.values()))

    def _connection(self, name: str) -> "_Connection":
        if name not in self._connections:
            known = ", ".join(sorted(self._connections)) or f"none; {VARIABLE} names the file of its servers"
            raise McpRejected(f"There is no MCP server {name[:100]!r} on this worker; it knows {known}.")
        return self._connections[name]


class _Connection:
    """One server: its session, and what it offers."""

    def __init__(self, server: Server, opener: Opener) -> None:
        self._server = server
        self._open = opener
        self.version = 0
        """Counts the listings that were not as the one before."""
        self._session: McpSession | None = None
        self._calls: Counter[int] = Counter()
        """Calls in flight, by the identity of their session."""
        self._retired: list[McpSession] = []
        """Sessions that take no further calls, and whose last ones have not ended."""
        self._lock = asyncio.Lock()
        self._listing_lock = asyncio.Lock()
        self.tools: dict[str, UsableTool] | None = None
        """The tools as last known, None when none are."""
        self._listed_by: tuple[McpSession, int] | None = None
        self._listed_at = 0.0
        self._paused_until = 0.0
        self._fault = ""
        self._asked = 0

    async def listing(self, *, anew: bool = False) -> Mapping[str, UsableTool] | None:
        """The server's tools; the last known when it does not answer, None when none are known."""
        async with self._listing_lock:
            now = time.monotonic()
            if self.tools is not None and not anew and self._fresh(now):
                return self.tools
            if now < self._paused_until and not anew:
                return self.tools
            self._asked += 1
            began = now
            try:
                session, changes, found = await self._listed()
            except McpUnavailable as error:
                log.warning("%s", error)
                self._fault = str(error)
                now = time.monotonic()
                self._paused_until = now + max(PAUSE_S, PAUSE_FACTOR * (now - began))
                return self.tools
            self._listed_by, self._listed_at = (session, changes), now
            if found != self.tools:
                self.tools = found
                self.version += 1
            return self.tools

    def _fresh(self, now: float) -> bool:
        if self._listed_by is not None:
            session, changes = self._listed_by
            if session.alive and session.changes != changes:
                return False
        return now - self._listed_at < self._server.settings.refresh_s

    async def _listed(self) -> tuple[McpSession, int, dict[str, UsableTool]]:
        session = await self._ready()
        changes = session.changes
        try:
            tools = await session.tools()
        except McpUnavailable as error:
            if not error.session_gone:
                await self._give_up(session)
                raise
            session = await self._ready(instead_of=session)
            changes, tools = session.changes, await session.tools()
        return session, changes, await asyncio.to_thread(usable, self._server.name, tools)

    async def call(self, request: McpCallRequest) -> McpCallResult:
        tool = await self._tool(request.tool)
        if tool is None:
            return McpCallResult(error=f"not run: the server {self._server.name} offers no such tool any more")
        session = await self._ready()
        try:
            answer = await self._sent(session, tool.name, request)
        except McpUnavailable as error:
            # It was not sent, so that to send it now is no second time. The session is others' as well.
            if error.session_gone or not session.alive:
                session = await self._ready(instead_of=session)
            else:
                await asyncio.sleep(AGAIN_S)
            answer = await self._sent(session, tool.name, request)
        return rendered(answer, limit=self._server.settings.max_result, hide=self._server.hide)

    async def _sent(self, session: McpSession, name: str, request: McpCallRequest) -> ToolAnswer:
        self._calls[id(session)] += 1
        try:
            return await session.call(name, request.arguments, request.timeout.total_seconds())
        finally:
            self._calls[id(session)] -= 1
            if not self._calls[id(session)]:
                del self._calls[id(session)]
                if any(one is session for one in self._retired):
                    self._retired = [one for one in self._retired if one is not session]
                    await session.close()

    async def _tool(self, name: str) -> UsableTool | None:
        asked = self._asked
        known = await self.listing()
        if (known is None or name not in known) and self._asked == asked:
            known = await self.listing(anew=True)
        if known is None:
            raise McpUnavailable(self._fault)
        return known.get(name)

    async def _ready(self, *, instead_of: McpSession | None = None) -> McpSession:
        """A session that is alive, opened anew if need be; another than the one given."""
        async with self._lock:
            if self._session is not None and (not self._session.alive or self._session is instead_of):
                old, self._session = self._session, None
                if old.alive and self._calls[id(old)]:
                    # Others' calls in it may well end; the last one closes it.
                    self._retired.append(old)
                else:
                    await old.close()
            if self._session is None:
                began = time.monotonic()
                try:
                    self._session = await self._open(self._server)
                except McpUnavailable:
                    if time.monotonic() - began > QUICK_S:
                        raise
                    await asyncio.sleep(AGAIN_S)
                    self._session = await self._open(self._server)
                log.info("MCP server %s: session opened", self._server.name)
            return self._session

    async def _give_up(self, session: McpSession) -> None:
        """Close a session that answers nothing, so that the next one may; not while calls in it may yet end."""
        async with self._lock:
            if self._session is session and not self._calls[id(session)]:
                self._session = None
                await session.close()

    async def close(self) -> None:
        async with self._lock:
            found = [*self._retired, *([self._session] if self._session is not None else [])]
            self._retired, self._session = [], None
            await asyncio.gather(*(one.close() for one in found))
