"""The spool of a host's audit chain: facts wait here, on disk, until they are lines in the store.

Several processes of the host write; one ships. A file that has grown is followed by the next, and removed when all of
it is in the chain.
"""

import fcntl
import json
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

from hibernaut._audit_chain import within

MAX_BYTES = 1_048_576
"""After which the next file is begun."""
MAX_NOTE = 65_536
NAME = re.compile(r"notes-(\d{8})\.jsonl")


class Place(BaseModel):
    """How far a file, or a row of files, has been read."""

    model_config = ConfigDict(frozen=True)

    file: int = 1
    offset: int = 0


class AuditSpool:
    """Implements `HostAudit`."""

    def __init__(self, folder: Path) -> None:
        """Keep notes in this folder, which is made when it is needed."""
        self.folder = folder

    def note(self, kind: str, /, **facts: JsonValue) -> None:
        """See `HostAudit.note`."""
        # Cut as the line will be: what has too much to tell is told all the same.
        body = {"at": datetime.now(UTC).isoformat(), "kind": kind, "facts": within(facts)}
        line = json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"
        if len(line) > MAX_NOTE:
            raise OSError(f"a note of {len(line)} bytes is longer than {MAX_NOTE}")
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            number = max(self._numbers(), default=1)
            if (path := self._path(number)).exists() and path.stat().st_size >= MAX_BYTES:
                path = self._path(number + 1)
            _append(path, line)

    def lines(self, place: Place, limit: int) -> tuple[list[bytes], Place]:
        """Up to `limit` whole lines from a place on, and the place after them; the files before it are removed."""
        found: list[bytes] = []
        # Behind the writers' lock: a line is there whole, or not yet.
        if not self.folder.exists():
            return found, place
        with self._locked():
            numbers = sorted(self._numbers())
        for number in numbers:
            if number < place.file:
                self._path(number).unlink(missing_ok=True)
        for number in (number for number in numbers if number >= place.file):
            offset = place.offset if number == place.file else 0
            new, offset = whole_lines(self._path(number), offset, limit - len(found))
            found += new
            place = Place(file=number, offset=offset)
            if len(found) >= limit:
                break
        return found, place

    def _numbers(self) -> list[int]:
        return [int(match[1]) for path in self.folder.iterdir() if (match := NAME.fullmatch(path.name))]

    def _path(self, number: int) -> Path:
        return self.folder / f"notes-{number:08d}.jsonl"

    @contextmanager
    def _locked(self) -> Generator[None]:
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def whole_lines(path: Path, offset: int, limit: int) -> tuple[list[bytes], int]:
    """Up to `limit` lines that end, from an offset on, without their line feeds; and the offset after them."""
    found: list[bytes] = []
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return found, offset
    with os.fdopen(descriptor, "rb") as file:
        file.seek(offset)
        while len(found) < limit:
            line = file.readline(MAX_NOTE + 1)
            if not line.endswith(b"\n") and len(line) <= MAX_NOTE:
                break
            offset += len(line)
            found.append(line.rstrip(b"\n"))
    return found, offset


def write_whole(path: Path, data: bytes) -> None:
    """Write a file durably, whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make durable which files a folder has."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _append(path: Path, line: bytes) -> None:
    fresh = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            # A machine that went down in the middle of a line: what is there of it is a line of its own.
            line = b"\n" + line
        written = os.write(descriptor, line)
        if written != len(line):
            raise OSError(f"{path} took {written} of {len(line)} bytes: its disk is full")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if fresh:
        sync_folder(path.parent)
