"""A connection to a host of secrets, opened by the proxy: one request with their values, its answer without."""

import asyncio
import contextlib
import ssl
from collections.abc import Iterable, Iterator
from http import HTTPStatus

import h11

from activities.egress import plain
from activities.egress.answers import say_no
from activities.egress.policy import Refused, Way, blocked
from activities.egress.scrubbing import Scrubber
from activities.egress.tls import Sink, Source, Tls
from activities.egress.traffic import CONNECT_S, PIECE, Exhausted, Flow
from activities.egress.vault import Swap, Vault
from hibernaut.models.secrets import TLS_PORT

HANDSHAKE_S = 20.0
HEAD_S = 20.0
BODY_S = 60.0
"""Seconds for a body that is read whole before it is sent on."""
SMALL = 256 * 1024
"""Bytes of such a body: its length is known when values are in it. A longer one is sent in chunks."""

_LEFT_OUT = frozenset(
    {
        b"a-im",
        b"accept-charset",
        b"accept-encoding",
        b"if-range",
        b"range",
        b"request-range",
        b"x-ms-range",
    }
)
"""What would bring an answer in which a value is not to be found: packed, in other letters, or in parts."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Opened:
    """One connection: prepared, then run."""

    def __init__(self, vault: Vault, swap: Swap, way: Way, flow: Flow) -> None:
        """Put in what this swap has."""
        self._vault = vault
        self._swap = swap
        self._way = way
        self._flow = flow
        self._ends: list[Tls] = []
        self._client: tuple[Source, Sink, h11.Connection] | None = None
        self._exchange: _Exchange | None = None

    @classmethod
    def wanted(cls, vault: Vault | None, way: Way, flow: Flow, *, tls: bool) -> "Opened | None":
        """One for a host that secrets are for; None for another."""
        swap = vault.swap(way.host, way.port, tls=tls) if vault is not None else None
        return cls(vault, swap, way, flow) if vault is not None and swap is not None else None

    async def tunnel(self, client: Streams, hello: bytes, server: Streams) -> None:
        """Be the host for the sandbox, and the sandbox for the host; then the request's head is there.

        Raises:
            Refused: The sandbox, the host or the request is not to be had; say it with `refuse`.
        """
        inside = Tls(client, self._vault.context(self._way.host), begun=hello)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await inside.handshake()
        except (OSError, TimeoutError) as error:
            why = f"the client does not trust the proxy's certificate, or hung up ({_said(error)})"
            raise Refused(f"{self._way.host}: {why}", status=HTTPStatus.BAD_GATEWAY) from error
        self._ends.append(inside)
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=plain.MAX_HEAD)
        self._client = (inside, inside, http)
        request = await self._head(inside, http)
        outside = Tls(server, self._vault.upstream, host=self._way.host)
        try:
            async with asyncio.timeout(CONNECT_S):
                await outside.handshake()
        except (OSError, TimeoutError) as error:
            why = f"the host cannot be verified by TLS, so that no secret is sent to it ({_said(error)})"
            raise Refused(f"{self._way.host}: {why}", status=HTTPStatus.BAD_GATEWAY) from error
        self._ends.append(outside)
        await self._prepare(request, bytes(request.target), (outside, outside), TLS_PORT)

    async def plain(
        self, client: tuple[Source, Sink, h11.Connection], request: h11.Request, path: bytes, server: Streams
    ) -> None:
        """The same for a request without TLS, whose head is there.

        Raises:
            Refused: The request is not to be had.
        """
        self._client = client
        await self._prepare(request, path, server, plain.HTTP_PORT)

    async def run(self) -> str:
        """Ask and answer; why it ended, when not in the usual way."""
        if self._exchange is None:  # pragma: no cover  # it was prepared
            return ""
        try:
            await self._exchange.go()
        except (Exhausted, Refused, OSError, h11.ProtocolError) as error:
            why = str(error) if isinstance(error, Refused) else f"a side broke off: {_said(error)}"
            why = "the limit of bytes is used up" if isinstance(error, Exhausted) else why
            if not self._exchange.answered:
                await self.refuse(Refused(f"{self._way.host}: {why}", status=HTTPStatus.BAD_GATEWAY))
            return why
        return ""

    async def refuse(self, refusal: Refused) -> None:
        """Say no where the client reads it."""
        if self._client is not None:
            _, sink, http = self._client
            with contextlib.suppress(OSError):
                await say_no(http, sink, refusal)

    async def close(self) -> None:
        """End what was begun; the streams beneath stay."""
        for end in self._ends:
            await end.close()

    async def _head(self, source: Source, http: h11.Connection) -> h11.Request:
        try:
            async with asyncio.timeout(HEAD_S):
                while (event := http.next_event()) is h11.NEED_DATA:
                    http.receive_data(await source.read(PIECE))
        except (OSError, TimeoutError) as error:
            raise Refused("no request came in time", status=HTTPStatus.REQUEST_TIMEOUT) from error
        except h11.RemoteProtocolError as error:
            raise Refused(f"this is no HTTP/1.1 request: {error}", status=HTTPStatus.BAD_REQUEST) from error
        if not isinstance(event, h11.Request):
            raise Refused("the client hung up before it asked", status=HTTPStatus.BAD_REQUEST)
        hosts = [value for name, value in event.headers if name == b"host"]
        if not event.target.startswith(b"/") and event.target != b"*":
            raise Refused("the address of the request must be a path", status=HTTPStatus.BAD_REQUEST)
        if any(plain.authority(value, TLS_PORT) != (self._way.host, self._way.port) for value in hosts):
            raise blocked(
                hosts[0].decode("latin-1")[:80], f"named as the Host, where the tunnel was asked for {self._way.host}"
            )
        return event

    async def _prepare(self, request: h11.Request, path: bytes, server: tuple[Source, Sink], default_port: int) -> None:
        if self._client is None:  # pragma: no cover  # who asks is known by now
            return
        upgrades = [value.strip().lower() for name, value in request.headers if name == b"upgrade"]
        if any(value != b"h2c" for value in upgrades):
            raise blocked(
                self._way.host, "secrets are for it, and an upgraded connection such as a WebSocket cannot be looked at"
            )
        self._exchange = _Exchange(self._client, server, self._flow, self._vault, self._swap)
        self._exchange.default_port = default_port
        try:
            async with asyncio.timeout(BODY_S):
                await self._exchange.prepare(request, self._way, path)
        except TimeoutError as error:
            raise Refused("the request's body did not come in time", status=HTTPStatus.REQUEST_TIMEOUT) from error
        except (OSError, h11.ProtocolError) as error:
            raise Refused(f"the request broke off: {_said(error)}", status=HTTPStatus.BAD_REQUEST) from error


class _Exchange(plain.Exchange):
    """Puts values into what is asked, and takes them out of what is answered."""

    def __init__(
        self,
        client: tuple[Source, Sink, h11.Connection],
        server: tuple[Source, Sink],
        flow: Flow,
        vault: Vault,
        swap: Swap,
    ) -> None:
        super().__init__(client, server, flow)
        self._vault = vault
        self._swap = swap
        self._used = flow.secrets
        self._parts: list[h11.Event] | None = None
        """Of a body that was read whole, what is sent on."""
        self._request: tuple[h11.Request, Way, bytes]

    async def prepare(self, request: h11.Request, way: Way, path: bytes) -> None:
        """Everything that can be known before the first byte is sent: which values that takes, for one."""
        fields = dict(request.headers)
        self._body = self._swap.body(fields.get(b"content-type", b""))
        self._scrubber = Scrubber(self._vault.scrubbed, asked=request.method)
        chunked = b"transfer-encoding" in fields
        length = None if chunked else fields.get(b"content-length")
        left_out = _LEFT_OUT | frozenset({b"content-length"} if chunked else ())
        headers = [
            (name, self._swap.header(name, value, self._used))
            for name, value in request.headers
            if name not in left_out
        ]
        if length is not None and int(length) <= SMALL:
            body = await self._whole()
            self._parts = [*([h11.Data(data=body)] if body else []), h11.EndOfMessage()]
            headers = [(name, b"%d" % len(body) if name == b"content-length" else value) for name, value in headers]
        elif length is not None:
            headers = [(name, value) for name, value in headers if name != b"content-length"]
            headers.append((b"transfer-encoding", b"chunked"))
        headers.append((b"accept-encoding", b"identity"))
        if b"host" not in fields:
            headers.append(_HOST)
        path = self._swap.address(path, self._used)
        self._request = (h11.Request(method=request.method, target=path, headers=headers), way, path)

    async def go(self) -> None:
        """Ask, and hand the answer back."""
        await self.run(*self._request)

    async def _whole(self) -> bytes:
        parts: list[bytes] = []
        while isinstance(event := await self._next(), h11.Data):
            parts.append(self._body.feed(bytes(event.data)))
        parts.append(self._body.feed(b"", last=True))
        self._used |= self._swap.names(self._body.used)
        return b"".join(parts)

    async def _ask(self) -> None:
        if self._parts is None:
            await super()._ask()
            return
        for one in self._parts:
            await self._send(one)
        await self._stay()

    def _asked(self, event: h11.Data | h11.EndOfMessage) -> Iterator[h11.Event]:
        last = isinstance(event, h11.EndOfMessage)
        data = self._body.feed(b"" if isinstance(event, h11.EndOfMessage) else bytes(event.data), last=last)
        self._used |= self._swap.names(self._body.used)
        if data:
            yield h11.Data(data=data)
        if last:
            yield h11.EndOfMessage()

    def _answer_head(self, response: h11.Response) -> h11.Response:
        # As the host has sent it: what `Connection` lists is left out afterwards, and may be how it is packed.
        return super()._answer_head(self._scrubber.head(response))

    def _answered(self, event: h11.Data | h11.EndOfMessage) -> Iterable[h11.Event]:
        last = isinstance(event, h11.EndOfMessage)
        data = b"" if isinstance(event, h11.EndOfMessage) else bytes(event.data)
        for piece in self._scrubber.body(data, last=last):
            yield h11.Data(data=piece)
        if last:
            yield h11.EndOfMessage()


_HOST = (b"host", b"written.anew")
"""A request without one is none; which one it is sent with, the way says."""


def _said(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return str(error.reason or error)
    if isinstance(error, h11.ProtocolError):
        # Its own words repeat what came, in which a value may be.
        return "what it says is no HTTP/1.1"
    return "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
