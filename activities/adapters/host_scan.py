"""Reads an overlay's upper directory: every path that differs from the image, of which only what changed is read."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from activities.adapters.host_content import Ahead, ContentReader
from activities.adapters.host_look import look
from activities.adapters.host_status import (
    COARSE_NS,
    Found,
    Look,
    inode_of,
    is_coarse,
    settled,
    signature_of,
    status_of,
)
from activities.adapters.linux_files import (
    open_directory,
    open_regular,
    path_below,
    read_xattrs,
)
from activities.errors import CaptureError
from activities.snapshots.entries import ROOT, Entry, Kind
from activities.snapshots.limit import content_bytes
from activities.snapshots.scope import EVERYTHING
from activities.snapshots.state import WHITEOUT_SIGNATURE, Index, Scan, Signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activities.adapters.docker_overlay import Overlay
    from activities.snapshots.capture import Control
    from activities.snapshots.packs import PackWriter
    from activities.snapshots.scope import Scope

FRESH_NS = 20_000_000
"""A path whose ctime is this near may change once more without its ctime telling: file times are coarse."""
_REPORT_EVERY = 200
_AHEAD_BYTES = 4 << 20
_OPAQUE = b"trusted.overlay.opaque"
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
}


class UpperScan:
    """One pass over the upper directory of a container: `look`, and then, if anything changed, `read`.

    `live`: the container is not frozen, and what was looked at may be something else when it is opened.
    """

    def __init__(
        self,
        root: int,
        overlay: Overlay,
        index: Index,
        writer: PackWriter,
        control: Control,
        *,
        live: bool = False,
        scope: Scope = EVERYTHING,
        settled_ns: int | None = None,
    ) -> None:
        self._root = root
        self._overlay = overlay
        self._index = index
        self._writer = writer
        self._control = control
        self._live = live
        self._scope = scope
        self._seen: Look | None = None
        self._settled = settled_ns
        self._parent: tuple[bytes, int] | None = None
        self._ahead: dict[bytes, Ahead] = {}
        self._reader = ContentReader(writer, control)

    def run(self) -> Scan:
        """Do both."""
        self.look()
        return self.read()

    def look(self) -> bool:
        """Look at every path; tell whether anything differs from the index."""
        begun = time.time_ns() if self._settled is None else self._settled
        with ThreadPoolExecutor(1, thread_name_prefix="look") as beside:
            looking = beside.submit(
                look, self._root, self._overlay, self._index.signatures, self._control, self._scope.exclusion
            )
            if not self._scope.limit:
                self._read_ahead()
            found = looking.result()
        self._seen = found
        self._settled = begun - FRESH_NS - (COARSE_NS if is_coarse(found.newest_ns) else 0)
        return bool(found.changed) or found.signatures.keys() != self._index.state.entries.keys()

    def _read_ahead(self) -> None:
        """Read large files that look otherwise than known while all the others are still looked at."""
        known = self._index.signatures
        large = [path for path, entry in self._index.state.entries.items() if entry.size >= _AHEAD_BYTES]
        try:
            for path in large:
                if path not in known:
                    continue
                # Whatever becomes of it meanwhile: what was read counts only if it still looks so when all was seen.
                with contextlib.suppress(OSError, CaptureError):
                    directory, name = self._in(path)
                    if signature_of(status_of(os.stat(name, dir_fd=directory, follow_symlinks=False))) != known[path]:
                        self._ahead[path] = self._reader.ahead(directory, name, live=self._live)
        finally:
            self._leave()

    @property
    def changed_bytes(self) -> int:
        """What is to be read, at most."""
        return sum(found.status.st_size for found in self._look.changed)

    def unchanged(self) -> Scan:
        """Return what the index says, after `look` found nothing else."""
        return Scan(self._index.state.entries, self._index.signatures, self._look.skipped)

    def read(self) -> Scan:
        """Read everything that the index does not know to be unchanged."""
        seen = self._look
        before = self._index.state.entries
        entries = {path: before[path] for path in seen.signatures if path in before}
        if self._scope.limit:
            try:
                self._scope.limit.check(self._sizes(entries))
            finally:
                self._leave()
        gone = before.keys() - seen.signatures.keys()
        plain: list[Found] = []
        linked: dict[int, list[Found]] = {}
        for found in seen.changed:
            status = found.status
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode) and not status.is_whiteout:
                linked.setdefault(status.st_ino, []).append(found)
            else:
                plain.append(found)
        try:
            for number, found in enumerate(plain):
                if number % _REPORT_EVERY == 0:
                    self._control.report(f"read {number} of {len(plain)} paths, {self._writer.read_bytes >> 20} MiB")
                entries[found.path] = self._read(found)
            self._join_groups(linked, gone)
            for group in linked.values():
                self._read_group(sorted(group), entries)
        finally:
            self._leave()
        return Scan(entries, self._settled_signatures(), seen.skipped)

    def _sizes(self, known: Mapping[bytes, Entry]) -> dict[bytes, int]:
        """Return the bytes of each file, that of an inode with several names once."""
        sizes = {path: content_bytes(entry) for path, entry in known.items()}
        inodes: set[int] = set()
        for path, status in self._look.changed:
            if stat.S_ISREG(status.st_mode):
                directory, name = self._in(path)
                # What has holes takes up less room than it is long.
                blocks = os.stat(name, dir_fd=directory, follow_symlinks=False).st_blocks
                size = min(status.st_size, blocks * 512)
                sizes[path] = 0 if status.st_ino in inodes else size
                inodes.add(status.st_ino)
        return sizes

    @property
    def _look(self) -> Look:
        if self._seen is None:
            raise AssertionError
        return self._seen

    def _settled_signatures(self) -> dict[bytes, Signature]:
        seen = self._look
        before = self._settled or 0
        # What did not change was settled when it was first seen so.
        return seen.signatures if seen.newest_ns < before else settled(seen.signatures, seen.changed, before)

    def _join_groups(self, linked: dict[int, list[Found]], gone: set[bytes]) -> None:
        """Complete the groups of hard links that changed by the names that look as they did."""
        before = self._index.state.entries
        inodes = {b"%d" % inode for inode in linked}
        if gone:
            # The name that bore the content is gone: the others have to be read anew.
            orphans = (path for path, entry in before.items() if entry.leader and entry.leader in gone)
            inodes.update(inode_of(self._look.signatures[path]) for path in orphans if path in self._look.signatures)
        if not inodes:
            return
        listed = {found.path for group in linked.values() for found in group}
        for path, signature in self._look.signatures.items():
            if inode_of(signature) in inodes and path not in listed and signature != WHITEOUT_SIGNATURE:
                directory, name = self._in(path)
                status = status_of(os.stat(name, dir_fd=directory, follow_symlinks=False))
                linked.setdefault(status.st_ino, []).append(Found(path, status))

    def _read_group(self, group: list[Found], entries: dict[bytes, Entry]) -> None:
        """Read the names of one inode: the first bears its content, the others point to it."""
        first = group[0]
        entry = entries[first.path] = self._read(first)
        for found in group[1:]:
            entries[found.path] = entry._replace(path=found.path, size=0, chunks=(), extents=None, leader=first.path)

    def _in(self, path: bytes) -> tuple[int, bytes]:
        """Return the open parent of a path and the last name of it."""
        above, _, name = path.rpartition(b"/")
        above = above or ROOT
        if self._parent is None or self._parent[0] != above:
            self._leave()
            self._parent = (above, open_directory(self._root, above))
        return self._parent[1], name

    def _leave(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def _read(self, found: Found) -> Entry:
        path, status = found
        if status.is_whiteout:
            return Entry(path=path, kind=Kind.WHITEOUT)
        if stat.S_ISREG(status.st_mode):
            return self._read_file(*self._in(path), found)
        entry = Entry(
            path=path,
            kind=_KINDS[stat.S_IFMT(status.st_mode)],
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=status.st_mtime_ns,
        )
        if entry.kind is Kind.DIRECTORY:
            return self._read_directory(entry)
        directory, name = self._in(path)
        if entry.kind is Kind.SYMLINK:
            return entry._replace(target=os.readlink(name, dir_fd=directory))
        if entry.kind is not Kind.FIFO:
            entry = entry._replace(device=(os.major(status.st_rdev), os.minor(status.st_rdev)))
        return entry._replace(xattrs=read_xattrs(path_below(directory, name)))

    def _read_directory(self, entry: Entry) -> Entry:
        descriptor = open_directory(self._root, entry.path)
        try:
            entry = entry._replace(xattrs=read_xattrs(descriptor))
            if not self._scope.exclusion.hides_below(entry.path):
                return entry._replace(opaque=_is_opaque(descriptor))
        finally:
            os.close(descriptor)
        # What is in it is left out: after a restore the image's content shows through, and its times tell nothing.
        before = self._index.state.entries.get(entry.path)
        return before if before is not None and before == entry._replace(mtime_ns=before.mtime_ns) else entry

    def _read_file(self, directory: int, name: bytes, found: Found) -> Entry:
        descriptor = open_regular(directory, name, live=self._live)
        try:
            status = os.fstat(descriptor)
            if status.st_ino != found.status.st_ino:
                msg = f"{found.path!a} was replaced while it was read, in a container that should be frozen."
                raise CaptureError(msg)
            ahead = self._ahead.get(found.path)
            if ahead is not None and ahead.signature == signature_of(status_of(status)):
                chunks, size, extents = ahead.content
            else:
                chunks, size, extents = self._reader.read(descriptor, status)
            self._control.check()
            return Entry(
                path=found.path,
                kind=Kind.FILE,
                mode=stat.S_IMODE(status.st_mode),
                uid=status.st_uid,
                gid=status.st_gid,
                mtime_ns=status.st_mtime_ns,
                size=size,
                chunks=chunks,
                extents=extents,
                xattrs=read_xattrs(descriptor),
            )
        finally:
            os.close(descriptor)


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError:
        return False
