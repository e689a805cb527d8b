"""Reads an overlay's upper directory: every path that differs from the image."""

from __future__ import annotations

import os
import stat
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from activities.adapters.linux_files import (
    ExtentReader,
    FileReader,
    data_extents,
    opened_directory,
    path_below,
    read_xattrs,
)
from activities.errors import CaptureError
from activities.snapshots.entries import MAX_PATH_BYTES, ROOT, Entry, Kind
from activities.snapshots.state import WHITEOUT_SIGNATURE, Scan, Signature

if TYPE_CHECKING:
    from collections.abc import Iterator

    from activities.adapters.docker_overlay import Overlay
    from activities.snapshots.capture import Control
    from activities.snapshots.packs import PackWriter
    from activities.snapshots.state import Index

FRESH_NS = 20_000_000
"""A path whose ctime is this near may change once more without its ctime telling: file times are coarse."""
_REPORT_EVERY = 500
_OPAQUE = b"trusted.overlay.opaque"
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
}


class Found(NamedTuple):
    """A path on the walk. `directory` is open while the walk stands in it."""

    path: bytes
    name: bytes
    directory: int
    status: os.stat_result


@dataclass(slots=True)
class Walk:
    """Visits every path of an upper directory but mount points, parents first."""

    root: int
    overlay: Overlay
    skipped: int = 0

    def __iter__(self) -> Iterator[Found]:
        pending = [ROOT]
        while pending:
            path = pending.pop()
            with opened_directory(self.root, path) as directory:
                yield Found(path, b".", directory, os.fstat(directory))
                prefix = b"" if path == ROOT else path + b"/"
                with os.scandir(directory) as children:
                    for child in children:
                        name = os.fsencode(child.name)
                        below = prefix + name
                        if below in self.overlay.mount_points:
                            continue
                        status = child.stat(follow_symlinks=False)
                        if len(below) > MAX_PATH_BYTES or stat.S_ISSOCK(status.st_mode):
                            self.skipped += 1
                        elif stat.S_ISDIR(status.st_mode):
                            pending.append(below)
                        else:
                            yield Found(below, name, directory, status)


def signature_of(status: os.stat_result) -> Signature:
    """Return what tells a change of this path."""
    if is_whiteout(status):
        return WHITEOUT_SIGNATURE
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def is_whiteout(status: os.stat_result) -> bool:
    """Tell whether an upper directory's inode stands for a deleted path."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_unchanged(root: int, overlay: Overlay, index: Index) -> bool:
    """Tell whether every path looks as it did, without freezing anything.

    Each path was unchanged when it was looked at, hence also when the walk began: that moment is what the answer is of.
    """
    signatures = index.signatures
    if len(signatures) != len(index.state.entries):
        return False
    seen = 0
    try:
        for found in Walk(root, overlay):
            if signatures.get(found.path) != signature_of(found.status):
                return False
            seen += 1
    except OSError:
        return False
    return seen == len(signatures)


def read_signatures(root: int, overlay: Overlay, wanted: Index) -> dict[bytes, Signature]:
    """Return what the paths of a state look like now."""
    entries = wanted.state.entries
    return {found.path: signature_of(found.status) for found in Walk(root, overlay) if found.path in entries}


class UpperScan:
    """One pass over the upper directory of a frozen container."""

    def __init__(self, root: int, overlay: Overlay, index: Index, writer: PackWriter, control: Control) -> None:
        self._root = root
        self._walk = Walk(root, overlay)
        self._index = index
        self._writer = writer
        self._control = control
        self._settled = time.time_ns() - FRESH_NS
        self._entries: dict[bytes, Entry] = {}
        self._signatures: dict[bytes, Signature] = {}
        self._linked: defaultdict[int, list[tuple[bytes, os.stat_result]]] = defaultdict(list)

    def run(self) -> Scan:
        """Read everything that the index does not know to be unchanged."""
        for number, found in enumerate(self._walk):
            if number % _REPORT_EVERY == 0:
                self._control.report(f"{number} paths, {self._writer.read_bytes >> 20} MiB read")
            status = found.status
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode) and not is_whiteout(status):
                self._linked[status.st_ino].append((found.path, status))
            else:
                self._entries[found.path] = self._known(found.path, status) or self._read(found)
            self._sign(found.path, status)
        for group in self._linked.values():
            self._read_group(sorted(group))
        return Scan(entries=self._entries, signatures=self._signatures, skipped=self._walk.skipped)

    def _sign(self, path: bytes, status: os.stat_result) -> None:
        signature = signature_of(status)
        if signature == WHITEOUT_SIGNATURE or status.st_ctime_ns < self._settled:
            self._signatures[path] = signature

    def _known(self, path: bytes, status: os.stat_result) -> Entry | None:
        entry = self._index.state.entries.get(path)
        if entry is None or entry.leader or self._index.signatures.get(path) != signature_of(status):
            return None
        return entry

    def _read_group(self, group: list[tuple[bytes, os.stat_result]]) -> None:
        """Read the names of one inode: the first bears its content, the others point to it."""
        leader, status = group[0]
        entry = self._known(leader, status)
        if entry is None:
            above, _, name = leader.rpartition(b"/")
            with opened_directory(self._root, above or ROOT) as directory:
                entry = self._read(Found(leader, name, directory, status))
        self._entries[leader] = entry
        for path, _ in group[1:]:
            self._entries[path] = entry._replace(path=path, size=0, chunks=(), extents=None, leader=leader)

    def _read(self, found: Found) -> Entry:
        status = found.status
        if is_whiteout(status):
            return Entry(path=found.path, kind=Kind.WHITEOUT)
        entry = Entry(
            path=found.path,
            kind=_KINDS[stat.S_IFMT(status.st_mode)],
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=status.st_mtime_ns,
        )
        match entry.kind:
            case Kind.DIRECTORY:
                return entry._replace(xattrs=read_xattrs(found.directory), opaque=_is_opaque(found.directory))
            case Kind.FILE:
                return self._read_file(found, entry)
            case Kind.SYMLINK:
                return entry._replace(target=os.readlink(found.name, dir_fd=found.directory))
            case Kind.CHARACTER | Kind.BLOCK:
                entry = entry._replace(device=(os.major(status.st_rdev), os.minor(status.st_rdev)))
            case _:
                pass
        return entry._replace(xattrs=read_xattrs(path_below(found.directory, found.name)))

    def _read_file(self, found: Found, entry: Entry) -> Entry:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOATIME
        descriptor = os.open(found.name, flags, dir_fd=found.directory)
        try:
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) != (found.status.st_dev, found.status.st_ino):
                msg = f"{found.path!a} was replaced while it was read, in a container that should be frozen."
                raise CaptureError(msg)
            extents = data_extents(descriptor, status.st_size) if status.st_blocks * 512 < status.st_size else None
            reader = FileReader(descriptor) if extents is None else ExtentReader(descriptor, extents)
            chunks, size = self._writer.add(reader)
            self._control.check()
            if extents is not None:
                size = status.st_size
            return entry._replace(size=size, chunks=chunks, extents=extents, xattrs=read_xattrs(descriptor))
        finally:
            os.close(descriptor)


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError:
        return False


def open_root(path: bytes) -> int:
    """Open the directory a walk starts from."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
