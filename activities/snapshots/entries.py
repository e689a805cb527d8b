"""One path of a snapshot, and what makes a path or a tree of paths acceptable.

A snapshot is a set of entries over an image, with the meaning of an overlay's upper directory: an entry replaces what
the image has at its path, a directory is merged with the image's unless it is opaque, and a whiteout removes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from activities.errors import PathEscape, SnapshotDamaged

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = b"."
_SLASH = ord("/")
"""The path of the root directory itself."""
MAX_PATH_BYTES = 4095
MAX_NAME_BYTES = 255
_MODE_MASK = 0o7777
_MAX_ID = 2**32 - 1
_MAX_TIME_NS = 2**66


class Kind(StrEnum):
    """The type of an entry, as one letter."""

    FILE = "f"
    DIRECTORY = "d"
    SYMLINK = "l"
    FIFO = "p"
    CHARACTER = "c"
    BLOCK = "b"
    WHITEOUT = "x"
    """The image's path, with everything below it, is deleted."""


class Entry(NamedTuple):
    """One path. Fields that a kind does not use keep their defaults."""

    path: bytes
    """Relative to the root, without a leading slash; `ROOT` for the root."""
    kind: Kind
    mode: int = 0
    """Permission bits with set-id and sticky bits."""
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    """Nanoseconds since 1970; negative before."""
    size: int = 0
    """Bytes, holes included."""
    chunks: tuple[bytes, ...] = ()
    """BLAKE3 digests of the content's chunks, in order."""
    extents: tuple[tuple[int, int], ...] | None = None
    """(offset, length) of the data of a file with holes; None: the content has no hole."""
    target: bytes = b""
    """Where a symbolic link points."""
    device: tuple[int, int] = (0, 0)
    """Major and minor number."""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    """Extended attributes, sorted by name."""
    leader: bytes = b""
    """The path that this one is a hard link to: the first of its group, which alone bears the content."""
    opaque: bool = False
    """A directory that hides what the image has at its path."""


def xattr_is_kept(name: bytes) -> bool:
    """Tell whether an extended attribute belongs to a snapshot.

    `trusted.*` is the overlay's own and `security.selinux` the host's; neither means anything elsewhere.
    """
    return name.startswith((b"user.", b"system.posix_acl_")) or name == b"security.capability"


def check_path(path: bytes) -> None:
    """Refuse a path that does not name exactly one place below the root.

    Raises:
        PathEscape: It is absolute, climbs, is empty or too long, or has a NUL byte.
    """
    if path == ROOT or _is_plainly_sound(path):
        return
    names = path.split(b"/")
    if (
        len(path) > MAX_PATH_BYTES
        or b"\0" in path
        or any(name in (b"", b".", b"..") or len(name) > MAX_NAME_BYTES for name in names)
    ):
        msg = f"The snapshot names the path {path[:200]!a}, which is not below the root: it is refused."
        raise PathEscape(msg)


def _is_plainly_sound(path: bytes) -> bool:
    """Tell at a glance what is so of most paths: short, no name empty, none that begins with a dot."""
    return (
        0 < len(path) <= MAX_NAME_BYTES
        and b"\0" not in path
        and b"//" not in path
        and b"/." not in path
        and path[0] not in b"/."
        and path[-1] != _SLASH
    )


def ancestors(path: bytes) -> list[bytes]:
    """Return the directories above a path, the nearest first, without the root."""
    found: list[bytes] = []
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        found.append(path)
    return found


def check_tree(entries: Mapping[bytes, Entry], chunk_lengths: Mapping[bytes, int]) -> None:
    """Refuse entries that no capture writes: a restore acts on them as root.

    Raises:
        PathEscape: A path leaves the root, or lies below something that is not a directory.
        SnapshotDamaged: An entry contradicts itself.
    """
    # Directories above which everything is a directory, as far as the snapshot has it: most paths share theirs.
    sound = {b""}
    for path, entry in entries.items():
        check_path(path)
        above = path.rpartition(b"/")[0]
        if above not in sound:
            for directory in (above, *ancestors(above)):
                parent = entries.get(directory)
                if parent is not None and parent.kind is not Kind.DIRECTORY:
                    msg = f"The snapshot has {path[:200]!a} below {directory[:200]!a}, which is no directory: refused."
                    raise PathEscape(msg)
            sound.add(above)
        fault = _fault(entry, entries, chunk_lengths)
        if fault:
            msg = f"The snapshot's entry {path[:200]!a} contradicts itself: {fault}."
            raise SnapshotDamaged(msg)


def _fault(entry: Entry, entries: Mapping[bytes, Entry], chunk_lengths: Mapping[bytes, int]) -> str | None:
    if entry.path == ROOT and entry.kind is not Kind.DIRECTORY:
        return "the root is no directory"
    if abs(entry.mtime_ns) > _MAX_TIME_NS:
        return "a time out of range"
    if entry.mode & ~_MODE_MASK or not (0 <= entry.uid <= _MAX_ID and 0 <= entry.gid <= _MAX_ID):
        return "mode or owner out of range"
    if entry.xattrs and not all(xattr_is_kept(name) for name, _ in entry.xattrs):
        return "an extended attribute that is never kept"
    if entry.leader:
        leader = entries.get(entry.leader)
        if leader is None or leader.kind is not entry.kind or leader.leader or entry.kind is Kind.DIRECTORY:
            return "a hard link without its first"
        return "content in a hard link" if entry.chunks or entry.extents is not None else None
    if entry.kind is not Kind.FILE:
        return "content in what is no file" if entry.chunks or entry.extents is not None else None
    return _content_fault(entry, chunk_lengths)


def _content_fault(entry: Entry, chunk_lengths: Mapping[bytes, int]) -> str | None:
    if entry.extents is None and len(entry.chunks) == 1 and chunk_lengths.get(entry.chunks[0]) == entry.size:
        return None
    end = 0
    for offset, length in entry.extents or ():
        if offset < end or length <= 0:
            return "data extents out of order"
        end = offset + length
    if end > entry.size:
        return "data beyond the end"
    data = entry.size if entry.extents is None else sum(length for _, length in entry.extents)
    stored = [chunk_lengths.get(digest) for digest in entry.chunks]
    if None in stored:
        return "a chunk that is stored nowhere"
    if sum(length or 0 for length in stored) != data:
        return "chunks and size differ"
    return None
