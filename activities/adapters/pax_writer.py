"""Writes entries as members of a POSIX (pax) tar stream that GNU tar extracts with all their metadata."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from activities.snapshots.entries import ROOT, Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from activities.snapshots.capture import ContentSource

BLOCK = 512
RECORD = 20 * BLOCK
END = bytes(2 * BLOCK)
_TYPES = {
    Kind.FILE: b"0",
    Kind.SYMLINK: b"2",
    Kind.CHARACTER: b"3",
    Kind.BLOCK: b"4",
    Kind.DIRECTORY: b"5",
    Kind.FIFO: b"6",
}
_LINK = b"1"
_ZERO_TIME = b"00000000000\0"
_SECOND = 1_000_000_000


def member_header(entry: Entry) -> bytes:
    """Return everything of a member but its content."""
    extended = b"".join([b"%d %s=%s\n" % (_record_size(key, value), key, value) for key, value in _records(entry)])
    kind = _LINK if entry.leader else _TYPES[entry.kind]
    return b"".join(
        (
            _extended_header(len(extended)),
            extended,
            bytes(-len(extended) % BLOCK),
            _header(kind, stored_size(entry), entry.mode, entry.device),
            b"" if entry.extents is None else sparse_map(entry),
        )
    )


def member_size(entry: Entry) -> int:
    """Return the bytes of a whole member."""
    extended = sum([_record_size(key, value) for key, value in _records(entry)])
    stored = stored_size(entry)
    return 2 * BLOCK + extended + -extended % BLOCK + stored + -stored % BLOCK


def member(entry: Entry, source: ContentSource) -> Iterator[bytes | memoryview]:
    """Yield a whole member."""
    yield member_header(entry)
    if entry.kind is Kind.FILE and not entry.leader:
        yield from source.content(entry)
        yield bytes(-stored_size(entry) % BLOCK)


def filler() -> bytes:
    """Return a whole record that says nothing: tar reads records, and acts once one is there."""
    text = b"x" * (RECORD - BLOCK - len(b"10000 comment=\n"))
    record = _record(b"comment", text)
    return _header(b"g", len(record), 0o644, (0, 0)) + _padded(record)


def stored_size(entry: Entry) -> int:
    """Return the bytes of a member's content, its sparse map included."""
    if entry.kind is not Kind.FILE or entry.leader:
        return 0
    if entry.extents is None:
        return entry.size
    return len(sparse_map(entry)) + sum(length for _, length in entry.extents)


def sparse_map(entry: Entry) -> bytes:
    """Return the map at the beginning of a sparse member."""
    extents = list(entry.extents or ())
    if not extents or sum(extents[-1]) < entry.size:
        # An empty one at the end is how tar learns of a hole there.
        extents.append((entry.size, 0))
    numbers = [len(extents), *(number for extent in extents for number in extent)]
    return _padded(b"".join(b"%d\n" % number for number in numbers))


def _name(entry: Entry) -> bytes:
    if entry.path == ROOT:
        return b"./"
    return b"./" + entry.path + (b"/" if entry.kind is Kind.DIRECTORY else b"")


def _seconds(nanoseconds: int) -> bytes:
    sign = b"-" if nanoseconds < 0 else b""
    whole, rest = divmod(abs(nanoseconds), _SECOND)
    return b"%s%d.%09d" % (sign, whole, rest)


def _quoted(name: bytes) -> bytes:
    return name.replace(b"%", b"%25").replace(b"=", b"%3D")


def _records(entry: Entry) -> list[tuple[bytes, bytes]]:
    """Return the records of the extended header."""
    records: list[tuple[bytes, bytes]] = [(b"path", _name(entry)), (b"mtime", _seconds(entry.mtime_ns))]
    if entry.leader:
        records.append((b"linkpath", b"./" + entry.leader))
    elif entry.kind is Kind.SYMLINK:
        records.append((b"linkpath", entry.target))
    records += [(b"uid", b"%d" % entry.uid), (b"gid", b"%d" % entry.gid), (b"size", b"%d" % stored_size(entry))]
    if entry.xattrs and not entry.leader:
        records += [(b"SCHILY.xattr." + _quoted(name), value) for name, value in entry.xattrs]
    if entry.extents is not None:
        records += [
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", _name(entry)),
            (b"GNU.sparse.realsize", b"%d" % entry.size),
        ]
    return records


def _record(key: bytes, value: bytes) -> bytes:
    return b"%d %s=%s\n" % (_record_size(key, value), key, value)


def _record_size(key: bytes, value: bytes) -> int:
    """Return the bytes of a record, in which their number is written itself."""
    length = len(key) + len(value) + 3
    if length < 98:  # noqa: PLR2004  # two digits
        return length + 2 if length > 8 else length + 1  # noqa: PLR2004  # one
    total = length + len(str(length))
    return length + len(str(total))


def _header(kind: bytes, size: int, mode: int, device: tuple[int, int]) -> bytes:
    """Return a block; what does not fit it is in the extended header, which counts."""
    before, after, total = _frame(kind, mode, device)
    digits = _octal(size if size < 8**11 else 0, 12)
    return b"%s%s%s%06o\0 %s" % (before, digits, _ZERO_TIME, total + sum(digits), after)


@lru_cache(maxsize=1024)
def _extended_header(size: int) -> bytes:
    return _header(b"x", size, 0o644, (0, 0))


@lru_cache(maxsize=1024)
def _frame(kind: bytes, mode: int, device: tuple[int, int]) -> tuple[bytes, bytes, int]:
    """Return a block without its size and its sum: what comes before, what comes after, and the sum of both."""
    before = b"".join((b"./hibernaut".ljust(100, b"\0"), _octal(mode, 8), _octal(0, 8), _octal(0, 8)))
    after = b"".join(
        (
            kind,
            b"x".ljust(100, b"\0") if kind in (_LINK, b"2") else bytes(100),
            b"ustar\x0000",
            bytes(64),
            _octal(device[0], 8),
            _octal(device[1], 8),
            bytes(167),
        )
    )
    return before, after, sum(before) + sum(_ZERO_TIME) + sum(b" " * 8) + sum(after)


def _octal(number: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, number)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)
