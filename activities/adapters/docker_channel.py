"""Standing execs: one attached exec takes command after command, where each exec of its own costs more.

Entering a container's namespaces takes the runtime several times as long as a short command. So `supervise serve` is
started once and stays; a request is a line on its standard input, an answer what it writes to standard output. A second
one is there while a command runs, to read what it writes. Whoever loses a channel opens another: the journal in the
container keeps a command from running twice.
"""

import contextlib
import re
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Generator
from typing import Any

from activities.adapters.docker_client import Daemon, translated
from activities.adapters.docker_frames import Frames
from activities.adapters.docker_result import ReplyReader
from activities.adapters.docker_sandbox import JOURNAL
from activities.errors import SandboxError, SandboxLost, SandboxRefused, SandboxUnavailable

MAX_IDLE = 64
"""Channels kept open while nothing runs through them; the one used longest ago is closed first."""
IDLE_PER_CONTAINER = 2
"""One for commands, one to read what a running command writes."""
LOOK_S = 1.0
"""Seconds of silence after which the daemon is asked whether the container still runs."""
SEND_S = 30.0
"""Seconds a request may wait to be taken; a container held still for its snapshot takes none."""

_HELLO = b"hibernaut2 serving"
_NOT_STARTED, _NOT_FOUND = 126, 127
_RECEIVE_BYTES = 256 * 1024


class Channel:
    """One attached `supervise serve`. Used by one thread at a time; only `hang_up` may come from another."""

    def __init__(self, daemon: Daemon, sandbox_id: str) -> None:
        """Start it. It is not waited for: a request may be sent at once.

        Raises:
            SandboxError: The daemon does not start an exec there.
        """
        self._daemon = daemon
        self._sandbox_id = sandbox_id
        argv = ["sh", f"{JOURNAL}/supervise", "serve"]
        with translated():
            # As root, whoever runs the commands: the journal is out of that user's reach.
            self._exec: str = daemon.api.exec_create(
                sandbox_id, argv, stdin=True, stderr=False, tty=False, user="0:0", workdir="/"
            )["Id"]
            self._connection: Any = daemon.streams.exec_start(self._exec, socket=True)
        self._socket: Any = getattr(self._connection, "_sock", self._connection)
        self._frames = Frames()
        self._greeting = b""
        self._greeted = False
        if not isinstance(self._socket, socket.socket):
            self.close()
            raise SandboxError("this connection to the Docker daemon is no socket that takes input")
        try:
            # Asked after the start: should the container be restarted in between, this connection ends with it.
            with translated():
                self.started_at = token(daemon.api.inspect_container(sandbox_id)["State"]["StartedAt"])
        except SandboxError:
            self.close()
            raise

    @property
    def quiet(self) -> bool:
        """Whether it stands, and nothing has come that nobody asked for."""
        if self._frames.unfinished or not self._greeted:
            return False
        try:
            self._socket.settimeout(0)
            self._socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def send(self, request: bytes) -> None:
        """Write a request; SandboxUnavailable when it cannot be written."""
        with _standing():
            self._socket.settimeout(SEND_S)
            self._socket.sendall(request)

    def receive(self, patience: float) -> bytes | None:
        """What came next, possibly nothing yet; None when nothing came in so many seconds.

        Raises:
            SandboxUnavailable: The channel ended.
            SandboxRefused: Who answers there is no supervisor that serves, or it says why it cannot.
        """
        raw = None
        deadline = time.monotonic() + patience
        while raw is None:
            left = deadline - time.monotonic()
            with _standing():
                self._socket.settimeout(min(LOOK_S, max(0.001, left)))
                with contextlib.suppress(TimeoutError):
                    raw = self._socket.recv(_RECEIVE_BYTES)
            if raw is None and self._outlived:
                raise SandboxUnavailable("the container stopped or was restarted under the channel into it")
            if raw is None and left <= LOOK_S:
                return None
        if not raw:
            raise self._ended()
        data = self._frames.feed(raw)
        return data if self._greeted else self._greet(data)

    def hang_up(self) -> None:
        """Make whoever waits in `receive` see the end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it: the supervisor finishes the command it runs, and sees the end of its input."""
        response = getattr(self._connection, "_response", None)
        with contextlib.suppress(OSError):
            if response is not None:
                response.close()
            self._connection.close()

    def _greet(self, data: bytes) -> bytes:
        line, newline, rest = (self._greeting + data).partition(b"\n")
        self._greeting = line
        if newline and line == _HELLO:
            self._greeted = True
            return rest
        if newline or len(line) > len(_HELLO):
            # It may be a refusal, which says more.
            ReplyReader().feed(line + newline)
            raise SandboxRefused("what answers in the container is no supervisor that serves")
        return b""

    @property
    def _outlived(self) -> bool:
        """Whether the container it leads into has stopped or was restarted; False when the daemon does not say.

        It ends with the container, but under gVisor its end may never come.
        """
        try:
            with translated():
                state = self._daemon.api.inspect_container(self._sandbox_id)["State"]
        except SandboxLost:
            return True
        except SandboxError:
            return False
        return not state["Running"] or token(state["StartedAt"]) != self.started_at

    def _ended(self) -> SandboxError:
        """Why the connection ended, as far as the daemon knows."""
        if not self._greeted:
            with translated():
                code = self._daemon.api.exec_inspect(self._exec).get("ExitCode")
            if code == _NOT_FOUND:
                return SandboxRefused("the image has no /bin/sh")
            if code == _NOT_STARTED:
                return SandboxRefused(
                    "no shell can be started in the container: its memory is used up, or its /bin/sh cannot be executed"
                )
        return SandboxUnavailable("the channel into the container ended")


