"""What is kept of one tool call, and how output is trimmed to what a model is shown."""

from datetime import datetime
from typing import Literal

from hibernaut.models import CommandOutcome, OutcomeKind
from hibernaut.models.base import Open

EXEC_FORMAT: Literal["hibernaut-exec/1"] = "hibernaut-exec/1"


class ExecutedCommand(Open):
    """One command and what the model is shown of it."""

    exec_id: str
    command: str
    """The whole command."""
    kind: OutcomeKind
    exit_code: int | None = None
    """None unless `kind` is exit."""
    stdout: str = ""
    """Trimmed to head and tail; the whole is in the store, in pieces, under the exec id."""
    stderr: str = ""
    truncated: bool = False
    """Whether stdout or stderr was trimmed."""
    stdout_bytes: int = 0
    """Bytes the command wrote, before trimming."""
    stderr_bytes: int = 0
    duration_ms: int = 0
    background: tuple[str, ...] = ()
    """Processes it left running, each `PID NAME`."""
    detail: str = ""
    """What is known beyond the kind."""
    command_digest: str = ""
    """Of the whole command and of all that it wrote, for the audit log."""
    stdout_digest: str = ""
    stderr_digest: str = ""

    @classmethod
    def from_outcome(cls, outcome: CommandOutcome) -> "ExecutedCommand":
        """The same of an outcome that has no record because nothing ran."""
        return cls(
            exec_id=outcome.exec_id,
            command=outcome.command,
            kind=outcome.kind,
            exit_code=outcome.exit_code,
            stdout=outcome.stdout_head,
            stderr=outcome.stderr_head,
            truncated=outcome.truncated,
            stdout_bytes=outcome.stdout_bytes,
            stderr_bytes=outcome.stderr_bytes,
            duration_ms=outcome.duration_ms,
            background=outcome.background,
            detail=outcome.detail,
        )


class ExecRecord(Open):
    """The commands of one tool call: an object under `StoreKeys.exec_record`."""

    format: Literal["hibernaut-exec/1"] = EXEC_FORMAT
    agent_uid: str
    exec_prefix: str
    call_id: str
    commands: tuple[ExecutedCommand, ...]
    max_output_length: int
    """Characters of each stream the model is shown."""
    created_at: datetime


class OutputWindow:
    """Keeps head and tail of a stream in bounded memory: feed it everything, then render."""

    def __init__(self, limit: int) -> None:
        """Prepare for a stream of which `limit` characters are to be shown."""
        self._limit = limit
        # A character of UTF-8 has at most four bytes.
        self._room = 4 * limit
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self.total += len(data)
        wanted = self._room - len(self._head)
        self._head += data[:wanted]
        self._tail += data[max(wanted, 0) :]
        if len(self._tail) > 2 * self._room:
            del self._tail[: len(self._tail) - self._room]

    def render(self) -> tuple[str, bool]:
        """The text to show, and whether something was left out."""
        return head_tail(bytes(self._head), bytes(self._tail), self.total, limit=self._limit)


def head_tail(head: bytes, tail: bytes, total: int, *, limit: int) -> tuple[str, bool]:
    """Trim a stream to its first and last characters, with a line between that says how much is missing.

    Bytes that are not UTF-8, and NUL bytes, are shown as U+FFFD.

    Args:
        head: the first bytes of the stream.
        tail: its last bytes; head and tail may overlap.
        total: bytes of the whole stream.
        limit: characters to show; the line between comes on top.

    Returns:
        The text, and whether something was left out.
    """
    if len(head) + len(tail) >= total:
        whole = head + tail[len(head) + len(tail) - total :]
        text = _decode(whole)
        if len(text) <= limit:
            return _shown(text), False
        head = tail = whole
    first = _decode(head)[: limit // 2]
    # The start of the tail may lie within a character.
    last = _decode(tail[_continuation(tail) :])[-(limit - limit // 2) :]
    left_out = total - len(_encode(first)) - len(_encode(last))
    return f"{_shown(first)}\n[... {left_out} bytes left out ...]\n{_shown(last)}", True


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _shown(text: str) -> str:
    return _encode(text).decode("utf-8", "replace").replace("\0", "\ufffd")


def _continuation(data: bytes) -> int:
    """How many bytes at the start belong to a character that began before."""
    for index, byte in enumerate(data[:3]):
        if byte & 0xC0 != 0x80:  # noqa: PLR2004  # 10xxxxxx continues a character of UTF-8
            return index
    return min(len(data), 3)
