"""A way to the S3 server that can be made slow, cut in mid-upload, or answer errors.

Bytes pass unchanged: a request's signature covers its Host header, and the server takes the one the client signed.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Self

_PIECE = 65_536
_HEAD_LIMIT = 1 << 20
_LINGER_S = 0.5


@dataclass(frozen=True, slots=True)
class Request:
    """What of a request a rule can go by."""

    method: str
    path: str

    @property
    def writes(self) -> bool:
        """Whether it brings bytes."""
        return self.method in {"PUT", "POST"}

    @property
    def of_snapshots(self) -> bool:
        """Whether it is about packs and manifests."""
        return "/snapshots/packs/" in self.path or "/snapshots/manifests/" in self.path


@dataclass
class Rule:
    """What happens to the requests that match, as often as `times` says."""

    match: Callable[[Request], bool] = lambda _: True
    times: int | None = None
    """How many requests it is for; None for all."""
    status: int | None = None
    """Answer with this HTTP status instead of passing it on."""
    delay: float = 0.0
    """Seconds to wait before passing it on."""
    hold: bool = False
    """Pass it on only once the rule is removed."""
    cut_after: int | None = None
    """Drop both connections after so many bytes of the request's body."""
    hits: int = 0
    """Requests it was applied to."""
    met: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with the first."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is removed."""

    def applies(self, request: Request) -> bool:
        """Whether it is for this request; counts it then."""
        if (self.times is not None and self.hits >= self.times) or not self.match(request):
            return False
        self.hits += 1
        self.met.set()
        return True


class _Cut(Exception):
    """Both connections are to be dropped."""


class StoreProxy:
    """Listens on a loopback port in front of an S3 server on another."""

    def __init__(self, upstream_port: int) -> None:
        """Prepare; nothing listens before `async with`."""
        self._upstream = upstream_port
        self._rules: list[Rule] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The endpoint to give to a client."""
        if self._server is None:
            raise RuntimeError("the proxy does not listen")
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def add(self, rule: Rule) -> Rule:
        """Apply a rule from now on; of several that match, the first."""
        self._rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Apply it no more; what it holds is passed on."""
        if rule in self._rules:
            self._rules.remove(rule)
        rule.ended.set()

    def mend(self) -> None:
        """Remove every rule."""
        for rule in list(self._rules):
            self.remove(rule)

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_HEAD_LIMIT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, dropping what is open."""
        self.mend()
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_writer: asyncio.StreamWriter | None = None
        answers: asyncio.Task[None] | None = None
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._upstream, limit=_HEAD_LIMIT)
            answers = asyncio.create_task(_pump(far_reader, writer))
            while await self._pass(reader, writer, far_writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, _Cut):
            pass
        finally:
            if answers is not None:
                answers.cancel()
                await asyncio.gather(answers, return_exceptions=True)
            for one in (writer, far_writer):
                if one is not None:
                    # Aborted, not closed: a client in the middle of an upload sees the connection break.
                    one.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, far_writer: asyncio.StreamWriter
    ) -> bool:
        """One request; False when the connection is to end."""
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        request = Request(method, path)
        rule = next((rule for rule in self._rules if rule.applies(request)), None)
        if rule is not None and rule.delay:
            await asyncio.sleep(rule.delay)
        if rule is not None and rule.hold:
            await rule.ended.wait()
        if rule is not None and rule.status is not None:
            writer.write(_answer(rule.status))
            await writer.drain()
            # What is still on its way is taken in, or the answer would be lost to a reset.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    while await reader.read(_PIECE):
                        pass
            return False
        if re.search(rb"(?i)\r\ntransfer-encoding:", head):
            raise RuntimeError(f"{method} {path} is sent in chunks, which this proxy cannot count")
        far_writer.write(head)
        await _body(head, reader, far_writer, rule.cut_after if rule is not None else None)
        return True


async def _body(
    head: bytes, reader: asyncio.StreamReader, far_writer: asyncio.StreamWriter, cut_after: int | None
) -> None:
    """Pass a request's body on, or its beginning and no more."""
    found = re.search(rb"(?i)\r\ncontent-length:\s*(\d+)", head)
    size = int(found[1]) if found else 0
    left = size if cut_after is None else min(size, cut_after)
    while left:
        piece = await reader.read(min(left, _PIECE))
        if not piece:
            raise _Cut
        left -= len(piece)
        far_writer.write(piece)
        await far_writer.drain()
    if cut_after is not None:
        raise _Cut


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()
        writer.close()


def _answer(status: int) -> bytes:
    code = "SlowDown" if status == HTTPStatus.SERVICE_UNAVAILABLE else "InternalError"
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>no</Message></Error>'.encode()
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body
