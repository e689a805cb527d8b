"""Standing execs: one attached exec per container takes command after command, where each exec of its own costs more.

Entering a container's namespaces takes the runtime several times as long as a short command. So `supervise serve` is
started once per container and stays; a request is a line on its standard input, a result what it writes to standard
output. Whoever cannot have a channel, or loses it, starts an exec of its own: the journal in the container keeps a
command from running twice.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections import OrderedDict
from collections.abc import Generator
from typing import Any

from activities.adapters.docker_client import Daemon, translated
from activities.adapters.docker_sandbox import JOURNAL
from activities.errors import SandboxError, SandboxUnavailable

MAX_IDLE = 64
"""Channels kept open while nothing runs through them; the one used longest ago is closed first."""
MAX_LINE_BYTES = 64 * 1024
"""A shell reads its standard input byte by byte: a longer request is better off as arguments of its own exec."""
SEND_S = 30.0
"""Seconds a request may wait to be taken; a container held still for its snapshot takes none."""

_HELLO = b"hibernaut1 serving\n"
_FRAME = struct.Struct(">BxxxL")
_STDOUT = 1
_RECEIVE_BYTES = 256 * 1024


class Channel:
    """One attached `supervise serve`. Used by one thread at a time; only `hang_up` may come from another."""

    def __init__(self, daemon: Daemon, sandbox_id: str) -> None:
        """Start it. It is not waited for: a request may be sent at once.

        Raises:
            SandboxError: The daemon does not start an exec there.
        """
        argv = ["sh", f"{JOURNAL}/supervise", "serve"]
        with translated():
            exec_id = daemon.api.exec_create(sandbox_id, argv, stdin=True, stderr=False, tty=False)["Id"]
            self._connection: Any = daemon.streams.exec_start(exec_id, socket=True)
        self._socket: Any = getattr(self._connection, "_sock", self._connection)
        self._frames = _Frames()
        self._greeting = b""
        if not isinstance(self._socket, socket.socket):
            self.close()
            raise SandboxError("this connection to the Docker daemon is no socket that takes input")

    @property
    def quiet(self) -> bool:
        """Whether it stands, and nothing has come that nobody asked for."""
        if self._frames.unfinished or self._greeting != _HELLO:
            return False
        try:
            self._socket.settimeout(0)
            self._socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def send(self, line: bytes) -> None:
        """Write a request; SandboxUnavailable when it cannot be written."""
        with _standing():
            self._socket.settimeout(SEND_S)
            self._socket.sendall(line)

    def receive(self, patience: float) -> bytes:
        """What came next, possibly nothing yet; SandboxUnavailable at the channel's end or after so many seconds."""
        with _standing():
            self._socket.settimeout(patience)
            raw = self._socket.recv(_RECEIVE_BYTES)
        if not raw:
            raise SandboxUnavailable("the channel into the container ended")
        data = self._frames.feed(raw)
        missing = len(_HELLO) - len(self._greeting)
        if missing:
            self._greeting += data[:missing]
            if not _HELLO.startswith(self._greeting):
                raise SandboxUnavailable("what answers in the container is no supervisor that serves")
        return data[missing:]

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


class Channels:
    """The channels of one daemon's containers, at most one for each. For threads."""

    def __init__(self, daemon: Daemon, *, max_idle: int = MAX_IDLE) -> None:
        """Open none yet."""
        self._daemon = daemon
        self._max_idle = max_idle
        self._lock = threading.Lock()
        self._idle: OrderedDict[str, Channel] = OrderedDict()
        self._busy: dict[str, Channel | None] = {}
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @contextlib.contextmanager
    def lease(self, sandbox_id: str) -> Generator[Channel | None]:
        """The container's channel for the block, or None when it is in use or cannot be had.

        It stays open when the block ends well and all that came was received; else it is closed.
        """
        with self._lock:
            free = not self._closed and sandbox_id not in self._busy
            if free:
                self._busy[sandbox_id] = None
            channel = self._idle.pop(sandbox_id, None) if free else None
        if not free:
            yield None
            return
        good = False
        try:
            channel = self._opened(sandbox_id, channel)
            yield channel
            good = channel is not None and channel.quiet
        finally:
            self._put_back(sandbox_id, channel, good=good)

    def drop(self, sandbox_id: str) -> None:
        """Close the container's channel; a block that uses it sees its end."""
        with self._lock:
            idle, busy = self._idle.pop(sandbox_id, None), self._busy.get(sandbox_id)
            if busy is not None:
                busy.hang_up()
        if idle is not None:
            idle.close()

    def close(self) -> None:
        """Close all of them, and give out no more."""
        with self._lock:
            self._closed = True
            names = [*self._idle, *self._busy]
        for name in names:
            self.drop(name)

    def _opened(self, sandbox_id: str, channel: Channel | None) -> Channel | None:
        """The channel kept, when it still stands, else a new one, if it can be had."""
        if channel is not None and not channel.quiet:
            channel.close()
            channel = None
        if channel is None:
            self._sweep()
            try:
                channel = Channel(self._daemon, sandbox_id)
            except SandboxError:
                # The exec that is started instead says why.
                return None
        with self._lock:
            self._busy[sandbox_id] = channel
            if self._closed:
                channel.hang_up()
        return channel

    def _put_back(self, sandbox_id: str, channel: Channel | None, *, good: bool) -> None:
        done: list[Channel] = []
        with self._lock:
            self._busy.pop(sandbox_id, None)
            if channel is not None:
                if good and not self._closed:
                    self._idle[sandbox_id] = channel
                else:
                    done.append(channel)
            while len(self._idle) > self._max_idle:
                done.append(self._idle.popitem(last=False)[1])
        for one in done:
            one.close()

    def _sweep(self) -> None:
        """Close what ended by itself: containers are removed by others too."""
        with self._lock:
            gone = [name for name, channel in self._idle.items() if not channel.quiet]
            channels = [self._idle.pop(name) for name in gone]
        for channel in channels:
            channel.close()


@contextlib.contextmanager
def _standing() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise SandboxUnavailable(f"the channel into the container broke: {error}") from error


class _Frames:
    """Docker's multiplexed stream: eight bytes (stream, length) before each piece."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._wanted = False

    @property
    def unfinished(self) -> bool:
        return bool(self._head or self._left)

    def feed(self, raw: bytes) -> bytes:
        """The part of it that is standard output."""
        pieces: list[bytes] = []
        at = 0
        while at < len(raw):
            if not self._left:
                taken = raw[at : at + _FRAME.size - len(self._head)]
                self._head += taken
                at += len(taken)
                if len(self._head) == _FRAME.size:
                    stream, self._left = _FRAME.unpack(self._head)
                    self._wanted = stream == _STDOUT
                    self._head = b""
                continue
            piece = raw[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if self._wanted:
                pieces.append(piece)
        return b"".join(pieces)
