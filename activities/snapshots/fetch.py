"""The content of a snapshot, taken as a whole: into memory, onto the local disk, or only to see that it is whole."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from activities.errors import CaptureError
from activities.snapshots.capture import Cancelled
from activities.snapshots.packs import open_frame
from activities.snapshots.sealing import PLAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from activities.snapshots.capture import Piece
    from activities.snapshots.entries import Entry
    from activities.snapshots.feed import Feed, Frame
    from activities.snapshots.packs import Location
    from activities.snapshots.sealing import Sealer

HELD_BYTES = 32 << 20
"""As much content is verified in memory before anything is done with it."""
_FRAMES_KEPT = 24
_PLAIN_BYTES = 1 << 30
"""As much is kept decompressed."""


class Held:
    """All content in memory: known to be whole before a container is touched."""

    def __init__(self, chunks: Mapping[bytes, Location], pieces: list[Piece]) -> None:
        self.chunks = chunks
        self._pieces = pieces
        self._lock = threading.Lock()

    def pieces(self) -> Iterator[Piece]:
        """See `PieceSource.pieces`."""
        while True:
            with self._lock:
                if not self._pieces:
                    return
                piece = self._pieces.pop()
            yield piece


async def held(feed: Feed) -> Held:
    """Take all of a feed into memory.

    Raises:
        SnapshotDamaged: It is not whole.
    """
    pieces: list[Piece] = []
    await feed.each(lambda piece: pieces.append(piece._replace(stored=b"")))
    return Held(feed.chunks, pieces)


async def verify(feed: Feed) -> None:
    """Take all of a feed and keep nothing.

    Raises:
        SnapshotDamaged: It is not whole.
    """
    await feed.each(lambda _: None)


class Spool:
    """All content of a set of entries on the local disk: known to be whole before a container is touched. Close it.

    What is not too large lies there as it is to be written, and the rest in frames as they are stored.
    """

    def __init__(self, chunks: Mapping[bytes, Location], folder: Path | None, *, sealer: Sealer = PLAIN) -> None:
        self._sealer = sealer
        self._chunks = chunks
        self._file = tempfile.TemporaryFile(dir=folder, prefix="hibernaut-restore-")  # noqa: SIM115 - `close` does
        self._places: dict[Frame, int] = {}
        self._frames: OrderedDict[Frame, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._open = threading.Lock()
        self._end = 0
        self._plain = False

    def close(self) -> None:
        """Give the disk space back."""
        with self._open:
            self._file.close()

    async def fill(self, feed: Feed) -> None:
        """Take all of a feed.

        Raises:
            SnapshotDamaged: It is not whole.
            CaptureError: The local disk cannot hold it.
        """
        self._plain = feed.plain_bytes <= _PLAIN_BYTES
        await feed.each(self._keep)

    def content(self, entry: Entry) -> Iterator[bytes | memoryview]:
        """See `ContentSource.content`: every chunk was compared with its digest when it was fetched."""
        for digest in entry.chunks:
            location = self._chunks[digest]
            if self._plain:
                yield self._read(location.length, self._places[location.frame] + location.start)
            else:
                frame = self._frame(location.frame)
                yield memoryview(frame)[location.start : location.start + location.length]

    def in_order(self, entries: Iterable[Entry]) -> list[Entry]:
        """See `ContentSource.in_order`."""
        return sorted(entries, key=lambda entry: self._chunks[entry.chunks[0]][:5] if entry.chunks else ("",))

    def _keep(self, piece: Piece) -> None:
        data = memoryview(piece.content if self._plain else piece.stored)
        with self._lock:
            place, self._end = self._end, self._end + len(data)
        try:
            self._write(data, place)
        except OSError as error:
            msg = (
                f"The local disk cannot hold what is to be restored ({error.strerror}): make room for temporary files."
            )
            raise CaptureError(msg) from error
        self._places[piece.frame] = place

    def _write(self, view: memoryview, place: int) -> None:
        """Write all of it, unless the file was closed meanwhile: its number may be another's by now."""
        while view:
            with self._open:
                if self._file.closed:
                    raise Cancelled
                written = os.pwrite(self._file.fileno(), view, place)
            view, place = view[written:], place + written

    def _read(self, length: int, place: int) -> bytes:
        data = os.pread(self._file.fileno(), length, place)
        if len(data) != length:
            msg = "The local disk does not give back what was fetched for the restore."
            raise CaptureError(msg)
        return data

    def _frame(self, frame: Frame) -> bytes:
        with self._lock:
            content = self._frames.get(frame)
            if content is not None:
                self._frames.move_to_end(frame)
                return content
        stored = self._read(frame[2], self._places[frame])
        content = open_frame(stored, frame[3], self._sealer)
        with self._lock:
            self._frames[frame] = content
            if len(self._frames) > _FRAMES_KEPT:
                self._frames.popitem(last=False)
        return content
