"""Commands in a container, at most once per exec id, through the supervisor inside it."""

import re
import time
from dataclasses import dataclass
from typing import Any

from activities.adapters.docker_channel import MAX_LINE_BYTES, Channel, Channels
from activities.adapters.docker_client import Daemon, translated
from activities.adapters.docker_sandbox import JOURNAL
from activities.errors import InvalidCommand, SandboxLost, SandboxRefused, SandboxUnavailable
from activities.ports.sandbox import CommandEnd, CommandRequest, Sink

PART_BYTES = 100_000
"""One argument of a process is limited to 128 KiB, so a longer command travels in parts."""
MAX_COMMAND_BYTES = 1_500_000
"""All arguments together are limited to a quarter of the stack: 2 MiB by default."""
GRACE_S = 60.0
"""Seconds beyond a command's timeout after which a silent channel is given up for an exec of its own."""
STALL_S = 30.0
"""Seconds without a byte after which a channel is given up in the middle of a result."""

_HEADER = re.compile(
    rb"hibernaut1 (exit|timeout|interrupted|unknown) (-|\d{1,3}) ([\d.]{1,20}) ([\d.]{1,20}) (\d{1,15}) (\d{1,15})\Z"
)
_HEADER_LIMIT = 200
_EXEC_ID = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")


@dataclass(frozen=True, slots=True)
class _Header:
    kind: str
    exit_code: int | None
    duration_ms: int
    stdout_bytes: int
    stderr_bytes: int


class CommandRunner:
    """Runs supervised commands on one daemon. All methods block; call them in threads."""

    def __init__(self, daemon: Daemon) -> None:
        """Use this daemon."""
        self._daemon = daemon
        self._channels = Channels(daemon)

    def run(self, sandbox_id: str, request: CommandRequest, sink: Sink) -> CommandEnd:
        """Run the command, or attach to it when its id is known, and hand its output to `sink`.

        Raises:
            InvalidCommand: The command cannot be an argument (NUL byte, too long, not encodable).
            SandboxLost: The container is gone, or went away meanwhile.
            SandboxUnavailable: The stream broke while the container runs on; the same call attaches again.
        """
        _checked(request.exec_id)
        parts = _parts(request.command)
        once = _Once(sink)
        asked = False
        try:
            line = _line(request)
            if line is not None:
                with self._channels.lease(sandbox_id) as channel:
                    if channel is not None:
                        asked = True
                        return _ask(channel, line, _ResultReader(once), request.timeout_ms / 1000 + GRACE_S)
        except (OSError, SandboxRefused) as error:
            # Whatever became of the channel, the journal knows what became of the command: asking once more attaches.
            if self._channels.closed:
                raise SandboxUnavailable("the worker is stopping; the command runs on") from error
        try:
            if asked:
                self._check_running(sandbox_id)
                once.rewind()
            end = self._exec(sandbox_id, request, parts, _ResultReader(once))
        except SandboxLost as error:
            error.started = error.started or asked
            self._channels.drop(sandbox_id)
            raise
        if not once.whole:
            raise SandboxUnavailable(f"the output of {request.exec_id} changed while it was read; try again")
        return end

    def stop(self, sandbox_id: str, exec_id: str) -> None:
        """End a running command with its process group; whoever waits for it gets its partial output."""
        api = self._daemon.streams
        with translated():
            stopper = api.exec_create(sandbox_id, ["sh", f"{JOURNAL}/supervise", "stop", _checked(exec_id)])["Id"]
            api.exec_start(stopper)

    def forget(self, sandbox_id: str) -> None:
        """Release what is kept open for a container that was removed."""
        self._channels.drop(sandbox_id)

    def close(self) -> None:
        """Release what is kept open; commands under way run on in their containers."""
        self._channels.close()

    def _exec(self, sandbox_id: str, request: CommandRequest, parts: list[str], reader: "_ResultReader") -> CommandEnd:
        """The command in an exec of its own."""
        argv = ["sh", f"{JOURNAL}/supervise", "run", request.exec_id, _seconds(request), *parts]
        api = self._daemon.streams
        with translated():
            exec_id = api.exec_create(sandbox_id, argv, stdin=False, tty=False)["Id"]
            for stream, data in self._daemon.frames(exec_id):
                if stream == "stdout":
                    reader.feed(data)
                else:
                    reader.complain(data)
        end = reader.end
        if end is None:
            raise self._broken(sandbox_id, exec_id, reader.complaints)
        return end

    def _broken(self, sandbox_id: str, exec_id: str, complaints: str) -> Exception:
        """Why a result did not arrive whole: the container's end, or only the stream's."""
        try:
            self._check_running(sandbox_id)
            with translated():
                code = self._daemon.api.exec_inspect(exec_id).get("ExitCode")
        except SandboxLost as error:
            error.started = True
            return error
        if code in {126, 127}:
            return SandboxRefused(f"the image has no usable /bin/sh: {complaints or code}")
        return SandboxUnavailable(f"the result of {exec_id[:12]} was cut off (exit code {code}): {complaints}")

    def _check_running(self, sandbox_id: str) -> None:
        """SandboxLost, with the reason, when the container of a command that was begun has stopped."""
        with translated():
            state: dict[str, Any] = self._daemon.api.inspect_container(sandbox_id)["State"]
        if not state.get("Running"):
            oom = ", killed for lack of memory" if state.get("OOMKilled") else ""
            raise SandboxLost(f"the container stopped with exit code {state.get('ExitCode')}{oom}", started=True)


