"""Writes entries as members of a POSIX (pax) tar stream that GNU tar extracts with all their metadata."""

from __future__ import annotations

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
_SECOND = 1_000_000_000


def member_header(entry: Entry) -> bytes:
    """Return everything of a member but its content."""
    size = stored_size(entry)
    records: list[tuple[bytes, bytes]] = [(b"path", _name(entry)), (b"mtime", _seconds(entry.mtime_ns))]
    kind = _LINK if entry.leader else _TYPES[entry.kind]
    if entry.leader:
        records.append((b"linkpath", b"./" + entry.leader))
    elif entry.kind is Kind.SYMLINK:
        records.append((b"linkpath", entry.target))
    records += [(b"uid", b"%d" % entry.uid), (b"gid", b"%d" % entry.gid), (b"size", b"%d" % size)]
    if not entry.leader:
        records += [(b"SCHILY.xattr." + _quoted(name), value) for name, value in entry.xattrs]
    sparse = b""
    if entry.extents is not None:
        sparse = sparse_map(entry)
        records += [
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", _name(entry)),
            (b"GNU.sparse.realsize", b"%d" % entry.size),
        ]
    extended = b"".join(_record(key, value) for key, value in records)
    return (
        _header(b"x", len(extended), 0o644, (0, 0))
        + _padded(extended)
        + _header(kind, size, entry.mode, entry.device)
        + sparse
    )


def member_size(entry: Entry) -> int:
    """Return the bytes of a whole member."""
    stored = stored_size(entry)
    sparse = 0 if entry.extents is None else len(sparse_map(entry))
    return len(member_header(entry)) - sparse + stored + -stored % BLOCK


def member(entry: Entry, source: ContentSource) -> Iterator[bytes]:
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


def _record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    total = length + len(str(length))
    total = length + len(str(total))
    return b"%d %s=%s\n" % (total, key, value)


def _header(kind: bytes, size: int, mode: int, device: tuple[int, int]) -> bytes:
    """Return a block; what does not fit it is in the extended header, which counts."""
    fields = (
        b"./hibernaut".ljust(100, b"\0"),
        _octal(mode, 8),
        _octal(0, 8),
        _octal(0, 8),
        _octal(size if size < 8**11 else 0, 12),
        _octal(0, 12),
        b" " * 8,
        kind,
        b"x".ljust(100, b"\0") if kind in (_LINK, b"2") else bytes(100),
        b"ustar\x0000",
        bytes(64),
        _octal(device[0], 8),
        _octal(device[1], 8),
        bytes(167),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _octal(number: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, number)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)
