"""The home of a stack: who holds it, and what its clients are told."""

import fcntl
import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

from workers.devstack.errors import AlreadyRunning
from workers.devstack.settings import write_private

_TRIES = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFile:
    """`connection.json`: how clients reach a stack that runs; for its owner alone, removed when the stack stops."""

    temporal_address: str
    temporal_namespace: str
    gateway_url: str
    gateway_token: str
    ui_url: str
    store: str
    s3_endpoint: str
    pid: int
    """The process that runs the stack."""
    providers: str = ""
    """The file of model providers that the worker reads; empty without a worker."""

    @classmethod
    def read(cls, home: Path) -> Self | None:
        """The file of this home; None when there is none or it is half written."""
        with suppress(OSError, ValueError, TypeError):
            return cls(**json.loads((home / "connection.json").read_text(encoding="utf-8")))
        return None

    def write(self, home: Path) -> None:
        """Tell the clients."""
        write_private(home / "connection.json", json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def remove(home: Path) -> None:
        """Tell the clients that nobody is there any more."""
        (home / "connection.json").unlink(missing_ok=True)


class HomeLock:
    """Held by the process that runs a stack on a home; the kernel frees it when that process ends, however it ends."""

    def __init__(self, home: Path) -> None:
        """A lock that nobody holds yet."""
        self._path = home / "devstack.lock"
        self._file: IO[str] | None = None

    @property
    def held(self) -> bool:
        """Whether we hold it."""
        return self._file is not None

    def acquire(self, pid: int) -> None:
        """Take the home.

        Raises:
            AlreadyRunning: Another process has it.
        """
        file = self._path.open("a+", encoding="utf-8")
        tries = 0
        while not _locked(file, fcntl.LOCK_EX):
            file.seek(0)
            owner = _pid(file.read())
            tries += 1
            if owner or tries > _TRIES:
                file.close()
                where = self._path.parent
                raise AlreadyRunning(f"A development stack runs already on {where} (pid {owner}).", pid=owner)
            # Nobody has signed: it is most likely a `status` that looks whether the lock is free.
            time.sleep(0.02)
        file.truncate(0)
        file.write(str(pid))
        file.flush()
        self._file = file

    def release(self) -> None:
        """Give the home back."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def holder(self) -> int | None:
        """The process that runs a stack on this home; None when none does."""
        if not self._path.exists():
            return None
        with self._path.open(encoding="utf-8") as file:
            return None if _locked(file, fcntl.LOCK_SH) else _pid(file.read())


def _locked(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _pid(text: str) -> int:
    return int(text) if text.isdecimal() else 0
