"""Commands in a container, at most once per exec id, through the supervisor inside it."""

import re
import time
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

from activities.adapters.docker_channel import Channel, Channels, token
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_control import ContainerControl
from activities.adapters.docker_result import End, Piece, ReplyReader, Seen
from activities.errors import InvalidCommand, SandboxError, SandboxLost, SandboxRefused, SandboxUnavailable
from activities.ports.sandbox import CommandEnd, CommandRequest
from hibernaut.models import OutcomeKind

MAX_LINE_BYTES = 64 * 1024
"""A shell reads its standard input byte by byte: a longer command follows its request as it is."""
MAX_COMMAND_BYTES = 1_500_000
"""A shell keeps a command in memory, more than once."""
GRACE_S = 60.0
"""Seconds beyond a command's timeout after which a silent channel is given up."""
STALL_S = 30.0
"""Seconds without a byte after which a channel is given up in the middle of an answer."""
LOOK_S = 1.0
"""Seconds between two looks at what a running command has written."""
PART_BYTES = 4 << 20
"""Output asked for at once."""

_EXEC_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\Z")


@dataclass(frozen=True, slots=True)
class Step:
    """What is new of a running command."""

    pieces: tuple[Piece, ...] = ()
    end: CommandEnd | None = None
    """Set in the last step."""


Steps = Generator[Step, None, None]


class CommandRunner:
    """Runs supervised commands on one daemon. All methods block; call them in threads."""

    def __init__(self, daemon: Daemon) -> None:
        """Use this daemon."""
        self._control = ContainerControl(daemon)
        self._channels = Channels(daemon)

    def run(self, sandbox_id: str, request: CommandRequest) -> Steps:
        """Run the command, or attach to it when its id is known: its output as it comes, its end in the last step.

        A step takes about a second at most once the command runs. Closing the generator leaves the command running.

        Raises:
            InvalidCommand: The command cannot be handed to a shell (NUL byte, too long, not encodable).
            SandboxLost: The container is gone, or went away meanwhile, or was restarted since the lease.
            SandboxUnavailable: The stream broke while the container runs on; the same call attaches again.
            SandboxRefused: What answers in the container is no supervisor, or it cannot run commands there.
        """
        work = _Run(self._channels, sandbox_id, request)
        try:
            try:
                yield from work.steps()
            except (SandboxUnavailable, SandboxRefused) as error:
                if self._channels.closed:
                    raise SandboxUnavailable("the worker is stopping; a command that was started runs on") from error
                # Whatever became of the channel, the journal knows what became of the command: asking again attaches.
                self._check_running(sandbox_id, asked=work.asked)
                self._channels.renew(sandbox_id)
                yield from work.steps()
        except SandboxLost as error:
            error.started = error.started or (work.asked and error.end is None)
            self._channels.drop(sandbox_id)
            raise
        except (SandboxUnavailable, SandboxRefused):
            # What a daemon says whose container just ended is no result either.
            self._check_running(sandbox_id, asked=work.asked)
            raise

    def stop(self, sandbox_id: str, exec_id: str, reason: Literal["-", "disk"] = "-") -> None:
        """End a running command with its processes; whoever waits for it gets its partial output and the reason."""
        with self._channels.lease(sandbox_id) as channel:
            channel.send(f"stop {_checked(exec_id)} {reason} 0 0\n".encode())
            left = b"hibernaut2 stopped\n"
            while left:
                data = channel.receive(STALL_S)
                # Nothing yet is what a new channel's greeting leaves.
                if data is None or not left.startswith(data):
                    break
                left = left[len(data) :]

    def forget(self, sandbox_id: str) -> None:
        """Release what is kept open for a container that was removed."""
        self._channels.drop(sandbox_id)

    def close(self) -> None:
        """Release what is kept open; commands under way run on in their containers."""
        self._channels.close()

    def _check_running(self, sandbox_id: str, *, asked: bool) -> None:
        """SandboxLost, with the reason, when the container has stopped."""
        # Its processes end a moment before the daemon says so.
        for pause in (0.05, 0.1, 0.2, 0.4, 0) if asked else (0,):
            state = self._control.inspect(sandbox_id)
            if not state.running:
                oom = ", killed for lack of memory" if state.oom_killed else ""
                raise SandboxLost(f"the container stopped with exit code {state.exit_code}{oom}", started=asked)
            time.sleep(pause)


