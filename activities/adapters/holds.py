"""Notes which containers this host's processes hold frozen for a moment, so that none stays frozen when one dies.

A note is a file that its process keeps locked. The kernel frees the lock however the process ends: a note that nobody
has locked was left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from typing import TYPE_CHECKING

from activities.errors import SandboxUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_CONTAINER_ID = re.compile(r"[0-9a-f]{12,64}")
_PATIENCE_S = 5.0
"""Another that holds a container is done with it that soon, most of the time."""
_LOOK_S = 0.05


class Holds:
    """The notes of one host, in a folder that all its processes share; without one nothing is noted."""

    def __init__(self, folder: Path | None = None) -> None:
        """Use this folder; it is made when it is needed."""
        self._folder = folder

    @contextlib.contextmanager
    def holding(self, container_id: str) -> Generator[None]:
        """Note for the block that a container is about to be frozen; the note stays until `forget`.

        Raises:
            SandboxUnavailable: Another holds it, or nothing can be noted.
        """
        path = self._path(container_id)
        if path is None:
            yield
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = _lock_soon(path)
        except OSError as error:
            msg = f"It cannot be noted in {path.parent} that a container is held still ({error.strerror}): make room."
            raise SandboxUnavailable(msg) from error
        if file is None:
            msg = f"The container {container_id[:12]} is held still by somebody else; try again."
            raise SandboxUnavailable(msg)
        try:
            yield
        finally:
            os.close(file)

    def forget(self, container_id: str) -> None:
        """Note that a container goes on, or is another's to keep frozen; by whoever holds it."""
        path = self._path(container_id)
        if path is not None:
            path.unlink(missing_ok=True)

    def is_held(self, container_id: str) -> bool:
        """Whether a process that lives holds a container."""
        path = self._path(container_id)
        if path is None:
            return False
        try:
            file = _lock(path, os.O_RDWR)
        except OSError:
            return False
        if file is not None:
            os.close(file)
        return file is None

    def left(self) -> list[str]:
        """Return the containers that are noted, in any order."""
        if self._folder is None:
            return []
        try:
            return [path.name for path in self._folder.iterdir() if _CONTAINER_ID.fullmatch(path.name)]
        except OSError:
            return []

    @contextlib.contextmanager
    def taken_over(self, container_id: str) -> Generator[bool]:
        """Hold for the block what a process left behind that died; whether there is such a note."""
        path = self._path(container_id)
        try:
            file = _lock(path, os.O_RDWR) if path is not None else None
        except OSError:
            # Most of the time there is none.
            file = None
        try:
            yield file is not None
        finally:
            if file is not None:
                os.close(file)

    def _path(self, container_id: str) -> Path | None:
        if self._folder is None:
            return None
        if not _CONTAINER_ID.fullmatch(container_id):
            msg = f"{container_id!r} is no container id"
            raise ValueError(msg)
        return self._folder / container_id


def _lock_soon(path: Path) -> int | None:
    end = time.monotonic() + _PATIENCE_S
    while (file := _lock(path, os.O_RDWR | os.O_CREAT)) is None and time.monotonic() < end:
        time.sleep(_LOOK_S)
    return file


def _lock(path: Path, flags: int) -> int | None:
    """Return the locked file; None when another has locked it."""
    while True:
        file = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = _is_at(file, path)
        except BlockingIOError:
            os.close(file)
            return None
        except OSError:
            os.close(file)
            raise
        if there:
            return file
        # Whoever had it locked has removed it since.
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
