"""The HTTP server: both wires, streaming and not, and a record of every request."""

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from examples.scripted_model import write_chat, write_responses
from examples.scripted_model.check_chat import check_chat
from examples.scripted_model.check_responses import check_responses
from examples.scripted_model.conversation import Conversation, from_chat, from_responses
from examples.scripted_model.director import directors
from examples.scripted_model.steps import CutStream, Garbage, Hang, HttpError, Reply, Script, Step
from examples.scripted_model.typed import ApiError

_SSE = "text/event-stream; charset=utf-8"


@dataclass(slots=True)
class Recorded:
    """A request that came in, and what it was answered with."""

    path: str
    headers: Mapping[str, str]
    body: Any
    conversation: Conversation | None = None
    step: Step | None = None
    status: int = 200
    error: str | None = None


class StreamCutError(Exception):
    """Raised in the middle of a response so that the connection breaks."""


class ScriptedApp:
    """The application of one or several scripts."""

    def __init__(self, script: Script | Mapping[str, Script], *, model: str, api_key: str) -> None:
        self._directors = directors(script, model)
        self._key = api_key
        self.requests: list[Recorded] = []
        self.asgi = Starlette(
            routes=[
                Route("/v1/responses", self._responses, methods=["POST"]),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/models", self._models, methods=["GET"]),
                Route("/healthz", _healthy, methods=["GET"]),
            ]
        )

    def assert_consumed(self) -> None:
        """Raise AssertionError, naming them, when steps were never given."""
        left = [f"{name}: {step}" for name, director in self._directors.items() for step in director.unplayed()]
        if left:
            raise AssertionError("steps nobody asked for:\n  " + "\n  ".join(left))

    async def _models(self, request: Request) -> Response:
        try:
            self._authorize(request)
        except ApiError as error:
            return JSONResponse(error.body(), error.status)
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "script"} for name in self._directors]
        return JSONResponse({"object": "list", "data": data})

    async def _responses(self, request: Request) -> Response:
        return await self._answer(request, chat=False)

    async def _chat(self, request: Request) -> Response:
        return await self._answer(request, chat=True)

    async def _answer(self, request: Request, *, chat: bool) -> Response:
        hidden = {name: "***" if name == "authorization" else value for name, value in request.headers.items()}
        recorded = Recorded(request.url.path, hidden, None)
        self.requests.append(recorded)
        try:
            self._authorize(request)
            recorded.body = body = await _body(request)
            name = str(body.get("model"))
            if name not in self._directors:
                message = f"The model '{name}' does not exist or you do not have access to it."
                raise ApiError(404, message, code="model_not_found", param="model")
            recorded.conversation = conversation = (
                from_chat(name, check_chat(body)) if chat else from_responses(name, check_responses(body))
            )
            recorded.step = step = self._directors[name].next(conversation)
        except ApiError as error:
            recorded.status, recorded.error = error.status, error.message
            return JSONResponse(error.body(), error.status, {"x-request-id": f"req_{len(self.requests)}"})
        return await _perform(step, conversation, body, recorded)

    def _authorize(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        if not given:
            message = "You didn't provide an API key in an Authorization header using Bearer auth."
            raise ApiError(401, message, code="invalid_api_key")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._key}".encode()):
            shown = given.removeprefix("Bearer ")
            raise ApiError(401, f"Incorrect API key provided: {shown[:3]}***.", code="invalid_api_key")


async def _healthy(request: Request) -> Response:  # noqa: ARG001  # the route's signature
    return JSONResponse({"status": "ok"})


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ApiError(400, "We could not parse the JSON body of your request.")
    return cast("dict[str, Any]", body)


async def _perform(step: Step, conversation: Conversation, body: dict[str, Any], recorded: Recorded) -> Response:
    match step:
        case HttpError():
            recorded.status = step.status
            content = step.body if step.body is not None else ApiError(step.status, "The script says so.").body()
            return JSONResponse(content, step.status, dict(step.headers))
        case Hang():
            await asyncio.sleep(step.seconds)
            recorded.status = 504
            return JSONResponse(ApiError(504, "The script has hung.").body(), 504)
        case Garbage():
            return Response(step.body, media_type=step.content_type)
        case CutStream():
            return StreamingResponse(_cut(step, _frames(step.reply, conversation, body)), media_type=_SSE)
        case Reply():
            if body.get("stream"):
                return StreamingResponse(_paced(_frames(step, conversation, body), step.delay), media_type=_SSE)
            write = write_chat.completion if conversation.wire == "chat" else write_responses.response
            return JSONResponse(write(step, conversation, body))


def _frames(reply: Reply, conversation: Conversation, body: dict[str, Any]) -> Iterator[bytes]:
    if conversation.wire == "chat":
        for chunk in write_chat.chunks(reply, conversation, body):
            yield f"data: {json.dumps(chunk)}\n\n".encode()
        yield b"data: [DONE]\n\n"
    else:
        for event in write_responses.events(reply, conversation, body):
            yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


async def _paced(frames: Iterator[bytes], delay: float) -> AsyncIterator[bytes]:
    for frame in frames:
        yield frame
        if delay and b"delta" in frame:
            await asyncio.sleep(delay)


async def _cut(step: CutStream, frames: Iterator[bytes]) -> AsyncIterator[bytes]:
    left = step.after_bytes
    for frame in frames:
        yield frame[:left]
        left -= len(frame)
        if left <= 0:
            break
    if not step.clean:
        # Let what was written leave the socket before the connection is dropped.
        await asyncio.sleep(0.05)
        raise StreamCutError
