"""The HTTP below a session with an MCP server: says of each request whether it was sent, and bounds what comes back.

The protocol's client ends the whole session, with all calls in flight, when one request meets a broken connection, and
does not tell which had been sent. Here each gets an answer of its own: a JSON-RPC error with one of the codes below.
"""

from collections.abc import AsyncIterator

import httpx2

NOT_SENT = -31_001
"""No connection: the server has not seen the request."""
REFUSED = -31_002
"""The server, or what stands before it, refused the request: 401, 403 and the like."""
SESSION_GONE = -31_003
"""The server does not know the session any more."""
NO_ANSWER = -31_004
"""The request was sent, and no usable answer came."""

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of one answer."""
_SESSION = "mcp-session-id"
_BAD_REQUEST, _NOT_FOUND, _SERVER_ERROR = 400, 404, 500


class TellingTransport(httpx2.AsyncBaseTransport):
    """Puts an answer in the place of a failure."""

    def __init__(self, inner: httpx2.AsyncBaseTransport | None = None) -> None:
        """Send through another transport."""
        # How many requests there are at a time is what the worker's slots allow.
        self._inner = inner or httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_connections=None))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See httpx."""
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TransportError as error:
            if request.method != "POST":
                raise
            unsent = isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout))
            return _told(503, NOT_SENT if unsent else NO_ANSWER, type(error).__name__)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            # None was asked for, and what is bounded is what is read, not what it is unpacked to.
            await response.aclose()
            if request.method != "POST":
                raise httpx2.RemoteProtocolError("the answer is compressed", request=request)
            return _told(502, NO_ANSWER, "the answer is compressed, which was not asked for")
        status = response.status_code
        if status == _NOT_FOUND and _SESSION in request.headers:
            await response.aclose()
            return _told(status, SESSION_GONE, "the session is gone")
        if status >= _BAD_REQUEST and not _is_json(response):
            await response.aclose()
            refused = status < _SERVER_ERROR
            return _told(status, REFUSED if refused else NO_ANSWER, f"HTTP {status}")
        if isinstance(response.stream, httpx2.AsyncByteStream) and _is_json(response):
            # A stream of events has a bound for each event.
            response.stream = _Bounded(response.stream)
        return response

    async def aclose(self) -> None:
        """See httpx."""
        await self._inner.aclose()


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for chunk in self._stream:
                size += len(chunk)
                if size > MAX_MESSAGE:
                    raise httpx2.StreamError(f"more than {MAX_MESSAGE} bytes")
                yield chunk
        except httpx2.TransportError as error:
            raise httpx2.StreamError(f"the connection was cut ({type(error).__name__})") from None

    async def aclose(self) -> None:
        await self._stream.aclose()


def _is_json(response: httpx2.Response) -> bool:
    return response.headers.get("content-type", "").lower().startswith("application/json")


def _told(status: int, code: int, message: str) -> httpx2.Response:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return httpx2.Response(status, json=error)
