"""The listener of one sandbox: every connection it makes is judged by the sandbox's own rules."""

import asyncio
import contextlib
import itertools
import logging
import socket
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import h11

from activities.egress import plain, tunnel
from activities.egress.answers import say_no
from activities.egress.ledger import Ledger
from activities.egress.opened import Opened, Streams
from activities.egress.policy import Policy, Refused, Way
from activities.egress.traffic import PIECE, Exhausted, Flow, Meter, close, connect
from activities.egress.vault import Vault
from activities.ports.egress import EgressEvent, EgressSink, Tenant

MAX_CONNECTIONS = 200
"""Of one sandbox at a time."""
RATE = 50.0
"""Connections of one sandbox a second, in the long run: what floods the log would make it forget."""
BURST = 200
"""How many may come at once before that holds."""
HEAD_S = 20.0
"""Seconds for a request's head."""
REMEMBERED = 200
"""Refusals that are remembered, for the command that met them."""

_numbers = itertools.count(1)
_log = logging.getLogger(__name__)
_told: set[str] = set()


class Door:
    """Serves one sandbox until it is closed."""

    def __init__(
        self,
        tenant: Tenant,
        policy: Policy,
        sink: EgressSink,
        *,
        max_bytes: int | None = None,
        vault: Vault | None = None,
    ) -> None:
        """Judge by this policy, and tell every decision; put in the values of secrets that this vault has."""
        self.tenant = tenant
        self.policy = policy
        self.vault = vault
        self._sink = sink
        self._meter = Meter(max_bytes)
        self._server: asyncio.Server | None = None
        self._due = 0.0
        self._open: dict[asyncio.Task[None], _Visit] = {}
        self.ledger = Ledger()
        self._refusals: deque[tuple[float, str]] = deque(maxlen=REMEMBERED)

    async def open(self, listener: socket.socket) -> None:
        """Serve what connects to this socket."""
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=PIECE)

    async def close(self) -> None:
        """Listen no more, and end every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def change(self, policy: Policy) -> None:
        """Judge by this policy from now on; connections that it does not allow are cut."""
        self.policy = policy
        for task, visit in self._open.items():
            if visit.bound is not None and not policy.allows(*visit.bound):
                visit.cut = True
                task.cancel()

    def blocked(self, since: float) -> tuple[str, ...]:
        """What was blocked since a moment of `time.monotonic`, without repetition."""
        return tuple(dict.fromkeys(text for at, text in self._refusals if at >= since))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:  # pragma: no cover  # a stream's callback is a task
            return
        visit = self._open[task] = _Visit(self, reader, writer)
        task.add_done_callback(self._open.pop)
        try:
            # What a closed door does to its connections is no error of theirs.
            with contextlib.suppress(asyncio.CancelledError, OSError):
                if len(self._open) > MAX_CONNECTIONS:
                    await visit.turn_away()
                    return
                await asyncio.sleep(self._delay())
                await visit.run()
        except Exception as error:  # noqa: BLE001  # whatever it is, the others are served on
            # A mistake of ours that a sandbox may repeat at will: told once.
            if type(error).__name__ not in _told:
                _told.add(type(error).__name__)
                _log.exception("a connection of %s ended by a mistake of the proxy", self.tenant.sandbox_id[:12])
        finally:
            await close(writer)

    def _delay(self) -> float:
        """Seconds that the next connection has to wait."""
        now = asyncio.get_running_loop().time()
        self._due = max(self._due, now - BURST / RATE) + 1 / RATE
        return max(0.0, self._due - now)

    def tell(self, event: EgressEvent) -> None:
        """Tell an event."""
        event = replace(event, host=self._unseen(event.host), reason=self._unseen(event.reason))
        self._sink(event)
        self.ledger.note(event)

    def remember(self, refusal: Refused) -> None:
        """Keep what the policy forbade, for the command that met it."""
        if refusal.blocked:
            self._refusals.append((time.monotonic(), self._unseen(str(refusal))))

    def _unseen(self, text: str) -> str:
        return text if self.vault is None else self.vault.unseen(text)

    def flow(self) -> Flow:
        """For a new connection."""
        return Flow(self._meter)

    def afford(self, host: str) -> None:
        """Refused when the sandbox has no bytes left."""
        self._meter.check(host)


class _Visit:
    """One connection of the sandbox."""

    def __init__(self, door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._door = door
        self._reader = reader
        self._writer = writer
        self.bound: tuple[str, int] | None = None
        """Host and port that it is for, once they are known."""
        self.cut = False
        """Whether the rule that let it through was taken away."""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=plain.MAX_HEAD)
        self._event = EgressEvent(
            at=datetime.now(UTC),
            tenant=door.tenant,
            kind="decided",
            connection=next(_numbers),
            method="",
            host="",
            port=0,
            allowed=False,
            reason="",
        )

    async def turn_away(self) -> None:
        text = f"this computer has {MAX_CONNECTIONS} connections already"
        await say_no(self._http, self._writer, Refused(text, status=HTTPStatus.SERVICE_UNAVAILABLE))

    async def run(self) -> None:
        try:
            request = await self._request()
            if request is None:
                return
            await self._serve(request)
        except Refused as refusal:
            self._denied(refusal)
            await say_no(self._http, self._writer, refusal)

    async def _request(self) -> h11.Request | None:
        """The head of what is asked; None when the sandbox hung up before."""
        try:
            async with asyncio.timeout(HEAD_S):
                while (event := self._http.next_event()) is h11.NEED_DATA:
                    self._http.receive_data(await self._reader.read(PIECE))
        except TimeoutError:
            raise Refused("no request came in time", status=HTTPStatus.REQUEST_TIMEOUT) from None
        except h11.RemoteProtocolError as error:
            raise Refused(f"this is no HTTP request: {error}", status=HTTPStatus.BAD_REQUEST) from error
        return event if isinstance(event, h11.Request) else None

    async def _serve(self, request: h11.Request) -> None:
        path = b""
        if request.method == b"CONNECT":
            host, port = tunnel.authority(request.target)
        else:
            host, port, path = plain.target(request)
        method = request.method.decode("ascii")[:20]
        self._event = replace(self._event, method=method, host=host, port=port)
        self.bound = host, port
        self._door.afford(host)
        way = await self._door.policy.way(host, port)
        reader, writer, address = await connect(way)
        self._event = replace(self._event, address=address)
        flow = self._door.flow()
        opened = Opened.wanted(self._door.vault, way, flow, tls=not path)
        try:
            if path and opened is not None:
                client = (self._reader, self._writer, self._http)
                await self._opened(opened, opened.plain(client, request, path, (reader, writer)), flow)
            elif path:
                self._tell(allowed=True)
                await self._watched(self._exchange(request, way, path, (reader, writer), flow), flow)
            else:
                await self._tunnel(way, (reader, writer), flow, opened)
        finally:
            await close(writer)

    async def _tunnel(self, way: Way, server: Streams, flow: Flow, opened: Opened | None) -> None:
        self._writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await self._writer.drain()
        try:
            hello = await tunnel.greeting(way, self._reader, self._http.trailing_data[0])
        except Refused as refusal:
            self._denied(refusal)
            self._writer.write(tunnel.ACCESS_DENIED)
            await self._writer.drain()
            return
        if opened is not None:
            await self._opened(opened, opened.tunnel((self._reader, self._writer), hello, server), flow)
            return
        self._tell(allowed=True)
        await self._watched(self._pass_on(hello, server, flow), flow)

    async def _opened(self, opened: Opened, preparing: Coroutine[Any, Any, None], flow: Flow) -> None:
        """A request for a host of secrets: what it takes is told before any of it is sent."""
        try:
            await preparing
        except Refused as refusal:
            self._denied(refusal)
            await opened.refuse(refusal)
        else:
            self._event = replace(self._event, secrets=tuple(sorted(flow.secrets)))
            self._tell(allowed=True)
            await self._watched(opened.run(), flow)
        finally:
            await opened.close()

    async def _pass_on(self, hello: bytes, server: Streams, flow: Flow) -> str:
        try:
            flow.out(len(hello))
            server[1].write(hello)
            await tunnel.pump((self._reader, self._writer), server, flow)
        except Exhausted:
            return "the limit of bytes is used up"
        except ConnectionError:
            # Clients hang up like that once they have what they want.
            return ""
        except OSError as error:
            return f"a side broke off: {error}"
        return ""

    async def _exchange(self, request: h11.Request, way: Way, path: bytes, server: Streams, flow: Flow) -> str:
        exchange = plain.Exchange((self._reader, self._writer, self._http), server, flow)
        try:
            await exchange.run(request, way, path)
        except (Exhausted, OSError, h11.ProtocolError) as error:
            why = "the limit of bytes is used up" if isinstance(error, Exhausted) else f"a side broke off: {error}"
            if not exchange.answered and not isinstance(error, plain.HungUp):
                await say_no(self._http, self._writer, Refused(f"{way.host}: {why}", status=HTTPStatus.BAD_GATEWAY))
            return why
        return ""

    async def _watched(self, work: Coroutine[Any, Any, str], flow: Flow) -> None:
        """Let it run while something moves, and tell its end."""
        running = asyncio.ensure_future(work)
        idle = asyncio.ensure_future(flow.watch())
        why = "the sandbox's way out was closed"
        try:
            await asyncio.wait({running, idle}, return_when=asyncio.FIRST_COMPLETED)
            why = running.result() if running.done() else "nothing moved for long"
        finally:
            why = "cut: its rule was taken away" if self.cut else why
            for task in (running, idle):
                task.cancel()
            await asyncio.gather(running, idle, return_exceptions=True)
            self._event = replace(self._event, kind="ended", sent=flow.sent, received=flow.received)
            self._event = replace(self._event, secrets=tuple(sorted(flow.secrets)))
            self._tell(allowed=True, reason=why)

    def _denied(self, refusal: Refused) -> None:
        self._tell(allowed=False, reason=str(refusal))
        self._door.remember(refusal)

    def _tell(self, *, allowed: bool, reason: str = "") -> None:
        self._event = replace(self._event, at=datetime.now(UTC), allowed=allowed, reason=reason)
        self._door.tell(self._event)