class _Run:
    """One command and how far its output was read."""

    def __init__(self, channels: Channels, sandbox_id: str, request: CommandRequest) -> None:
        _checked(request.exec_id)
        self._channels = channels
        self._sandbox_id = sandbox_id
        self._request = request
        self._line = _line(request)
        # One running over its bound is noticed a moment late; what was kept of it is within.
        self._seen = Seen(request.max_output_bytes)
        self.asked = False
        """Whether a supervisor may have been given the command."""

    def steps(self) -> Steps:
        """Ask a supervisor for the command, and go on to its end."""
        request = self._request
        with self._channels.lease(self._sandbox_id) as channel:
            restarted = bool(request.started_at) and channel.started_at != token(request.started_at)
            if restarted or request.attach_only:
                channel.send(f"find {request.exec_id} {channel.started_at}\n".encode())
            else:
                self.asked = True
                channel.send(f"run {request.exec_id} {channel.started_at} ".encode() + self._line.rest)
            end = yield from self._wait(channel)
            if end.readable and not end.whole:
                # A connection that took a long command takes no further request.
                with self._channels.lease(self._sandbox_id) if self._line.raw else nullcontext(channel) as reading:
                    yield from self._rest(reading, end)
            given = self._seen.given
            result = end.outcome(
                # Of what is there no more nothing can be given.
                given["stdout"] if end.readable else end.stdout_bytes,
                given["stderr"] if end.readable else end.stderr_bytes,
                request.max_output_bytes,
            )
            if restarted:
                raise SandboxLost(
                    f"the container was restarted: the lease knows the one started at {request.started_at}, and this "
                    f"one was started at {channel.started_at}",
                    started=result.kind is not OutcomeKind.NOT_RUN,
                    end=result,
                )
        yield Step(end=result)

    def _wait(self, channel: Channel) -> Generator[Step, None, End]:
        """Wait for the command's end and read what it writes meanwhile."""
        reader, at = ReplyReader(), {"stdout": 0, "stderr": 0}
        deadline = time.monotonic() + self._request.timeout_ms / 1000 + GRACE_S
        pieces: list[Piece] = []
        while not reader.done:
            data = channel.receive(STALL_S if reader.begun else LOOK_S)
            if data is not None:
                pieces += self._seen.fresh(at, reader.feed(data))
                continue
            if reader.begun or time.monotonic() > deadline:
                raise SandboxUnavailable(f"the result of {self._request.exec_id} does not come; try again")
            yield from self._meanwhile()
        if reader.surplus:
            channel.hang_up()
        end = reader.end
        if end is None:
            raise SandboxRefused("the supervisor in the container answered a question that was not asked")
        yield Step(tuple(pieces))
        return end

    def _meanwhile(self) -> Steps:
        """What the command has written so far, by another channel; an empty step at least."""
        try:
            with self._channels.lease(self._sandbox_id) as channel:
                while True:
                    pieces, full = self._part(channel)
                    yield Step(tuple(pieces))
                    if not full:
                        return
        except SandboxError:
            # It is a preview: whoever waits for the end learns what is wrong.
            yield Step()

    def _rest(self, channel: Channel, end: End) -> Steps:
        """What the end of the command did not bring along."""
        given = self._seen.given
        while given["stdout"] < end.stdout_bytes or given["stderr"] < end.stderr_bytes:
            pieces, _ = self._part(channel)
            if not pieces:
                # Less is there than was told: what is there is what it wrote.
                return
            yield Step(tuple(pieces))

    def _part(self, channel: Channel) -> tuple[list[Piece], bool]:
        """The next bytes of both streams, and whether there may be more at once."""
        at, before = dict(self._seen.given), dict(self._seen.given)
        request = f"read {self._request.exec_id} {at['stdout']} {at['stderr']} {PART_BYTES}\n"
        channel.send(request.encode())
        reader = ReplyReader(PART_BYTES)
        try:
            return self._received(channel, reader, at)
        except SandboxError:
            # What came of it was handed to nobody: it is asked for again.
            self._seen.given = before
            raise

    def _received(self, channel: Channel, reader: ReplyReader, at: dict[str, int]) -> tuple[list[Piece], bool]:
        pieces: list[Piece] = []
        size = 0
        while not reader.done:
            data = channel.receive(STALL_S)
            if data is None:
                raise SandboxUnavailable("the container does not hand out what a command wrote; try again")
            read = reader.feed(data)
            size += sum(len(piece) for _, piece in read)
            pieces += self._seen.fresh(at, read)
        if reader.surplus or reader.end is not None:
            channel.hang_up()
            raise SandboxUnavailable("the container answered something else than what a command wrote; try again")
        return pieces, bool(pieces) and size >= PART_BYTES


@dataclass(frozen=True, slots=True)
class _Line:
    """A request behind id and start of the container."""

    rest: bytes
    raw: bool
    """Whether the command follows the line as it is."""


def _line(request: CommandRequest) -> _Line:
    """The request as the supervisor reads it, after id and start of the container."""
    command = request.command
    if "\0" in command:
        raise InvalidCommand("the command holds a NUL byte, which no shell can be given")
    try:
        raw = command.encode()
    except UnicodeEncodeError as error:
        raise InvalidCommand(f"the command is not valid Unicode: {error}") from error
    if len(raw) > MAX_COMMAND_BYTES:
        raise InvalidCommand(
            f"the command has {len(raw)} bytes and the limit is {MAX_COMMAND_BYTES}; "
            "write a long text into a file in several commands"
        )
    bounds = f"{max(1, request.timeout_ms // 10)} {request.max_output_bytes} ".encode()
    # `read` drops blanks at the ends of a line, `$(...)` newlines at the end: the dots keep both.
    text = b"." + raw.replace(b"\\", rb"\\").replace(b"\n", rb"\n") + b".\n"
    if len(text) <= MAX_LINE_BYTES:
        return _Line(bounds + text, raw=False)
    return _Line(bounds + f"@{len(raw)}\n".encode() + raw, raw=True)


def _checked(exec_id: str) -> str:
    if not _EXEC_ID.match(exec_id):
        raise InvalidCommand(f"{exec_id!r} is no exec id")
    return exec_id
