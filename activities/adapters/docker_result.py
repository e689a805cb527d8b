"""What a supervisor in a container answers, read with distrust: every line, number and byte of it is bounded."""

import re
from dataclasses import dataclass, replace

from activities.errors import SandboxRefused
from activities.ports.sandbox import CommandEnd
from hibernaut.models import OutcomeKind

Piece = tuple[str, bytes]
"""`stdout` or `stderr`, and the next bytes of it."""

INLINE_BYTES = 1 << 20
"""Output that comes with the end of a command; what is more is asked for piece by piece."""
MAX_BACKGROUND = 20
DISK_FULL = (
    "ended: the files of the sandbox took more space than the disk limit (disk_mb); all its processes were ended, its "
    "files are kept: delete what is not needed before anything else is written"
)
"""What is told of a command that was ended for the disk limit."""
CROWDED_BEFORE = (
    "before or while it ran, all processes of the sandbox were ended: there were as many as it may have (pids), and "
    "nothing could be started"
)
DISK_FULL_BEFORE = (
    "before or while it ran, processes in the background of the sandbox were ended: its files took more space than the "
    "disk limit (disk_mb); its files are kept: delete what is not needed before anything else is written"
)

_NUMBER = rb"(\d{1,15})"
_END = re.compile(
    rb"hibernaut2 end (exit|timeout|interrupted|limit|disk|unknown|not_run) (-|\d{1,3}) "
    + b" ".join([_NUMBER] * 4)
    + rb" (-|restarted|unseen|cut|pruned|oom) ([01]) (\d{1,2})\Z"
)
_PART = re.compile(rb"hibernaut2 part (\d{1,10}) (\d{1,10})\Z")
_REFUSED = re.compile(rb"hibernaut2 refused (user|drop|claim)\Z")
_PROCESS = re.compile(rb"[0-9]{1,10} [ -~]{1,60}\Z")
_LINE_LIMIT = 200

_REFUSALS = {
    "user": "the user that the spec or the image names is not in the container's /etc/passwd; name another, or add it",
    "drop": (
        "the image has no program that starts a command as another user: install util-linux (setpriv) or coreutils "
        "(chroot --userspec) in it, or let the commands run as root"
    ),
    "claim": (
        "the journal of commands in the container cannot be written; is the disk that holds Docker's volumes full?"
    ),
}
_DETAILS = {
    "restarted": "the container was restarted after the command had started",
    "unseen": "its supervisor was killed, so nobody saw how it ended",
    "cut": "only the first {} bytes of each of its streams were kept (max_output_bytes)",
    "pruned": "its output is no longer kept in the sandbox",
    "oom": (
        "out of memory: while it ran, the kernel killed a process of the sandbox, because all of them together "
        "needed more than the memory limit (memory_mb)"
    ),
}