class _Once:
    """Hands every byte of an output on once, though it may be read again from its start."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._given = {"stdout": 0, "stderr": 0}
        self._at = {"stdout": 0, "stderr": 0}

    def __call__(self, stream: str, data: bytes) -> None:
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


def _ask(channel: Channel, line: bytes, reader: "_ResultReader", patience: float) -> CommandEnd:
    """The command through a channel; OSError when it breaks or stalls, SandboxRefused when it answers nonsense."""
    channel.send(line)
    deadline = time.monotonic() + patience
    while (end := reader.end) is None:
        # A command may be silent up to its timeout; the bytes of a result that has begun follow each other.
        wait = STALL_S if reader.header else max(0.001, deadline - time.monotonic())
        reader.feed(channel.receive(wait))
    if reader.surplus:
        channel.hang_up()
    return end


class _ResultReader:
    """Splits the supervisor's output into header, stdout and stderr. Its input is hostile: everything is bounded."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._line = b""
        self._seen = 0
        self._complaints = b""
        self.header: _Header | None = None
        self.surplus = False

    def feed(self, data: bytes) -> None:
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
        self._complaints = (self._complaints + data)[-2000:]

    @property
    def complaints(self) -> str:
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


def _seconds(request: CommandRequest) -> str:
    return f"{max(0.001, request.timeout_ms / 1000):.3f}"


def _line(request: CommandRequest) -> bytes | None:
    """The request as `supervise serve` reads it, or None when it is too long for a channel."""
    if len(request.command) > MAX_LINE_BYTES:
        return None
    # `read` drops blanks at the ends of a line, `$(...)` newlines at the end: the dots keep both.
    text = request.command.replace("\\", r"\\").replace("\n", r"\n")
    line = f"{request.exec_id} {_seconds(request)} .{text}.\n".encode()
    return line if len(line) <= MAX_LINE_BYTES else None


def _checked(exec_id: str) -> str:
    if not _EXEC_ID.match(exec_id) or exec_id.startswith("."):
        raise InvalidCommand(f"{exec_id!r} is no exec id")
    return exec_id


def _parts(command: str) -> list[str]:
    """The command as arguments short enough for the kernel, cut between characters."""
    if "\0" in command:
        raise InvalidCommand("the command holds a NUL byte, which no shell can be given")
    try:
        size = len(command.encode())
    except UnicodeEncodeError as error:
        raise InvalidCommand(f"the command is not valid Unicode: {error}") from error
    if size > MAX_COMMAND_BYTES:
        raise InvalidCommand(
            f"the command has {size} bytes and the limit is {MAX_COMMAND_BYTES}; "
            "write a long text into a file in several commands"
        )
    step = PART_BYTES // 4
    return [command[start : start + step] for start in range(0, len(command), step)] or [""]
