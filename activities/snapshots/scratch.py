"""A local SQLite database that may be thrown away at any time: all that is in it can be found out anew."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Scratch:
    """Opened when it is first used. Not thread-safe: whoever shares it holds a lock of its own."""

    def __init__(self, file: Path | None, schema: str) -> None:
        """Keep it in a file, None: in memory, with these tables."""
        self._file = file
        self._schema = schema
        self._database: sqlite3.Connection | None = None

    def open(self) -> sqlite3.Connection:
        """Return the connection.

        Raises:
            sqlite3.DatabaseError: The file is damaged: throw it away.
        """
        if self._database is None:
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            target = self._file if self._file is not None else ":memory:"
            self._database = sqlite3.connect(target, timeout=30, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = OFF")
            self._database.executescript(self._schema)
        return self._database

    def close(self) -> None:
        """Close it; it is opened again when it is used again."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def throw_away(self) -> None:
        """Close it and delete its files."""
        self.close()
        if self._file is not None:
            for suffix in ("", "-wal", "-shm"):
                self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
