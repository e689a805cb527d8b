"""CONNECT: a TLS connection to the very name it was allowed for, passed on as it is."""

import asyncio
import contextlib
from collections.abc import Callable
from http import HTTPStatus

from activities.egress.hello import NoHello, read_hello
from activities.egress.policy import Refused, Way, blocked
from activities.egress.traffic import PIECE, Flow
from hibernaut.models.network import as_address, as_host

HELLO_S = 20.0
"""Seconds a client may take for its first message; some make their keys meanwhile."""
LEFT_S = 60.0
"""Seconds without a byte after which a tunnel ends whose client has ended its side: a host that hangs never would."""
ACCESS_DENIED = bytes.fromhex("15 03 03 00 02 02 31")
"""A fatal TLS alert: the client reports it as such, not as a broken connection."""


def authority(raw: bytes) -> tuple[str, int]:
    """Host and port of a CONNECT.

    Raises:
        Refused: It has none.
    """
    host, _, port = raw.decode("ascii", "replace").rpartition(":")
    known = as_host(host)
    if known is None or not port.isdecimal() or not 0 < int(port) <= 65_535 or len(port) > 5:  # noqa: PLR2004
        raise Refused("CONNECT needs host:port", status=HTTPStatus.BAD_REQUEST)
    return known, int(port)


async def greeting(way: Way, reader: asyncio.StreamReader, begun: bytes) -> bytes:
    """The client's first message, once it is certain that it asks for the host that was allowed.

    Raises:
        Refused: It asks for another one, or does not say, or does not speak TLS.
    """
    try:
        async with asyncio.timeout(HELLO_S):
            data, name = await read_hello(reader, begun)
    except (NoHello, TimeoutError) as error:
        raise blocked(way.host, "a tunnel must begin with TLS 1.2 or later") from error
    # A client does not name an address: there is nothing to compare.
    if name is None and as_address(way.host) is None:
        raise blocked(way.host, "the TLS connection names no host (SNI)")
    if name is not None and as_host(name) != way.host:
        raise blocked(as_host(name) or "a host", f"named in TLS (SNI), where the tunnel was asked for {way.host}")
    return data


async def pump(
    client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    flow: Flow,
) -> None:
    """Pass bytes both ways until both sides have ended, or the client has and nothing moves.

    Raises:
        Exhausted: The sandbox has used up its bytes.
        OSError: A side broke.
    """
    out = asyncio.create_task(_one_way(client[0], server[1], flow.out))
    back = asyncio.create_task(_one_way(server[0], client[1], flow.back))
    tasks = [out, back]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in tasks:
            if one.done():
                one.result()
        if not out.done():
            await out
        elif not back.done():
            tasks.append(asyncio.create_task(flow.watch(LEFT_S)))
            await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED)
            if back.done():
                back.result()
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _one_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[int], None]) -> None:
    while data := await reader.read(PIECE):
        count(len(data))
        writer.write(data)
        await writer.drain()
    # Whoever is gone already needs not be told.
    with contextlib.suppress(OSError):
        writer.write_eof()
