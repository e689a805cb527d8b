"""An object store in a local folder, for the smallest set-ups and for tests.

An object is a file under the folder; its key is its path. Bytes go to a temporary file, are fsynced, and get their name
by link (conditional) or rename; then the directory is fsynced. Changes of names happen under one file lock, so
compare-and-swap holds between processes too.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

from activities.errors import (
    InvalidKey,
    ObjectExists,
    ObjectNotFound,
    PreconditionFailed,
    StoreAccessDenied,
    StoreError,
    StoreUnavailable,
)
from activities.ports.store import RESERVED_PREFIX, ObjectInfo, check_folder, check_key, check_prefix

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterable, Iterator
    from pathlib import Path

_PIECE = 1 << 20
_STALE_SECONDS = 24 * 3600


class LocalStore:
    """Implements `ObjectStore` on a folder, which is made when missing."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._private = root / RESERVED_PREFIX
        with self._errors(""):
            self._private.mkdir(parents=True, exist_ok=True)
            self._drop_stale()

    async def get(self, key: str) -> bytes:
        """See `ObjectStore.get`."""
        return await asyncio.to_thread(self._read, key, 0, None)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """See `ObjectStore.get_range`."""
        return await asyncio.to_thread(self._read, key, start, length)

    async def put(self, key: str, data: bytes, *, if_none_match: bool = False) -> None:
        """See `ObjectStore.put`."""

        def work() -> None:
            with self._errors(key), self._temporary() as (file, name):
                file.write(data)
                self._publish(file, name, key, exclusive=if_none_match)

        await asyncio.to_thread(work)

    async def stream(self, key: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """See `ObjectStore.stream`."""

        def begin() -> BinaryIO:
            with self._errors(key):
                file = self._path(key).open("rb")
                file.seek(start)
                return file

        file = await asyncio.to_thread(begin)
        try:
            while piece := await asyncio.to_thread(file.read, _PIECE):
                yield piece
        finally:
            file.close()

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """See `ObjectStore.put_stream`."""
        with self._errors(key), self._temporary() as (file, name):
            size = 0
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
                size += len(chunk)
            publishing = asyncio.ensure_future(asyncio.to_thread(self._publish, file, name, key, exclusive=False))
            try:
                await asyncio.shield(publishing)
            except asyncio.CancelledError:
                # The temporary file must not be closed under the thread that publishes it.
                await asyncio.wait({publishing})
                raise
            return size

    async def head(self, key: str) -> ObjectInfo | None:
        """See `ObjectStore.head`."""
        try:
            return await asyncio.to_thread(self._stat, key)
        except ObjectNotFound:
            return None

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See `ObjectStore.list`."""
        check_prefix(prefix)
        for info in await asyncio.to_thread(lambda: list(self._walk(prefix))):
            yield info

    async def list_folders(self, prefix: str) -> AsyncIterator[str]:
        """See `ObjectStore.list_folders`."""
        check_folder(prefix)
        for folder in await asyncio.to_thread(lambda: list(self._folders(prefix))):
            yield folder

    async def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`."""
        paths = [(key, self._path(key)) for key in keys]

        def work() -> None:
            for key, path in paths:
                with self._errors(key), self._lock():
                    self._unlink(path)

        await asyncio.to_thread(work)

    async def replace(self, key: str, data: bytes, *, if_match: str | None) -> str:
        """See `ObjectStore.replace`."""

        def work() -> str:
            with self._errors(key), self._temporary() as (file, name):
                file.write(data)
                return self._publish(file, name, key, exclusive=if_match is None, if_match=if_match)

        try:
            return await asyncio.to_thread(work)
        except ObjectExists as error:
            raise PreconditionFailed(str(error)) from None

    async def close(self) -> None:
        """See `ObjectStore.close`."""

    def _path(self, key: str) -> Path:
        return self._root.joinpath(*check_key(key).split("/"))

    def _read(self, key: str, start: int, length: int | None) -> bytes:
        with self._errors(key), self._path(key).open("rb") as file:
            file.seek(start)
            return file.read() if length is None else file.read(length)

    def _stat(self, key: str) -> ObjectInfo:
        with self._errors(key):
            path = self._path(key)
            found = path.stat()
            if not path.is_file():
                raise FileNotFoundError(errno.ENOENT, "not an object", key)
            return _info(key, found)

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        folder, _, _ = prefix.rpartition("/")
        with self._errors(prefix):
            yield from self._walk_folder(
                self._root.joinpath(*folder.split("/")) if folder else self._root, folder, prefix
            )

    def _folders(self, prefix: str) -> Iterator[str]:
        with self._errors(prefix), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for entry in os.scandir(self._root / prefix):
                if entry.is_dir() and prefix + entry.name != RESERVED_PREFIX:
                    yield f"{prefix}{entry.name}/"

    def _walk_folder(self, path: Path, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(path) as found:
                entries = [(entry.name + ("/" if entry.is_dir() else ""), entry) for entry in found]
        except (FileNotFoundError, NotADirectoryError):
            return
        # A folder sorts with its slash, as the keys in it do.
        for name, entry in sorted(entries, key=lambda pair: pair[0].encode()):
            key = f"{folder}/{name}" if folder else name
            if key == RESERVED_PREFIX + "/" or not (key.startswith(prefix) or prefix.startswith(key)):
                continue
            if name.endswith("/"):
                yield from self._walk_folder(path / entry.name, key[:-1], prefix)
            elif key.startswith(prefix):
                with contextlib.suppress(FileNotFoundError):
                    yield _info(key, entry.stat())

    def _publish(self, file: BinaryIO, name: Path, key: str, *, exclusive: bool, if_match: str | None = None) -> str:
        """Give the temporary file its key; return the ETag."""
        path = self._path(key)
        file.flush()
        os.fsync(file.fileno())
        with self._lock():
            if if_match is not None:
                found = path.stat() if path.is_file() else None
                if found is None or _etag(found) != if_match:
                    msg = f"The object {key!r} was changed by another writer: read it again and retry."
                    raise PreconditionFailed(msg)
            if path.is_dir():
                msg = f"The key {key!r} is a folder of other objects' keys."
                raise InvalidKey(msg)
            self._make_folder(path.parent)
            # The kernel's file times are coarse: a time of our own tells two quick versions apart.
            os.utime(file.fileno(), ns=(now := time.time_ns(), now))
            if exclusive:
                path.hardlink_to(name)
                name.unlink()
            else:
                name.replace(path)
            _sync_folder(path.parent)
            return _etag(os.fstat(file.fileno()))

    def _make_folder(self, folder: Path) -> None:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir()
            _sync_folder(path.parent)

    def _unlink(self, path: Path) -> None:
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return
        _sync_folder(path.parent)
        for folder in path.parents:
            if folder == self._root:
                return
            try:
                folder.rmdir()
            except OSError:
                return

    @contextlib.contextmanager
    def _temporary(self) -> Generator[tuple[BinaryIO, Path]]:
        name = self._private / f"{os.getpid()}-{secrets.token_hex(8)}.part"
        with name.open("xb") as file:
            try:
                yield file, name
            finally:
                name.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _lock(self) -> Generator[None]:
        with (self._private / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _drop_stale(self) -> None:
        for part in self._private.glob("*.part"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - part.stat().st_mtime > _STALE_SECONDS:
                    part.unlink()

    @contextlib.contextmanager
    def _errors(self, key: str) -> Generator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError) as error:
            if not self._private.is_dir():
                msg = (
                    f"The store's folder {self._root} is gone: bring it back, or set HIBERNAUT_STORE to the right one."
                )
                raise StoreUnavailable(msg) from error
            msg = f"There is no object {key!r} in the store {self._root}."
            raise ObjectNotFound(msg) from error
        except FileExistsError as error:
            msg = f"The object {key!r} exists already in the store {self._root}."
            raise ObjectExists(msg) from error
        except NotADirectoryError as error:
            msg = f"The key {key!r} lies below another object's key."
            raise InvalidKey(msg) from error
        except PermissionError as error:
            msg = f"The store's folder {self._root} may not be used by this process: mend its owner or mode."
            raise StoreAccessDenied(msg) from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                msg = f"The disk of the store's folder {self._root} is full: make room, then retry."
                raise StoreUnavailable(msg) from error
            msg = f"The store's folder {self._root} cannot be used: {error.strerror}."
            raise StoreError(msg) from error


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    modified = datetime.fromtimestamp(found.st_mtime, UTC)
    return ObjectInfo(key=key, size=found.st_size, etag=_etag(found), modified=modified)


def _etag(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns:x}-{found.st_ino:x}-{found.st_size:x}"


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
