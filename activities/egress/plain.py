"""Plain HTTP: one request, written anew for the host it was allowed for, and its answer."""

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlsplit

import h11

from activities.egress.policy import Refused, Way
from activities.egress.tls import Sink, Source
from activities.egress.traffic import PIECE, Exhausted, Flow
from hibernaut.models.network import as_host

MAX_HEAD = 64 * 1024
"""Bytes of a request's or an answer's head."""
HTTP_PORT = 80

_HOP = frozenset(
    {
        b"connection",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
    }
)
"""Headers between two neighbours, and what is written anew."""
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
"""They say where a message ends: nobody has them left out."""

Headers = list[tuple[bytes, bytes]]


def target(request: h11.Request) -> tuple[str, int, bytes]:
    """Host, port and path that a request asks for.

    Raises:
        Refused: It is no request for a proxy, or names two hosts.
    """
    try:
        parts = urlsplit(request.target.decode("ascii"))
        port = parts.port or HTTP_PORT
        host = as_host(parts.hostname or "")
    except ValueError:
        raise Refused("the address of the request cannot be read", status=HTTPStatus.BAD_REQUEST) from None
    if parts.scheme != "http" or host is None or "@" in parts.netloc:
        raise Refused("this is a proxy for http://host/path and CONNECT host:port", status=HTTPStatus.BAD_REQUEST)
    for name, value in request.headers:
        if name == b"host" and authority(value, HTTP_PORT) != (host, port):
            said = value.decode("latin-1")[:80]
            raise Refused(
                f"blocked by policy: the Host header {said!r} is not the host {host} of the request's address",
                status=HTTPStatus.FORBIDDEN,
                blocked=True,
            )
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    return host, port, path.encode("ascii")


def authority(value: bytes, default: int) -> tuple[str | None, int] | None:
    """Host and port of a Host header; None when it has none."""
    try:
        parts = urlsplit(f"//{value.decode('ascii')}")
        return as_host(parts.hostname or ""), parts.port or default
    except ValueError:
        return None


class HungUp(ConnectionAbortedError):
    """The client has gone before it was answered."""


class Exchange:
    """One request and its answer, between a client and the host it was allowed for."""

    default_port = HTTP_PORT
    """The one that a Host header leaves out."""

    def __init__(self, client: tuple[Source, Sink, h11.Connection], server: tuple[Source, Sink], flow: Flow) -> None:
        """Use these streams; the client's connection has just given its request."""
        self._client = client
        self._server = (*server, h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD))
        self._flow = flow
        self.answered = False
        """Whether the client was sent the beginning of an answer."""

    async def run(self, request: h11.Request, way: Way, path: bytes) -> None:
        """Ask, and hand the answer back.

        Raises:
            Exhausted: The sandbox has used up its bytes.
            OSError: A side broke.
            h11.ProtocolError: A side does not speak HTTP.
        """
        await self._send(self._anew(request, way, path))
        asking = asyncio.create_task(self._ask())
        try:
            await self._answer(asking)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    def _anew(self, request: h11.Request, way: Way, path: bytes) -> h11.Request:
        """The request as it is sent on."""
        host = f"[{way.host}]" if ":" in way.host else way.host
        host = host if way.port == self.default_port else f"{host}:{way.port}"
        headers = [(b"Host", host.encode("ascii")), *_passed(request.headers), (b"Connection", b"close")]
        return h11.Request(method=request.method, target=path, headers=headers)

    async def _ask(self) -> None:
        """The request's body."""
        while True:
            event = await self._next()
            for one in self._asked(event):
                await self._send(one)
            if isinstance(event, h11.EndOfMessage):
                break
        await self._stay()

    async def _stay(self) -> None:
        """Return when the client says more than it was to say.

        Raises:
            HungUp: It is gone: a host that never answers would keep the connection, of which there are so many.
        """
        reader, _, connection = self._client
        if not connection.trailing_data[0] and not await reader.read(1):
            raise HungUp("the client hung up")

    async def _next(self) -> h11.Data | h11.EndOfMessage:
        """What comes next of the request's body."""
        reader, writer, connection = self._client
        while True:
            if connection.they_are_waiting_for_100_continue:
                go_on = connection.send(h11.InformationalResponse(status_code=100, headers=[]))
                writer.write(go_on or b"")
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(PIECE))
            elif isinstance(event, h11.Data | h11.EndOfMessage):
                return event
            else:
                raise ConnectionAbortedError

    def _asked(self, event: h11.Data | h11.EndOfMessage) -> Iterable[h11.Event]:
        """What is sent on for a part of the request's body."""
        return (event if isinstance(event, h11.Data) else h11.EndOfMessage(),)

    def _answered(self, event: h11.Data | h11.EndOfMessage) -> Iterable[h11.Event]:
        """What is handed back for a part of the answer's body."""
        return (event if isinstance(event, h11.Data) else h11.EndOfMessage(),)

    def _answer_head(self, response: h11.Response) -> h11.Response:
        """The head of the answer as it is handed back."""
        headers = [*_passed(response.headers), (b"Connection", b"close")]
        return h11.Response(status_code=response.status_code, reason=response.reason, headers=headers)

    async def _send(self, event: h11.Event) -> None:
        _, writer, connection = self._server
        data = connection.send(event) or b""
        self._flow.out(len(data))
        writer.write(data)
        await writer.drain()

    async def _answer(self, asking: asyncio.Task[None]) -> None:
        """The answer, which may come before the request's end."""
        reader, _, connection = self._server
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await self._read(reader, asking))
            elif isinstance(event, h11.Response):
                head = self._answer_head(event)
                self.answered = True
                await self._give(head)
            elif isinstance(event, h11.Data | h11.EndOfMessage):
                for one in self._answered(event):
                    await self._give(one)
                if isinstance(event, h11.EndOfMessage):
                    return
            elif not isinstance(event, h11.InformationalResponse):
                raise ConnectionAbortedError

    async def _read(self, reader: Source, asking: asyncio.Task[None]) -> bytes:
        """The next bytes of the answer; what ails the request ends the wait for it."""
        reading = asyncio.ensure_future(reader.read(PIECE))
        try:
            await asyncio.wait({reading, asking}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done() and isinstance(fault := asking.exception(), h11.ProtocolError | Exhausted | HungUp):
                raise fault
            # A host that takes no more of the request may still answer it.
            return await reading
        finally:
            reading.cancel()

    async def _give(self, event: h11.Event) -> None:
        _, writer, connection = self._client
        data = connection.send(event) or b""
        self._flow.back(len(data))
        writer.write(data)
        await writer.drain()


def _passed(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers that go on to the other side."""
    headers = list(headers)
    listed = {name.strip().lower() for key, value in headers if key == b"connection" for name in value.split(b",")}
    left_out = _HOP | (listed - _FRAMING)
    if any(name == b"transfer-encoding" for name, _ in headers):
        # Who goes by the length would see a second request, for any host, where the chunks go on.
        left_out |= {b"content-length"}
    return [(name, value) for name, value in headers if name not in left_out]
