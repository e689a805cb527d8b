"""The HTTP below a session: what is told of each request, and what of an answer is taken."""

import gzip
from collections.abc import AsyncIterator

import httpx2
import pytest

from activities.adapters.mcp_http import MAX_MESSAGE, NO_ANSWER, NOT_SENT, REFUSED, SESSION_GONE, TellingTransport


def _raises(error: type[httpx2.TransportError]) -> httpx2.MockTransport:
    def handle(request: httpx2.Request) -> httpx2.Response:
        raise error("no", request=request)

    return httpx2.MockTransport(handle)


def _answers(status: int, *, content: bytes = b"{}", kind: str = "text/html") -> httpx2.MockTransport:
    return httpx2.MockTransport(
        lambda _: httpx2.Response(status, headers={"content-type": kind}, stream=httpx2.ByteStream(content))
    )


@pytest.mark.parametrize(("inner", "code"), [
    (_raises(httpx2.ConnectError), NOT_SENT),
    (_raises(httpx2.ConnectTimeout), NOT_SENT),
    (_raises(httpx2.PoolTimeout), NOT_SENT),
    (_raises(httpx2.ReadError), NO_ANSWER),
    (_raises(httpx2.WriteError), NO_ANSWER),
    (_raises(httpx2.RemoteProtocolError), NO_ANSWER),
    (_answers(404, kind="application/json"), SESSION_GONE),
    (_answers(401), REFUSED),
    (_answers(429), REFUSED),
    (_answers(502), NO_ANSWER),
])  # fmt: skip
async def test_each_request_is_told_whether_it_was_sent(inner: httpx2.AsyncBaseTransport, code: int) -> None:
    async with httpx2.AsyncClient(transport=TellingTransport(inner)) as client:
        answer = await client.post("http://x/mcp", headers={"mcp-session-id": "1"}, json={})
    assert answer.json()["error"]["code"] == code
    assert answer.status_code >= 400


async def test_what_is_no_failure_passes_and_has_a_bound() -> None:
    async with httpx2.AsyncClient(transport=TellingTransport(_answers(200, kind="application/json"))) as client:
        assert (await client.post("http://x/mcp")).json() == {}
    async with httpx2.AsyncClient(transport=TellingTransport(_answers(400, kind="application/json"))) as client:
        assert (await client.post("http://x/mcp")).json() == {}
    endless = _answers(200, content=b"x" * (MAX_MESSAGE + 1), kind="application/json")
    async with httpx2.AsyncClient(transport=TellingTransport(endless)) as client:
        with pytest.raises(httpx2.StreamError):
            await client.post("http://x/mcp")
    async with httpx2.AsyncClient(transport=TellingTransport(_raises(httpx2.ReadError))) as client:
        with pytest.raises(httpx2.ReadError):
            await client.get("http://x/mcp")


async def test_what_is_compressed_is_not_unpacked() -> None:
    """A megabyte of it may be a gigabyte."""
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    inner = httpx2.MockTransport(
        lambda _: httpx2.Response(200, headers=headers, stream=httpx2.ByteStream(gzip.compress(b"{}")))
    )
    async with httpx2.AsyncClient(transport=TellingTransport(inner)) as client:
        answer = await client.post("http://x/mcp")
        assert answer.json()["error"]["code"] == NO_ANSWER
        with pytest.raises(httpx2.RemoteProtocolError, match="compressed"):
            await client.get("http://x/mcp")


class Cut(httpx2.AsyncByteStream):
    """Ends in the midst."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"{"
        raise httpx2.ReadError("cut")


async def test_an_answer_that_is_cut_is_no_end_of_the_session() -> None:
    """The package takes a `StreamError` for a fault of one answer, and everything else for one of the connection."""
    inner = httpx2.MockTransport(
        lambda _: httpx2.Response(200, headers={"content-type": "application/json"}, stream=Cut())
    )
    async with httpx2.AsyncClient(transport=TellingTransport(inner)) as client:
        with pytest.raises(httpx2.StreamError, match="ReadError"):
            await client.post("http://x/mcp")
