"""Reads a POSIX (pax) tar stream as GNU tar writes it, in bounded memory: its writer runs in an untrusted container."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from activities.errors import CaptureError
from activities.snapshots.entries import xattr_is_kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from activities.snapshots.chunking import Readable

BLOCK = 512
_MAX_EXTENDED = 4 << 20
_MAX_EXTENTS = 100_000
_MAX_MAP_BLOCKS = 10_000
_BASE_256 = 0x80
_XATTR = b"SCHILY.xattr."
_SMALL_BYTES = 256 << 10
_END = bytes(BLOCK)
_NO_SUM = b" " * 8
FILE_TYPES = (b"0", b"\0", b"7")


@dataclass(slots=True)
class Member:
    """One member; its content is read before the next member is asked for."""

    path: bytes
    type: bytes
    size: int
    """Of the file, holes included."""
    extents: tuple[tuple[int, int], ...] | None
    device: tuple[int, int]
    xattrs: tuple[tuple[bytes, bytes], ...]
    content: Content


class Content:
    """The data of a member, holes left out."""

    def __init__(self, stream: _Exact, size: int) -> None:
        padding = -size % BLOCK
        self._stream = stream
        self._left = size
        # A small one is taken at once: each read of the stream costs as much as a small file.
        self._whole = stream.exactly(size + padding) if size <= _SMALL_BYTES else None
        self._padding = 0 if self._whole is not None else padding
        self._size = size

    def read(self, size: int, /) -> bytes:
        """See `Readable.read`."""
        if not self._left:
            return b""
        if self._whole is not None:
            at = self._size - self._left
            piece = self._whole[at : min(at + size, self._size)]
        else:
            piece = self._stream.some(min(size, self._left))
        self._left -= len(piece)
        return piece

    def exactly(self, size: int) -> bytes:
        """Read this many bytes."""
        if size > self._left:
            raise _broken("a sparse map longer than its member")
        parts: list[bytes] = []
        while size:
            parts.append(self.read(size))
            size -= len(parts[-1])
        return b"".join(parts)

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return self._left

    def skip(self) -> None:
        """Go to the end of the member."""
        if self._whole is None:
            while self._left:
                self.read(1 << 18)
            self._stream.exactly(self._padding)
            self._padding = 0


class _Exact:
    def __init__(self, source: Readable) -> None:
        self._source = source

    def some(self, size: int) -> bytes:
        piece = self._source.read(size)
        if not piece:
            raise _broken("it ends in the middle")
        return piece

    def exactly(self, size: int) -> bytes:
        piece = self._source.read(size)
        if len(piece) == size:
            return piece
        parts: list[bytes] = []
        while True:
            if not piece:
                raise _broken("it ends in the middle")
            parts.append(piece)
            size -= len(piece)
            if not size:
                return b"".join(parts)
            piece = self._source.read(size)


def read_members(source: Readable) -> Iterator[Member]:
    """Yield the members of a tar stream up to its end mark.

    Raises:
        CaptureError: It is no tar stream, or ends early.
    """
    stream = _Exact(source)
    extended: dict[bytes, bytes] = {}
    while True:
        header = stream.exactly(BLOCK)
        if header == _END:
            return
        _check_sum(header)
        kind = header[156:157]
        size = _number(header[124:136])
        if kind in (b"x", b"g"):
            if size > _MAX_EXTENDED:
                raise _broken("an extended header too large")
            records = _records(stream.exactly(size))
            stream.exactly(-size % BLOCK)
            extended = records if kind == b"x" else extended
            continue
        member = _member(header, kind, size, extended, stream)
        extended = {}
        yield member
        member.content.skip()


def _member(header: bytes, kind: bytes, size: int, extended: dict[bytes, bytes], stream: _Exact) -> Member:
    if not extended and kind == b"0":
        return Member(_name(header), kind, size, None, (0, 0), (), Content(stream, size))
    if b"size" in extended:
        size = _decimal(extended[b"size"])
    if kind not in FILE_TYPES:
        size = 0
    path = extended.get(b"GNU.sparse.name") or extended.get(b"path") or _name(header)
    content = Content(stream, size)
    extents: tuple[tuple[int, int], ...] | None = None
    if b"GNU.sparse.major" in extended:
        if extended[b"GNU.sparse.major"] != b"1" or extended.get(b"GNU.sparse.minor") != b"0":
            raise _broken("a sparse format that is not known")
        extents = _sparse_map(content)
        size = _decimal(extended.get(b"GNU.sparse.realsize", b"0"))
        if sum(length for _, length in extents) != content.left:
            raise _broken("a sparse map that does not fit its member")
    xattrs = sorted(
        (_xattr_name(key[len(_XATTR) :]), value) for key, value in extended.items() if key.startswith(_XATTR)
    )
    return Member(
        path=path,
        type=b"0" if kind in FILE_TYPES else kind,
        size=size,
        extents=None if extents == ((0, size),) else extents,
        device=(_number(header[329:337]), _number(header[337:345])) if kind in (b"3", b"4") else (0, 0),
        xattrs=tuple((name, value) for name, value in xattrs if xattr_is_kept(name)),
        content=content,
    )


def _sparse_map(content: Content) -> tuple[tuple[int, int], ...]:
    """Read the map at the beginning of a sparse member: decimal lines, padded to a whole block."""
    parts = [content.exactly(BLOCK)]
    count = _decimal(parts[0].partition(b"\n")[0])
    if count > _MAX_EXTENTS:
        raise _broken("a file with too many holes")
    missing = 2 * count + 1 - parts[0].count(b"\n")
    while missing > 0:
        if len(parts) > _MAX_MAP_BLOCKS:
            raise _broken("a sparse map too large")
        parts.append(content.exactly(BLOCK))
        missing -= parts[-1].count(b"\n")
    numbers = [_decimal(line) for line in b"".join(parts).split(b"\n")[1 : 2 * count + 1]]
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return tuple((offset, length) for offset, length in pairs if length)


def _records(data: bytes) -> dict[bytes, bytes]:
    """Read the records of an extended header: `length key=value` and a newline."""
    found: dict[bytes, bytes] = {}
    position = 0
    while position < len(data) and data[position]:
        space = data.find(b" ", position, position + 20)
        length = _decimal(data[position:space]) if space > 0 else 0
        end = position + length
        if length <= space - position or end > len(data):
            raise _broken("an extended header that cannot be read")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals:
            raise _broken("an extended header that cannot be read")
        found[key] = value
        position = end
    return found


def _xattr_name(name: bytes) -> bytes:
    return name.replace(b"%3D", b"=").replace(b"%25", b"%")


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    if not header[345]:
        return name
    return header[345:500].partition(b"\0")[0] + b"/" + name


def _number(field: bytes) -> int:
    if field[0] & _BASE_256:
        return int.from_bytes(field[1:], "big")
    return _decimal(field.strip(b" \0") or b"0", base=8)


def _decimal(text: bytes, base: int = 10) -> int:
    if not text.isdigit():
        raise _broken("a number that cannot be read")
    try:
        return int(text[:30], base)
    except ValueError:
        raise _broken("a number that cannot be read") from None


def _check_sum(header: bytes) -> None:
    # The lower half of Adler-32 is the sum of all bytes and one, modulo 65521: that much faster than adding them up.
    found = zlib.adler32(header[156:], zlib.adler32(_NO_SUM, zlib.adler32(header[:148]))) & 0xFFFF
    if found != (_number(header[148:156]) + 1) % 65521:
        raise _broken("a header whose sum is wrong")


def _broken(why: str) -> CaptureError:
    return CaptureError(f"The tar stream from the container cannot be used: {why}.")
