"""Streaming answers that can still fail with a status: nothing is sent before the first bytes are there."""

import json
from collections.abc import AsyncGenerator, AsyncIterator

from starlette.responses import StreamingResponse

from hibernaut.models.base import Open

NDJSON = "application/x-ndjson"


async def primed(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Read the first chunk now, so that what fails at once fails before the headers; then stream all."""
    try:
        first = await anext(chunks)
    except StopAsyncIteration:
        return _nothing()
    return _chain(first, chunks)


async def streamed(
    chunks: AsyncIterator[bytes], media_type: str = "application/octet-stream", headers: dict[str, str] | None = None
) -> StreamingResponse:
    """A streaming answer. A failure in the middle breaks the connection off, which no client takes for the end."""
    return StreamingResponse(await primed(chunks), media_type=media_type, headers=headers)


def ndjson(value: Open) -> bytes:
    """One line of newline-delimited JSON."""
    return json.dumps(value.model_dump(mode="json")).encode() + b"\n"


async def _nothing() -> AsyncGenerator[bytes]:
    for chunk in ():
        yield chunk


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
