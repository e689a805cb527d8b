"""Follows the egress proxy's log from file to file: every line once, whatever was rotated meanwhile.

A file is known by its first line, which has a time and a sandbox in it: names and inodes are used again. The proxy has
given up its rights and may be anyone's: what it writes is read as hostile input.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from activities.adapters.audit_spool import whole_lines

NAME = "egress.jsonl"
OLDEST = 99
"""Numbers of rotated files that are looked for."""


class EgressPlace(BaseModel):
    """How far the log has been read."""

    model_config = ConfigDict(frozen=True)

    file: str = ""
    """Digest of the file's first line; empty before the first file."""
    offset: int = 0


class EgressTail:
    """Reads one host's log."""

    def __init__(self, folder: Path) -> None:
        """Read the log in this folder."""
        self._folder = folder

    def lines(self, place: EgressPlace, limit: int) -> tuple[list[bytes], EgressPlace, bool]:
        """Up to `limit` lines from a place on, the place after them, and whether lines before them are lost."""
        files = self._files()
        known = [name for name, _ in files]
        lost = bool(place.file) and bool(files) and place.file not in known
        begin = known.index(place.file) if place.file in known else 0
        found: list[bytes] = []
        for name, path in files[begin:]:
            offset = place.offset if name == place.file else 0
            new, offset = whole_lines(path, offset, limit - len(found))
            if self._name(path) != name:
                # Rotated away under this look: the next one sees it where it is now.
                return found, place, lost
            if new:
                with suppress(FileNotFoundError):
                    # Rotated away just now: what follows it is looked at the next time.
                    _settle(path)
            found += new
            place = EgressPlace(file=name, offset=offset)
            if len(found) >= limit:
                break
        return found, place, lost

    def _files(self) -> list[tuple[str, Path]]:
        """The files that have a line, the oldest first."""
        names = [f"{NAME}.{number}" for number in range(OLDEST, 0, -1)] + [NAME]
        present = [self._folder / name for name in names if (self._folder / name).is_file()]
        found = {name: path for path in present if (name := self._name(path))}
        return list(found.items())

    @staticmethod
    def _name(path: Path) -> str:
        try:
            first, _ = whole_lines(path, 0, 1)
        except OSError:
            return ""
        return hashlib.sha256(first[0]).hexdigest() if first else ""


def _settle(path: Path) -> None:
    """Make durable what was read: after the machine went down, nothing else may be where a place points past."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
