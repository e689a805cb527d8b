"""What a path on the host looks like from outside, and what tells its next change."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from activities.snapshots.state import WHITEOUT_SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activities.snapshots.state import Signature

COARSE_NS = 2_000_000_000
"""A path whose ctime is this near may change unseen where times are whole seconds."""
_SECOND = 1_000_000_000
LETTERS = {
    stat.S_IFREG: b"f",
    stat.S_IFDIR: b"d",
    stat.S_IFLNK: b"l",
    stat.S_IFIFO: b"p",
    stat.S_IFSOCK: b"s",
    stat.S_IFCHR: b"c",
    stat.S_IFBLK: b"b",
}
"""As find(1) names the kinds of files."""
_FORMATS = {letter: kind for kind, letter in LETTERS.items()}


class Status(NamedTuple):
    """What was seen of a path; names are those of `os.stat_result`."""

    st_mode: int
    st_ino: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_rdev: int

    @property
    def is_whiteout(self) -> bool:
        """Whether an upper directory's inode stands for a deleted path."""
        return stat.S_ISCHR(self.st_mode) and self.st_rdev == 0


class Found(NamedTuple):
    """A path that is to be read."""

    path: bytes
    status: Status


class Look(NamedTuple):
    """What a walk saw."""

    signatures: dict[bytes, Signature]
    """Of every path."""
    changed: list[Found]
    """Paths that are new or look otherwise than known, parents first and names of a directory together."""
    skipped: int
    """Sockets, and paths too long to be named."""

    @property
    def newest_ns(self) -> int:
        """The latest ctime of what changed."""
        return max((found.status.st_ctime_ns for found in self.changed), default=0)


def status_of(status: os.stat_result) -> Status:
    """Return what was seen of a path by stat(2)."""
    return Status(
        status.st_mode,
        status.st_ino,
        status.st_nlink,
        status.st_uid,
        status.st_gid,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_rdev,
    )


def signature_of(status: Status) -> Signature:
    """Return what tells a change of this path: the words in which find(1) tells of it."""
    if status.is_whiteout:
        return WHITEOUT_SIGNATURE
    mtime, ctime = divmod(status.st_mtime_ns, _SECOND), divmod(status.st_ctime_ns, _SECOND)
    return b"%d %d %d.%09d0 %d.%09d0 %s %o %d %d %d" % (
        status.st_ino,
        status.st_size,
        *mtime,
        *ctime,
        LETTERS[stat.S_IFMT(status.st_mode)],
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_nlink,
    )


def parse(words: bytes) -> Status:
    """Return what find(1) told of a path in the words of `signature_of`; device numbers it does not tell."""
    inode, size, mtime, ctime, letter, mode, uid, gid, links = words.split(b" ")
    return Status(
        _FORMATS[letter] | int(mode, 8),
        int(inode),
        int(links),
        int(uid),
        int(gid),
        int(size),
        _nanoseconds(mtime),
        _nanoseconds(ctime),
        0,
    )


def inode_of(signature: Signature) -> bytes:
    """Return what two names of one inode have in common."""
    return signature.partition(b" ")[0]


def is_coarse(time_ns: int) -> bool:
    """Tell whether a file system that gives out this time seems to know whole seconds alone: ext4 with small inodes."""
    return time_ns > 0 and time_ns % _SECOND == 0


def settled(signatures: Mapping[bytes, Signature], changed: list[Found], before_ns: int) -> dict[bytes, Signature]:
    """Return the signatures without those of changed paths whose ctime is not before a moment."""
    fresh = {path for path, status in changed if status.st_ctime_ns >= before_ns and not status.is_whiteout}
    return {path: signature for path, signature in signatures.items() if path not in fresh}


def _nanoseconds(text: bytes) -> int:
    seconds, _, fraction = text.partition(b".")
    return int(seconds) * _SECOND + int(fraction[:9])
