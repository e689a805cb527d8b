"""The application: Temporal's remote codec protocol, `POST /decode` and `POST /encode`.

Temporal's command line has all that it sends sealed there, even of a query without arguments.
"""

from google.protobuf.json_format import MessageToDict, Parse, ParseError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from temporalio.api.common.v1 import Payloads

from hibernaut import __version__
from hibernaut.codec import PayloadDamaged, PayloadSealed, SealingCodec
from hibernaut.errors import HibernautError, InvalidRequest, MessageTooLarge
from workers.codec.settings import TOKEN, CodecSettings
from workers.gateway import problems
from workers.gateway.guard import Guard
from workers.settings import MEBIBYTE, Listen

MAX_BODY_BYTES = 32 * MEBIBYTE
"""Temporal's own messages have at most 4 MiB; in base64, and a page of a history, they are larger."""
_JSON_DEPTH = 10


class CodecServer:
    """Opens and seals for one namespace."""

    def __init__(self, settings: CodecSettings) -> None:
        """Use these keys."""
        self._settings = settings
        self._codec = SealingCodec(settings.keys, settings.namespace)

    def app(self) -> Starlette:
        """The ASGI application."""
        settings = self._settings
        # A browser's question whether it may ask bears no token: it is answered before the guard.
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["POST"],
            allow_headers=["Authorization", "Content-Type", "X-Namespace"],
        )
        if settings.token is not None:
            guard = Middleware(Guard, token=settings.token, variable=TOKEN)
        else:
            guard = Middleware(LoopbackAlone)
        return Starlette(
            routes=[
                Route("/healthz", _healthy),
                Route("/decode", self._decode, methods=["POST"]),
                Route("/encode", self._encode, methods=["POST"]),
            ],
            middleware=[cors, guard],
            exception_handlers={
                HibernautError: problems.hibernaut_error,
                HTTPException: problems.http_error,
                Exception: problems.unexpected,
            },
        )

    async def _decode(self, request: Request) -> Response:
        payloads = await self._asked(request)
        try:
            await self._codec.decode_wrapper(payloads)
        except (PayloadSealed, PayloadDamaged) as error:
            raise InvalidRequest(error.message, hint=error.hint) from error
        return _answer(payloads)

    async def _encode(self, request: Request) -> Response:
        payloads = await self._asked(request)
        await self._codec.encode_wrapper(payloads)
        return _answer(payloads)

    async def _asked(self, request: Request) -> Payloads:
        asked, served = request.headers.get("x-namespace", ""), self._settings.namespace
        if asked != served:
            raise InvalidRequest(
                f"This codec server is for payloads of the namespace {served!r}, and the header X-Namespace says "
                f"{asked[:80]!r}.",
                hint="Ask with that namespace, or run a codec server for the other one.",
            )
        payloads = Payloads()
        try:
            Parse(await _body(request), payloads, ignore_unknown_fields=True, max_recursion_depth=_JSON_DEPTH)
        except (ParseError, ValueError):
            # The error's own words may hold what was sent.
            raise InvalidRequest("The body is not the JSON of Temporal's Payloads.") from None
        return payloads


def _answer(payloads: Payloads) -> Response:
    return JSONResponse(MessageToDict(payloads), headers={"Cache-Control": "no-store"})


class LoopbackAlone:
    """ASGI middleware: without a token, only who asks for this machine by its own name is answered.

    A page of any site may give its own name the address 127.0.0.1, and would then count as of one origin with us.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is meant for this machine."""
        answer = self._app
        if scope["type"] == "http" and not _is_loopback(dict(scope["headers"]).get(b"host", b"").decode("latin-1")):
            answer = problems.problem(InvalidRequest("This codec server has no token, and answers to 127.0.0.1 alone."))
        await answer(scope, receive, send)


def _is_loopback(host: str) -> bool:
    name = host if host.endswith("]") or ":" not in host else host.rpartition(":")[0]
    return Listen(host=name.strip("[]"), port=0).loopback


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise MessageTooLarge(f"The body has more than {MAX_BODY_BYTES:,} bytes.")
    return bytes(body)


async def _healthy(_request: Request) -> Response:
    return JSONResponse({"status": "ok", "version": __version__})
