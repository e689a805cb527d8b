"""The name a TLS client asks for, read by OpenSSL itself from the first bytes of its connection."""

import asyncio
import ssl

MAX_HELLO = 64 * 1024
"""Bytes of a ClientHello; with the largest keys of today it has a few thousand."""


class NoHello(Exception):
    """What came is no ClientHello of TLS 1.2 or later."""


async def read_hello(reader: asyncio.StreamReader, begun: bytes) -> tuple[bytes, str | None]:
    """Read a ClientHello: all that was read, and the server name in it; None when it has none.

    Args:
        reader: The client's side of the connection.
        begun: What was read of it already.

    Raises:
        NoHello: It is none, too long, or not whole at the end.
    """
    listening = _Listening()
    data = begun
    listening.feed(begun)
    while not listening.done:
        more = await reader.read(MAX_HELLO)
        data += more
        if not more or len(data) > MAX_HELLO:
            raise NoHello
        listening.feed(more)
    return data, listening.name


class _Listening:
    """The server's side of a handshake that is given up as soon as the client has said where it wants to go."""

    def __init__(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sni_callback = self._told
        self._incoming = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, ssl.MemoryBIO(), server_side=True)
        self.done = False
        self.name: str | None = None

    def feed(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            if not self.done:
                raise NoHello from error

    def _told(self, _tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int:
        self.done, self.name = True, name
        return ssl.ALERT_DESCRIPTION_ACCESS_DENIED
