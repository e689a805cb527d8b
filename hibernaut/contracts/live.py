"""What running activities tell with each heartbeat: details are kept by the server, not in the history."""

from typing import Literal

from hibernaut.models.base import Open

LIVE_TAIL = 2_000
"""Characters of each stream's end that a heartbeat carries at most: details are kept by the server, not in history."""


class LiveOutput(Open):
    """The first detail of a heartbeat of `shell.exec`: which command runs, and the newest of what it wrote.

    A preview: the whole is in the store. Where a tail holds no U+FFFD, its UTF-8 bytes end at `stdout_bytes`, so that
    a reader who knows how far it has come can go on with it at once.
    """

    exec_id: str
    command: str = ""
    """Its first 200 characters."""
    stdout_bytes: int = 0
    """Bytes written so far, up to the end of `stdout`."""
    stderr_bytes: int = 0
    stdout: str = ""
    """The newest text; bytes that are not UTF-8 are U+FFFD."""
    stderr: str = ""


class LiveProgress(Open):
    """The first detail of a heartbeat of `snapshot.take` and `snapshot.restore`: how far it has come."""

    what: Literal["snapshot", "restore"]
    text: str
    """For people, such as `fetched 120 of 300 MiB`."""
    done_bytes: int = 0
    total_bytes: int = 0
    """0: not known, or not counted in bytes."""
