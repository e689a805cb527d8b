"""The host's egress log: a JSON object a line, in files of bounded size.

It is written before the consequence reaches the sandbox. The folder is held open, not named: the proxy may have given
up the right to walk to it.
"""

import errno
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

from activities.ports.egress import EgressEvent

NAME = "egress.jsonl"
MAX_BYTES = 16 * 1024 * 1024
KEPT = 8
"""Older files, named `egress.jsonl.1` (the newest) to `.8`: what floods the log cannot fill the disk."""

_log = logging.getLogger(__name__)


class EgressLog:
    """Implements `EgressSink`."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Write into this folder, which is there."""
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._max_bytes = max_bytes
        self._file = self._opened()

    def __call__(self, event: EgressEvent) -> None:
        """Write the event's line. A full disk takes none, and stops nothing."""
        line = json.dumps(asdict(event) | {"at": event.at.isoformat()}, ensure_ascii=True, separators=(",", ":"))
        try:
            if os.fstat(self._file).st_size >= self._max_bytes:
                self._rotate()
            os.write(self._file, f"{line}\n".encode("ascii"))
        except OSError as error:
            _log.error("the egress log cannot be written (%s): %s", error, line)  # no trace is needed

    def close(self) -> None:
        """Close file and folder."""
        os.close(self._file)
        os.close(self._folder)

    def _opened(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(NAME, flags, 0o600, dir_fd=self._folder)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            # Opened by root in a folder of nobody's: a link there would have root write where nobody may not.
            os.unlink(NAME, dir_fd=self._folder)
            return os.open(NAME, flags, 0o600, dir_fd=self._folder)

    def _rotate(self) -> None:
        os.close(self._file)
        names = [NAME, *(f"{NAME}.{number}" for number in range(1, KEPT + 1))]
        for older, newer in reversed(list(zip(names[1:], names, strict=False))):
            try:
                os.rename(newer, older, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            except FileNotFoundError:
                continue
        self._file = self._opened()
