"""Bytes on their way: counted against the sandbox's limit, and given up when nothing moves for long."""

import asyncio
import contextlib
from http import HTTPStatus

from activities.egress.policy import Refused, Way, blocked

CONNECT_S = 10.0
"""Seconds for each address."""
IDLE_S = 900.0
"""Seconds without a byte in either direction after which a connection is closed."""
PIECE = 64 * 1024


class Exhausted(Exception):
    """The sandbox has used up its bytes."""


class Meter:
    """Counts all bytes of one sandbox."""

    def __init__(self, limit: int | None) -> None:
        """Allow so many bytes in both directions together; None: any number."""
        self._limit = limit
        self.used = 0

    @property
    def exhausted(self) -> bool:
        """Whether nothing more may pass."""
        return self._limit is not None and self.used >= self._limit

    def count(self, size: int) -> None:
        """Count bytes before they are handed on; Exhausted when they are too many."""
        self.used += size
        if self._limit is not None and self.used > self._limit:
            raise Exhausted

    def check(self, host: str) -> None:
        """Refuse a further connection when there is nothing left.

        Raises:
            Refused: The bytes are used up.
        """
        if self.exhausted:
            raise blocked(host, f"this computer's limit of {self._limit} bytes is used up")


class Flow:
    """What passed through one connection."""

    def __init__(self, meter: Meter) -> None:
        """Count against this limit."""
        self._meter = meter
        self.sent = 0
        """Bytes from the sandbox."""
        self.received = 0
        """Bytes to the sandbox."""
        self.secrets: set[str] = set()
        """Names of the secrets whose values were put in."""
        self._moved = asyncio.get_running_loop().time()

    def out(self, size: int) -> None:
        """Bytes that the sandbox sent; Exhausted when they are too many."""
        self.sent += size
        self._move(size)

    def back(self, size: int) -> None:
        """Bytes for the sandbox; the same."""
        self.received += size
        self._move(size)

    def _move(self, size: int) -> None:
        self._moved = asyncio.get_running_loop().time()
        self._meter.count(size)

    async def watch(self, patience: float = IDLE_S) -> None:
        """Return when nothing has moved for so many seconds."""
        loop = asyncio.get_running_loop()
        while (left := self._moved + patience - loop.time()) > 0:  # noqa: ASYNC110  # it is time itself that is waited for
            await asyncio.sleep(left)


async def connect(way: Way) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """Connect to the first address that answers, which is returned too.

    Raises:
        Refused: None does.
    """
    why = ""
    for address in way.addresses:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(address, way.port, limit=PIECE)
        except (OSError, TimeoutError) as error:
            why = f"{address}: {'no answer in time' if isinstance(error, TimeoutError) else error.strerror or error}"
        else:
            return reader, writer, address
    raise Refused(f"cannot connect to {way.host}:{way.port}: {why}", status=HTTPStatus.BAD_GATEWAY)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close one side, whatever state it is in."""
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