class Channels:
    """The channels of one daemon's containers. For threads."""

    def __init__(self, daemon: Daemon, *, max_idle: int = MAX_IDLE) -> None:
        """Open none yet."""
        self._daemon = daemon
        self._max_idle = max_idle
        self._lock = threading.Lock()
        self._idle: OrderedDict[Channel, str] = OrderedDict()
        self._busy: dict[Channel, str] = {}
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @contextlib.contextmanager
    def lease(self, sandbox_id: str) -> Generator[Channel]:
        """A channel into the container for the block: one that stands idle, else a new one.

        It stays open when the block ends well and all that came was received; else it is closed.

        Raises:
            SandboxError: None can be had.
        """
        channel = self._idle_one(sandbox_id) or self._opened(sandbox_id)
        good = False
        try:
            yield channel
            good = channel.quiet
        finally:
            self._put_back(sandbox_id, channel, good=good)

    def drop(self, sandbox_id: str) -> None:
        """Close the container's channels; a block that uses one sees its end."""
        with self._lock:
            for channel, owner in self._busy.items():
                if owner == sandbox_id:
                    channel.hang_up()
        self.renew(sandbox_id)

    def renew(self, sandbox_id: str) -> None:
        """Close the container's idle channels: whoever wants one is given a new one."""
        with self._lock:
            idle = [channel for channel, owner in self._idle.items() if owner == sandbox_id]
            for channel in idle:
                del self._idle[channel]
        for channel in idle:
            channel.close()

    def close(self) -> None:
        """Close all of them, and give out no more."""
        with self._lock:
            self._closed = True
            names = {*self._idle.values(), *self._busy.values()}
        for name in names:
            self.drop(name)

    def _idle_one(self, sandbox_id: str) -> Channel | None:
        """A channel that stands idle, now busy."""
        while True:
            with self._lock:
                channel = next((one for one, owner in self._idle.items() if owner == sandbox_id), None)
                if channel is None:
                    return None
                del self._idle[channel]
                self._busy[channel] = sandbox_id
            if channel.quiet:
                return channel
            # It ended by itself, as when the container was restarted.
            self._put_back(sandbox_id, channel, good=False)

    def _opened(self, sandbox_id: str) -> Channel:
        self._sweep()
        if self._closed:
            raise SandboxUnavailable("the worker is stopping")
        channel = Channel(self._daemon, sandbox_id)
        with self._lock:
            self._busy[channel] = sandbox_id
            if self._closed:
                channel.hang_up()
        return channel

    def _put_back(self, sandbox_id: str, channel: Channel, *, good: bool) -> None:
        done: list[Channel] = []
        with self._lock:
            self._busy.pop(channel, None)
            same = sum(owner == sandbox_id for owner in self._idle.values())
            if good and not self._closed and same < IDLE_PER_CONTAINER:
                self._idle[channel] = sandbox_id
            else:
                done.append(channel)
            while len(self._idle) > self._max_idle:
                done.append(self._idle.popitem(last=False)[0])
        for one in done:
            one.close()

    def _sweep(self) -> None:
        """Close what ended by itself: containers are removed by others too."""
        with self._lock:
            gone = [channel for channel in self._idle if not channel.quiet]
            for channel in gone:
                del self._idle[channel]
        for channel in gone:
            channel.close()


def token(started_at: object) -> str:
    """A start of a container, as Docker writes it, in the characters that the journal takes."""
    return re.sub(r"[^A-Za-z0-9:.+-]", "", str(started_at))[:64] or "-"


@contextlib.contextmanager
def _standing() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise SandboxUnavailable(f"the channel into the container broke: {error}") from error
