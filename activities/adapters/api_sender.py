"""Sends a byte stream to a command by a thread beside the one that makes it."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from activities.adapters.docker_stream import ExecStream

_BATCH_BYTES = 1 << 20
_WAITING = 2
"""Batches made and not yet sent: with the one being made and the one being sent, about 4 MiB and a piece."""


class Sender:
    """A context manager: leaving it by an error ends the stream."""

    def __init__(self, stream: ExecStream, *, sent: int = 0) -> None:
        """Send to a stream, over which so many bytes went before."""
        self._stream = stream
        self._pieces: list[bytes | memoryview] = []
        self._size = 0
        self._queue: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._send, name="restore-sender", daemon=True)
        self.bytes = sent
        """Taken so far, and what went before."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            # It may hang in the middle of what is of no use any more.
            self._stream.hang_up()
        self._queue.put(None)
        self._thread.join()

    def add(self, piece: bytes | memoryview) -> None:
        """Send a piece, sooner or later."""
        self._pieces.append(piece)
        self._size += len(piece)
        self.bytes += len(piece)
        if self._size >= _BATCH_BYTES:
            self.flush()

    def finish(self) -> None:
        """Wait until all is sent.

        Raises:
            SandboxUnavailable: The stream broke.
        """
        self.flush()
        self._queue.put(None)
        self._thread.join()
        self._check()

    def flush(self) -> None:
        """Have all of it sent that was taken, without waiting for it."""
        self._check()
        if self._size:
            self._queue.put(b"".join(self._pieces))
            self._pieces, self._size = [], 0

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _send(self) -> None:
        while (data := self._queue.get()) is not None:
            if self._failed is None:
                try:
                    self._stream.send(data)
                except Exception as error:  # noqa: BLE001  # told to whoever makes the stream
                    self._failed = error
