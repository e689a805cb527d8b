"""Cuts content into chunks and names them.

A file of at most `SMALL_BYTES` is one chunk. A larger one is cut by FastCDC where its content says so: bytes inserted
in the middle move the cuts with them, and the chunks around keep their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from blake3 import blake3
from pyfastcdc import FastCDC

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL_BYTES = 256 << 10
AVERAGE_BYTES = 128 << 10
MINIMUM_BYTES = 32 << 10
MAXIMUM_BYTES = 512 << 10
DIGEST_BYTES = 32


class Readable(Protocol):
    """A source of bytes; an empty answer is the end."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        ...


def digest_of(data: bytes | memoryview) -> bytes:
    """Return the name of a chunk: the BLAKE3 digest of its bytes."""
    return blake3(data).digest()


def cut(source: Readable) -> Iterator[bytes]:
    """Yield the chunks of a content of any size, in bounded memory."""
    head = _read_full(source, SMALL_BYTES + 1)
    if len(head) <= SMALL_BYTES:
        if head:
            yield head
        return
    cutter = FastCDC(avg_size=AVERAGE_BYTES, min_size=MINIMUM_BYTES, max_size=MAXIMUM_BYTES)
    for chunk in cutter.cut_stream(_Rejoined(head, source)):
        yield bytes(chunk.data)


def _read_full(source: Readable, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (piece := source.read(size)):
        parts.append(piece)
        size -= len(piece)
    return parts[0] if len(parts) == 1 else b"".join(parts)


class _Rejoined:
    """A source whose beginning was read already."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = head
        self._rest = rest

    def read(self, n: int) -> bytes:
        if self._head:
            piece, self._head = self._head[:n], self._head[n:]
            return piece
        return self._rest.read(n)
