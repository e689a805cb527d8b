"""A command in a container with its input and output as byte streams, over the Docker API alone.

A command waits for a first line on its input before it says anything: the client library may lose output that arrives
together with the answer's headers. It learns where its input ends by counting, never by a half-closed connection, which
TLS cannot carry.
"""

from __future__ import annotations

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
        self._buffer = bytearray()
        self._left = 0
        self._stream = 0
        self._ended = False
        self.complaints = b""
        """The beginning of what it wrote to stderr."""
        self.send(_GO)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; a command that still reads its input sees the end of it."""
        self._socket.close()
        self._held.close()

    def send(self, data: bytes) -> None:
        """Write to the command's input, all of it."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            # It ended before it had read everything: its exit code and its complaints say why.
            if not isinstance(error, BrokenPipeError | ConnectionResetError):
                raise _broken(error) from error

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes of its output; nothing at the end."""
        while not self._ended:
            if piece := self._advance(size):
                return piece
        return b""

    def wait_for_complaint(self) -> None:
        """Wait until it has written to stderr, or ended; its output until then is dropped."""
        while not self.complaints and not self._ended:
            self._advance(_RECEIVE)

    def finish(self) -> int:
        """Read the rest of its output and return its exit code."""
        while self.read(_RECEIVE):
            pass
        with translated():
            return int(self._api.exec_inspect(self._id)["ExitCode"] or 0)

    def _advance(self, size: int) -> bytes:
        """Do one step: take in bytes or a frame's header, or hand out a piece of output."""
        if self._left and self._buffer:
            piece = bytes(self._buffer[: min(size if self._stream != _STDERR else _RECEIVE, self._left)])
            del self._buffer[: len(piece)]
            self._left -= len(piece)
            if self._stream != _STDERR:
                return piece
            self.complaints = (self.complaints + piece)[:_COMPLAINTS]
        elif not self._left and len(self._buffer) >= _HEADER.size:
            self._stream, self._left = _HEADER.unpack_from(self._buffer)
            del self._buffer[: _HEADER.size]
        else:
            self._receive()
        return b""

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_RECEIVE)
        except OSError as error:
            raise _broken(error) from error
        if data:
            self._buffer += data
        else:
            self._ended = True


def _broken(error: OSError) -> SandboxUnavailable:
    why = error.strerror or type(error).__name__
    return SandboxUnavailable(f"The Docker daemon's stream broke ({why}): the call is made again.")
