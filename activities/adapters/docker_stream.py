"""A command in a container with its input and output as byte streams, over the Docker API alone.

A command waits for a first line on its input before it says anything: the client library may lose output that arrives
together with the answer's headers. It learns where its input ends by counting, never by a half-closed connection, which
TLS cannot carry.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any, Self

from activities.adapters.docker_client import translated
from activities.errors import SandboxUnavailable

if TYPE_CHECKING:
    from types import TracebackType

    from activities.adapters.docker_client import Daemon

WAIT = "read -r go; "
"""Every script starts so."""
_GO = b"go\n"
_HEADER = struct.Struct(">BxxxL")
_STDERR = 2
_RECEIVE = 1 << 18
_COMPLAINTS = 4000
_IDLE_S = 600.0


class ExecStream:
    """One running command; use it in one thread, as a context manager."""

    def __init__(self, daemon: Daemon, container_id: str, argv: list[str]) -> None:
        """Start the command as root, with the capabilities of the container: it sees and sets what any user owns."""
        with translated():
            self._api = daemon.api
            streams = daemon.streams
            created = streams.exec_create(
                container_id,
                argv,
                stdin=True,
                tty=False,
                user="0:0",
                workdir="/",
                environment={"LC_ALL": "C", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            )
            self._id: str = created["Id"]
            self._held: Any = streams.exec_start(self._id, socket=True)
            self._socket: Any = getattr(self._held, "_sock", self._held)
            self._socket.settimeout(_IDLE_S)
        self._frames = Demultiplexer()
        self._ended = False
        self.send(_GO)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def complaints(self) -> bytes:
        """The beginning of what it wrote to stderr."""
        return self._frames.complaints

    def close(self) -> None:
        """End the connection; a command that still reads its input sees the end of it."""
        response = getattr(self._held, "_response", None)
        with contextlib.suppress(OSError):
            self._socket.close()
            if response is not None:
                response.close()
            self._held.close()

    def hang_up(self) -> None:
        """Make another thread that sends or reads see the end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Write to the command's input, all of it."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            # It ended before it had read everything: its exit code and its complaints say why.
            if not isinstance(error, BrokenPipeError | ConnectionResetError):
                raise _broken(error) from error

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes of its output; nothing at the end."""
        frames = self._frames
        while not frames.waiting and not self._ended:
            self._receive()
        return frames.take(size)

    def exactly(self, size: int) -> bytes:
        """Return so many bytes of its output; fewer at its end alone."""
        frames = self._frames
        if frames.waiting >= size:
            return frames.take(size)
        parts: list[bytes] = []
        while size and (piece := self.read(size)):
            parts.append(piece)
            size -= len(piece)
        return b"".join(parts)

    def wait_for_complaint(self, text: bytes = b"") -> None:
        """Wait until it has written this to stderr, or more than is kept, or ended; its output until then is dropped.

        Args:
            text: By default anything.
        """
        while (
            not self._ended and len(self.complaints) < _COMPLAINTS and not (self.complaints and text in self.complaints)
        ):
            self._receive()
            self._frames.take(self._frames.waiting)

    def finish(self) -> int:
        """Read the rest of its output and return its exit code."""
        while self.read(_RECEIVE):
            pass
        with translated():
            return int(self._api.exec_inspect(self._id)["ExitCode"] or 0)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_RECEIVE)
        except OSError as error:
            raise _broken(error) from error
        if data:
            self._frames.feed(data)
        else:
            self._ended = True


class Demultiplexer:
    """Docker's multiplexed stream, taken apart: eight bytes (stream, length) before each piece."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._output = b""
        self._at = 0
        self._head = b""
        self._left = 0
        self._stream = 0
        self.waiting = 0
        """Bytes of output that were not taken yet."""
        self.complaints = b""
        """The beginning of what came on stderr."""

    def feed(self, data: bytes) -> None:
        """Take in what was received."""
        view = memoryview(data)
        pieces: list[bytes | memoryview] = []
        if self.waiting:
            pieces.append(memoryview(self._output)[self._at :])
        at, end = 0, len(data)
        while at < end:
            if not self._left:
                head = self._head + data[at : at + _HEADER.size - len(self._head)]
                at += len(head) - len(self._head)
                if len(head) < _HEADER.size:
                    self._head = head
                    break
                self._head = b""
                self._stream, self._left = _HEADER.unpack(head)
                continue
            piece = view[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if self._stream != _STDERR:
                pieces.append(piece)
            elif len(self.complaints) < _COMPLAINTS:
                self.complaints = (self.complaints + piece)[:_COMPLAINTS]
        self._output, self._at = b"".join(pieces), 0
        self.waiting = len(self._output)

    def take(self, size: int) -> bytes:
        """Return up to `size` bytes of output, and forget them."""
        at = self._at
        piece = self._output[at : at + size]
        self._at = at + len(piece)
        self.waiting -= len(piece)
        return piece


def _broken(error: OSError) -> SandboxUnavailable:
    why = error.strerror or type(error).__name__
    return SandboxUnavailable(f"The Docker daemon's stream broke ({why}): the call is made again.")
