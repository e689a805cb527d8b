"""What a supervisor in a container answers, read with distrust: a header line, then the output it announces."""

import re
from dataclasses import dataclass

from activities.errors import SandboxRefused
from activities.ports.sandbox import CommandEnd, Sink

_HEADER = re.compile(
    rb"hibernaut1 (exit|timeout|interrupted|unknown) (-|\d{1,3}) ([\d.]{1,20}) ([\d.]{1,20}) (\d{1,15}) (\d{1,15})\Z"
)
_HEADER_LIMIT = 200


@dataclass(frozen=True, slots=True)
class _Header:
    kind: str
    exit_code: int | None
    duration_ms: int
    stdout_bytes: int
    stderr_bytes: int


class ResultReader:
    """Splits the supervisor's output into header, stdout and stderr. Its input is hostile: everything is bounded."""

    def __init__(self, sink: Sink) -> None:
        """Hand the output to this sink."""
        self._sink = sink
        self._line = b""
        self._seen = 0
        self._complaints = b""
        self.header: _Header | None = None
        self.surplus = False
        """Whether more came than was announced."""

    def feed(self, data: bytes) -> None:
        """Take what came next; SandboxRefused when it cannot be a result."""
        if self.header is None:
            self._line += data
            line, newline, rest = self._line.partition(b"\n")
            if len(line) > _HEADER_LIMIT or (newline and not _HEADER.match(line)):
                raise SandboxRefused(
                    "the supervisor in the container answered something else than a result; its files were tampered "
                    "with, or the image's /bin/sh is no POSIX shell"
                )
            if not newline:
                return
            self.header = _parse(line)
            self._line, data = b"", rest
        self._deliver(data)

    def complain(self, data: bytes) -> None:
        """Take what came on the supervisor's own standard error; the last of it is kept."""
        self._complaints = (self._complaints + data)[-2000:]

    @property
    def complaints(self) -> str:
        """The supervisor's last words, for an error's sentence."""
        return self._complaints.decode("utf-8", "replace").strip()

    @property
    def end(self) -> CommandEnd | None:
        """The result, once it is there whole."""
        header = self.header
        if header is None or self._seen < header.stdout_bytes + header.stderr_bytes:
            return None
        return CommandEnd(
            kind=header.kind,
            exit_code=header.exit_code if header.kind == "exit" else None,
            duration_ms=header.duration_ms,
            stdout_bytes=header.stdout_bytes,
            stderr_bytes=header.stderr_bytes,
        )

    def _deliver(self, data: bytes) -> None:
        header = self.header
        if header is None:
            return
        left = max(0, header.stdout_bytes - self._seen)
        out, rest = data[:left], data[left:]
        if out:
            self._sink("stdout", out)
            self._seen += len(out)
        left = header.stdout_bytes + header.stderr_bytes - self._seen
        err = rest[:left]
        if err:
            self._sink("stderr", err)
            self._seen += len(err)
        if len(rest) > left:
            self.surplus = True


def _parse(line: bytes) -> _Header:
    match = _HEADER.match(line)
    if match is None:
        raise SandboxRefused("the supervisor's result cannot be read")
    kind, code, begun, ended, out, err = (part.decode() for part in match.groups())
    try:
        duration = max(0.0, float(ended) - float(begun))
    except ValueError:
        duration = 0.0
    return _Header(kind, None if code == "-" else int(code), int(duration * 1000), int(out), int(err))


class Once:
    """Hands every byte of an output on once, though it may be read again from its start."""

    def __init__(self, sink: Sink) -> None:
        """Hand it to this sink."""
        self._sink = sink
        self._given = {"stdout": 0, "stderr": 0}
        self._at = {"stdout": 0, "stderr": 0}

    def __call__(self, stream: str, data: bytes) -> None:
        """Take what was read next of a stream."""
        fresh = data[max(0, self._given[stream] - self._at[stream]) :]
        self._at[stream] += len(data)
        if fresh:
            self._given[stream] += len(fresh)
            self._sink(stream, fresh)

    def rewind(self) -> None:
        """The output begins again."""
        self._at = {"stdout": 0, "stderr": 0}

    @property
    def whole(self) -> bool:
        """Whether the last reading reached as far as the ones before it."""
        return self._at == self._given