@dataclass(frozen=True, slots=True)
class End:
    """How a command ended, as the journal has it."""

    kind: str
    exit_code: int | None
    duration_ms: int
    stdout_bytes: int
    stderr_bytes: int
    why: str
    whole: bool
    """Whether the output follows; else it is to be read piece by piece."""
    background: tuple[str, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether its output is still there."""
        return self.why != "pruned"

    def outcome(self, stdout_bytes: int, stderr_bytes: int, max_output_bytes: int) -> CommandEnd:
        """The end as the port has it, with so many bytes handed on."""
        kind, detail = self.kind, _DETAILS.get(self.why, "").format(max_output_bytes)
        if kind == "limit":
            kind = OutcomeKind.INTERRUPTED
            detail = f"ended: it wrote more than {max_output_bytes} bytes (max_output_bytes)"
        elif kind == "disk":
            kind, detail = OutcomeKind.INTERRUPTED, DISK_FULL
        return CommandEnd(
            kind=OutcomeKind(kind),
            exit_code=self.exit_code if kind == OutcomeKind.EXIT else None,
            duration_ms=self.duration_ms,
            stdout_bytes=stdout_bytes,
            stderr_bytes=stderr_bytes,
            background=self.background,
            detail=detail,
        )


class ReplyReader:
    """Splits one answer of the supervisor into its header, lines about background processes, and output."""

    def __init__(self, limit: int = INLINE_BYTES) -> None:
        """Expect an answer with at most so many bytes of output."""
        self._limit = limit
        self._line = b""
        self._header = False
        self._lines = 0
        self._background: list[str] = []
        self._left = {"stdout": 0, "stderr": 0}
        self.end: End | None = None
        """Set once its header is there, if this answers `run` or `find`."""
        self.surplus = False
        """Whether more came than was announced."""

    @property
    def begun(self) -> bool:
        """Whether anything came."""
        return self._header or bool(self._line)

    @property
    def done(self) -> bool:
        """Whether the answer is whole."""
        return self._header and not self._lines and not any(self._left.values())

    def feed(self, data: bytes) -> list[Piece]:
        """Take what came next; the output in it.

        Raises:
            SandboxRefused: It cannot be an answer, or it says why nothing can be run.
        """
        while data and (not self._header or self._lines):
            line, newline, data = (self._line + data).partition(b"\n")
            if len(line) > _LINE_LIMIT:
                raise _nonsense()
            self._line = b"" if newline else line
            if newline:
                self._take(line)
        pieces: list[Piece] = []
        for stream in ("stdout", "stderr"):
            piece, data = data[: self._left[stream]], data[self._left[stream] :]
            if piece:
                self._left[stream] -= len(piece)
                pieces.append((stream, piece))
        self.surplus = self.surplus or bool(data)
        return pieces

    def _take(self, line: bytes) -> None:
        if self._header:
            if not _PROCESS.match(line):
                raise _nonsense()
            self._lines -= 1
            self._background.append(line.decode("ascii"))
            if self.end is not None and not self._lines:
                self.end = replace(self.end, background=tuple(self._background))
        elif match := _END.match(line):
            self._ended(match)
        elif match := _PART.match(line):
            self._expect(int(match[1]), int(match[2]))
        elif match := _REFUSED.match(line):
            raise refusal(match[1])
        else:
            raise _nonsense()
        self._header = True

    def _ended(self, match: re.Match[bytes]) -> None:
        kind, code, begun, ended, out, err, why, whole, background = (part.decode() for part in match.groups())
        self._lines = int(background)
        if self._lines > MAX_BACKGROUND:
            raise _nonsense()
        if whole == "1":
            self._expect(int(out), int(err))
        self.end = End(
            kind=kind,
            exit_code=None if code == "-" else int(code),
            duration_ms=max(0, int(ended) - int(begun)) * 10,
            stdout_bytes=int(out),
            stderr_bytes=int(err),
            why=why,
            whole=whole == "1",
        )

    def _expect(self, out: int, err: int) -> None:
        if out + err > self._limit:
            raise _nonsense()
        self._left = {"stdout": out, "stderr": err}


class Seen:
    """Hands every byte of an output on once, though parts of it may be read again."""

    def __init__(self, limit: int) -> None:
        """Hand on at most `limit` bytes of each stream: no answer can be so large that it never ends."""
        self._limit = limit
        self.given = {"stdout": 0, "stderr": 0}

    def fresh(self, at: dict[str, int], pieces: list[Piece]) -> list[Piece]:
        """What is new in pieces whose streams are read from the offsets `at`, which move on."""
        new: list[Piece] = []
        for stream, data in pieces:
            piece = data[max(0, self.given[stream] - at[stream]) :][: max(0, self._limit - self.given[stream])]
            at[stream] += len(data)
            if piece:
                self.given[stream] += len(piece)
                new.append((stream, piece))
        return new


def refusal(why: bytes) -> SandboxRefused:
    """The error for what a supervisor says when it can run nothing."""
    return SandboxRefused(_REFUSALS[why.decode()])


def _nonsense() -> SandboxRefused:
    return SandboxRefused(
        "the supervisor in the container answered something else than a result; its files were tampered "
        "with, or the image's /bin/sh is no POSIX shell"
    )
