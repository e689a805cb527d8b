"""TLS over streams that are already open, at either end, with what was read of them before."""

import asyncio
import contextlib
import ssl
from typing import Protocol

from activities.egress.traffic import PIECE


class Source(Protocol):
    """Bytes that come."""

    async def read(self, n: int = -1, /) -> bytes:
        """The next ones; none at the end."""
        ...


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> None:
        """Take them."""
        ...

    async def drain(self) -> None:
        """Wait until there is room for more."""
        ...


class Tls:
    """One end of a TLS connection; is both its `Source` and its `Sink`."""

    def __init__(
        self,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        context: ssl.SSLContext,
        *,
        host: str | None = None,
        begun: bytes = b"",
    ) -> None:
        """Use these streams.

        Args:
            streams: The connection beneath.
            context: A client's or a server's.
            host: For a client, whom it wants to speak to.
            begun: What was read of the stream already.
        """
        self._reader, self._writer = streams
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=host is None, server_hostname=host)
        self._incoming.write(begun)

    async def handshake(self) -> None:
        """Agree with the other side.

        Raises:
            OSError: They do not agree, or it hung up.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError:
                # The other side is told why.
                await self._flush()
                raise
            else:
                await self._flush()
                return

    async def read(self, n: int = PIECE, /) -> bytes:
        """The next bytes; none at the end."""
        while True:
            try:
                return self._tls.read(n)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                # Where it ends is HTTP's to say.
                return b""

    def write(self, data: bytes, /) -> None:
        """Take bytes."""
        if data:
            self._tls.write(data)
        self._writer.write(self._outgoing.read())

    async def drain(self) -> None:
        """Wait until there is room for more."""
        await self._writer.drain()

    async def close(self) -> None:
        """Say that this is the end; the streams are closed by whoever opened them."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        # Whoever reads nothing is not waited for.
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self._flush()

    async def _flush(self) -> None:
        self._writer.write(self._outgoing.read())
        await self._writer.drain()

    async def _fill(self) -> None:
        data = await self._reader.read(PIECE)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
