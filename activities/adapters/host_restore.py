"""Writes a snapshot's entries into a container through its root file system, as the kernel shows it to the container.

Every directory is opened below the container's root without following a symbolic link or entering another mount, so
that a hostile manifest, or a hostile tree, reaches nothing else. The entries are applied as they stand: what an earlier
attempt left half done is overwritten.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from activities.adapters.host_parts import Board
from activities.adapters.linux_files import open_directory, path_below, write_xattrs
from activities.errors import CaptureError, PathEscape
from activities.snapshots.capture import Cancelled
from activities.snapshots.entries import ROOT, Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from activities.adapters.host_parts import Part
    from activities.snapshots.capture import Control, PieceSource

_THREADS = 2
_MODE_MASK = 0o7777
_NODES = {Kind.FIFO: stat.S_IFIFO, Kind.CHARACTER: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK}


class RootWriter:
    """Brings the tree below an open directory to a set of entries. Close it."""

    def __init__(self, root: int, source: PieceSource, control: Control) -> None:
        self._root = root
        self._source = source
        self._control = control
        self._parent: tuple[bytes, int] | None = None

    def close(self) -> None:
        """Close what is open."""
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def apply(self, entries: Mapping[bytes, Entry], done: Container[bytes] = ()) -> None:
        """Write everything but the content of files that are `done`; directories get their times last.

        Raises:
            PathEscape: A path leads through a symbolic link, another thing that is no directory, or into another mount.
            CaptureError: The container's files could not be written.
        """
        ordered = [entries[path] for path in sorted(entries)]
        directories = [entry for entry in ordered if entry.kind is Kind.DIRECTORY]
        own = [entry for entry in ordered if not entry.leader]
        files = [entry for entry in own if entry.kind is Kind.FILE and entry.path not in done]
        nodes = (entry for entry in own if entry.kind in _NODES or entry.kind is Kind.SYMLINK)
        self._each(self._remove, (entry for entry in ordered if entry.kind is Kind.WHITEOUT))
        self._each(self._make_directory, directories)
        self._write_files(files)
        self._each(self._make_node, nodes)
        self._each(self._make_link, (entry for entry in ordered if entry.leader))
        self._each(self._finish_directory, reversed(directories))

    def _write_files(self, files: list[Entry]) -> None:
        """Write files by several threads, as their content comes: most of the time goes into the kernel."""
        board = Board(files, self._source.chunks, self._control)
        self._each(self._begin_file, (entry for entry in files if board.is_in_parts(entry)))
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="restore") as pool:
            written = [pool.submit(self._write_pieces, board) for _ in range(_THREADS)]
            errors = [error for future in written if (error := future.exception()) is not None]
        # What stopped one thread made it stop the others.
        for error in sorted(errors, key=lambda error: isinstance(error, Cancelled)):
            raise error
        self._each(self._write_file, (entry for entry in files if not entry.chunks))
        board.check_complete()

    def _write_pieces(self, board: Board) -> None:
        writer = RootWriter(self._root, self._source, self._control)
        try:
            for piece in self._source.pieces():
                whole = memoryview(piece.content)
                for digest, location in piece.chunks.items():
                    data = whole[location.start : location.start + location.length]
                    for part in board.take(digest):
                        writer._write_part(part, data, board)
                board.report(len(whole))
        except BaseException:
            # What the other threads still write is of no use.
            self._control.stop()
            raise
        finally:
            writer.close()

    def _write_part(self, part: Part, data: memoryview, board: Board) -> None:
        entry = part.entry
        try:
            if not board.is_in_parts(entry):
                self._write_file(entry, data)
            else:
                self._add_part(part, data, board)
        except OSError as error:
            raise _explained(error, entry.path) from error

    def _each(self, action: Callable[[Entry], None], entries: Iterable[Entry]) -> None:
        for entry in entries:
            try:
                action(entry)
            except OSError as error:
                raise _explained(error, entry.path) from error

    def _in(self, path: bytes) -> tuple[int, bytes]:
        """Return the open parent of a path and the last name of it."""
        above, _, name = path.rpartition(b"/")
        above = above or ROOT
        if self._parent is None or self._parent[0] != above:
            self.close()
            self._parent = (above, open_directory(self._root, above))
        return self._parent[1], name

    def _remove(self, entry: Entry) -> None:
        try:
            directory, name = self._in(entry.path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return
            raise
        _remove_at(directory, name)

    def _make_directory(self, entry: Entry) -> None:
        if entry.path == ROOT:
            return
        directory, name = self._in(entry.path)
        present = _status(directory, name)
        if present is not None and (entry.opaque or not stat.S_ISDIR(present.st_mode)):
            _remove_at(directory, name)
            present = None
        if present is None:
            os.mkdir(name, 0o700, dir_fd=directory)

    def _finish_directory(self, entry: Entry) -> None:
        descriptor = open_directory(self._root, entry.path)
        try:
            os.fchown(descriptor, entry.uid, entry.gid)
            os.fchmod(descriptor, entry.mode)
            write_xattrs(descriptor, entry.xattrs, fresh=False)
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(descriptor)

    def _write_file(self, entry: Entry, data: memoryview | bytes = b"") -> None:
        """Write a file whose content is at hand."""
        directory, name = self._in(entry.path)
        descriptor = _create(directory, name, entry.mode & 0o777)
        try:
            if entry.extents is None:
                _write_all(descriptor, data, 0)
            else:
                os.ftruncate(descriptor, entry.size)
                _write_runs(descriptor, entry.extents, data)
            _finish(descriptor, entry)
        finally:
            os.close(descriptor)

    def _begin_file(self, entry: Entry) -> None:
        directory, name = self._in(entry.path)
        descriptor = _create(directory, name, 0o600)
        try:
            os.ftruncate(descriptor, entry.size)
        finally:
            os.close(descriptor)

    def _add_part(self, part: Part, data: memoryview, board: Board) -> None:
        entry = part.entry
        directory, name = self._in(entry.path)
        descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
        try:
            if entry.extents is None:
                _write_all(descriptor, data, part.start)
            else:
                _write_runs(descriptor, board.runs(part), data)
            if board.is_last(entry):
                _finish(descriptor, entry)
        finally:
            os.close(descriptor)

    def _make_node(self, entry: Entry) -> None:
        directory, name = self._in(entry.path)
        _remove_at(directory, name)
        if entry.kind is Kind.SYMLINK:
            os.symlink(entry.target, name, dir_fd=directory)
        else:
            os.mknod(name, _NODES[entry.kind] | 0o600, os.makedev(*entry.device), dir_fd=directory)
        os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
        if entry.kind is not Kind.SYMLINK:
            os.chmod(name, entry.mode, dir_fd=directory)
            write_xattrs(path_below(directory, name), entry.xattrs, fresh=True)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=directory, follow_symlinks=False)

    def _make_link(self, entry: Entry) -> None:
        above, _, first = entry.leader.rpartition(b"/")
        source = open_directory(self._root, above or ROOT)
        try:
            directory, name = self._in(entry.path)
            _remove_at(directory, name)
            os.link(first, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(source)


def _status(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _create(directory: int, name: bytes, mode: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, mode, dir_fd=directory)
    except FileExistsError:
        _remove_at(directory, name)
        return os.open(name, flags, mode, dir_fd=directory)


def _remove_at(directory: int, name: bytes) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        # Does not follow links: it walks by open directories.
        shutil.rmtree(os.fsdecode(name), dir_fd=directory)


def _finish(descriptor: int, entry: Entry) -> None:
    """Give a file all but its content; its time is set last, which tells that it is whole."""
    made = os.fstat(descriptor)
    if (made.st_uid, made.st_gid) != (entry.uid, entry.gid):
        os.fchown(descriptor, entry.uid, entry.gid)
        os.fchmod(descriptor, entry.mode)
    elif made.st_mode & _MODE_MASK != entry.mode:
        os.fchmod(descriptor, entry.mode)
    # After the owner, whose change clears capabilities.
    write_xattrs(descriptor, entry.xattrs, fresh=True)
    os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))


def _write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        if written == len(data):
            return
        data, offset = memoryview(data)[written:], offset + written


def _write_runs(descriptor: int, runs: Iterable[tuple[int, int]], data: bytes | memoryview) -> None:
    """Write data to where a file with holes has some."""
    view = memoryview(data)
    for offset, length in runs:
        if not view:
            return
        _write_all(descriptor, view[:length], offset)
        view = view[length:]


def _explained(error: OSError, path: bytes) -> CaptureError | PathEscape:
    shown = ascii(path[:200])
    if error.errno in (errno.ELOOP, errno.EXDEV, errno.ENOTDIR):
        return PathEscape(f"The snapshot's path {shown} leads through what is no directory, or another mount: refused.")
    why = os.strerror(error.errno or 0)
    return CaptureError(f"The snapshot's path {shown} could not be written into the container: {why}.")
