"""Commands in a container, at most once per exec id, through the supervisor inside it."""

import re
import time
from typing import Any

from activities.adapters.docker_channel import MAX_LINE_BYTES, Channel, Channels
from activities.adapters.docker_client import Daemon, translated
from activities.adapters.docker_result import Once, ResultReader
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

_EXEC_ID = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")


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
        once = Once(sink)
        asked = False
        try:
            line = _line(request)
            if line is not None:
                with self._channels.lease(sandbox_id) as channel:
                    if channel is not None:
                        asked = True
                        return _ask(channel, line, ResultReader(once), request.timeout_ms / 1000 + GRACE_S)
        except OSError as error:
            raise SandboxUnavailable(f"the output of {request.exec_id} could not be kept: {error}") from error
        except (SandboxUnavailable, SandboxRefused) as error:
            # Whatever became of the channel, the journal knows what became of the command: asking once more attaches.
            if self._channels.closed:
                raise SandboxUnavailable("the worker is stopping; the command runs on") from error
        try:
            if asked:
                self._check_running(sandbox_id)
                once.rewind()
            end = self._exec(sandbox_id, request, parts, ResultReader(once))
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

    def _exec(self, sandbox_id: str, request: CommandRequest, parts: list[str], reader: ResultReader) -> CommandEnd:
        """The command in an exec of its own."""
        argv = ["sh", f"{JOURNAL}/supervise", "run", request.exec_id, _seconds(request), *parts]
        api = self._daemon.streams
        try:
            with translated():
                exec_id = api.exec_create(sandbox_id, argv, stdin=False, tty=False)["Id"]
                for stream, data in self._daemon.frames(exec_id):
                    if stream == "stdout":
                        reader.feed(data)
                    else:
                        reader.complain(data)
        except SandboxRefused:
            # What a daemon says whose container just ended is no result either.
            self._check_running(sandbox_id)
            raise
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
        # Its processes end a moment before the daemon says so.
        for pause in (0.05, 0.1, 0.2, 0.4, 0):
            with translated():
                state: dict[str, Any] = self._daemon.api.inspect_container(sandbox_id)["State"]
            if not state.get("Running"):
                oom = ", killed for lack of memory" if state.get("OOMKilled") else ""
                raise SandboxLost(f"the container stopped with exit code {state.get('ExitCode')}{oom}", started=True)
            time.sleep(pause)


def _ask(channel: Channel, line: bytes, reader: ResultReader, patience: float) -> CommandEnd:
    """The command through a channel; SandboxUnavailable when it breaks, SandboxRefused when it answers nonsense."""
    channel.send(line)
    deadline = time.monotonic() + patience
    while (end := reader.end) is None:
        # A command may be silent up to its timeout; the bytes of a result that has begun follow each other.
        wait = STALL_S if reader.header else max(0.001, deadline - time.monotonic())
        reader.feed(channel.receive(wait))
    if reader.surplus:
        channel.hang_up()
    return end


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
