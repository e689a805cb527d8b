"""Linux calls that Python lacks or has in an unsafe form, on directories somebody else may be writing to."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import stat
import struct
from typing import TYPE_CHECKING

from activities.snapshots.entries import ROOT, xattr_is_kept

if TYPE_CHECKING:
    from collections.abc import Generator

_OPENAT2 = 437
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_HOW = struct.Struct("QQQ")
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MANY_EXTENTS = 10_000
_COARSE_HOLE = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def open_directory(root: int, path: bytes) -> int:
    """Open a directory below another: never through a symbolic link, upwards, or into another mount.

    Raises:
        OSError: There is no such directory, or the way to it is not plain.
    """
    if path == ROOT:
        return os.open(b".", _DIRECTORY, dir_fd=root)
    how = _HOW.pack(_DIRECTORY, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV)
    found: int = _libc.syscall(_OPENAT2, root, ctypes.c_char_p(path), ctypes.c_char_p(how), ctypes.c_size_t(_HOW.size))
    if found >= 0:
        return found
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EPERM):
        # A kernel before 5.6, or a seccomp profile that does not know the call: name by name is as safe, and slower.
        return _walk_to(root, path)
    raise OSError(code, os.strerror(code), path)


def _walk_to(root: int, path: bytes) -> int:
    at = os.open(b".", _DIRECTORY, dir_fd=root)
    device = os.fstat(at).st_dev
    try:
        for name in path.split(b"/"):
            if name in (b"", b".", b".."):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
            below = os.open(name, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
            if os.fstat(at).st_dev != device:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    except OSError:
        os.close(at)
        raise
    return at


@contextlib.contextmanager
def opened_directory(root: int, path: bytes) -> Generator[int]:
    """Open a directory as `open_directory` does, and close it."""
    descriptor = open_directory(root, path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_file_system(descriptor: int) -> None:
    """Write out what is dirty in the file system: later stores to mapped pages then show in the files' times."""
    if _libc.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def open_regular(directory: int, name: bytes, *, live: bool) -> int:
    """Open a file for reading; `live`: somebody may put a device in its place, which must not even be opened.

    Raises:
        OSError: It is no regular file any more.
    """
    if not live:
        return os.open(name, _READ | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
        return os.open(b"/proc/self/fd/%d" % handle, _READ | os.O_NONBLOCK)
    finally:
        os.close(handle)


def read_xattrs(target: int | bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return the extended attributes that a snapshot keeps, sorted; `target` is a descriptor or an unfollowed path."""
    follow = isinstance(target, int)
    try:
        names = [os.fsencode(name) for name in os.listxattr(target, follow_symlinks=follow)]
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()
        raise
    if not names:
        return ()
    kept = sorted(name for name in names if xattr_is_kept(name))
    return tuple((name, os.getxattr(target, name, follow_symlinks=follow)) for name in kept)


def write_xattrs(target: int | bytes, wanted: tuple[tuple[bytes, bytes], ...], *, fresh: bool) -> None:
    """Bring the kept extended attributes to what is wanted; `fresh`: there are none yet."""
    follow = isinstance(target, int)
    if not fresh:
        names = {name for name, _ in wanted}
        for name, _ in read_xattrs(target):
            if name not in names:
                os.removexattr(target, name, follow_symlinks=follow)
    for name, value in wanted:
        os.setxattr(target, name, value, follow_symlinks=follow)


def path_below(directory: int, name: bytes) -> bytes:
    """Return a path that leads to a name in an open directory, whatever happens above it."""
    return b"/proc/self/fd/%d/%s" % (directory, name)


def data_extents(descriptor: int, size: int) -> tuple[tuple[int, int], ...] | None:
    """Return (offset, length) of the data of a file; None when it has no hole."""
    extents: list[tuple[int, int]] = []
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            if error.errno == errno.EINVAL:
                return None
            raise
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        if len(extents) > _MANY_EXTENTS and start - sum(extents[-1]) < _COARSE_HOLE:
            # A file made to have millions of holes must not fill our memory: small ones count as data from here on.
            extents[-1] = (extents[-1][0], end - extents[-1][0])
        elif end > start:
            extents.append((start, end - start))
        position = end
    return None if extents == [(0, size)] else tuple(extents)


class ExtentReader:
    """Reads the data of a file, holes left out."""

    def __init__(self, descriptor: int, extents: tuple[tuple[int, int], ...]) -> None:
        self._descriptor = descriptor
        self._extents = list(reversed(extents))

    def read(self, size: int, /) -> bytes:
        """See `Readable.read`."""
        if not self._extents:
            return b""
        offset, length = self._extents.pop()
        piece = os.pread(self._descriptor, min(size, length), offset)
        if len(piece) < length and piece:
            self._extents.append((offset + len(piece), length - len(piece)))
        return piece


class FileReader:
    """Reads the first `size` bytes of an open file."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._left = size

    def read(self, size: int, /) -> bytes:
        """See `Readable.read`."""
        if self._left <= 0:
            return b""
        piece = os.read(self._descriptor, min(size, self._left))
        self._left -= len(piece) or self._left
        return piece


def supported() -> bool:
    """Tell whether these calls exist here."""
    return platform.system() == "Linux"
