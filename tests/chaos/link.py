"""A TCP connection that can be cut: what a network partition is to a process."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

_PIECE = 65_536


class Link:
    """Passes connections to a loopback port on; while it is cut, nothing passes and nobody is told."""

    def __init__(self, port: int) -> None:
        """Prepare; nothing listens before `async with`."""
        self._port = port
        self._whole = asyncio.Event()
        self._whole.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Where it listens, `host:port`."""
        if self._server is None:
            raise RuntimeError("the link does not listen")
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Let nothing pass; connections stay open, as those over a broken cable do."""
        self._whole.clear()

    def mend(self) -> None:
        """Let everything pass again, what was on its way included."""
        self._whole.set()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, dropping what is open."""
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
        with contextlib.suppress(OSError):
            try:
                await self._whole.wait()
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
                ways = {
                    asyncio.ensure_future(self._pump(reader, far_writer)),
                    asyncio.ensure_future(self._pump(far_reader, writer)),
                }
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
            finally:
                for one in (writer, far_writer):
                    if one is not None:
                        one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_PIECE):
            await self._whole.wait()
            writer.write(data)
            await writer.drain()
