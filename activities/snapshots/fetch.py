"""Fetches the content of a snapshot and verifies every chunk before anything is done with it.

Frames go, as they are stored, to a temporary file on the local disk: all of it is known to be whole before a container
is touched, in bounded memory.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING

from activities.errors import CaptureError, ObjectNotFound, SnapshotDamaged
from activities.snapshots.chunking import digest_of
from activities.snapshots.packs import open_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from activities.ports.store import ObjectStore
    from activities.snapshots.capture import Control
    from activities.snapshots.entries import Entry
    from activities.snapshots.packs import Location

_GAP_BYTES = 512 << 10
_RANGE_BYTES = 16 << 20
_PARALLEL = 4
_FRAMES_KEPT = 24

_Frame = tuple[str, int, int, int]


class Spool:
    """The frames that a set of entries needs, on the local disk. Close it."""

    def __init__(self, chunks: Mapping[bytes, Location], folder: Path | None) -> None:
        self._chunks = chunks
        self._file = tempfile.TemporaryFile(dir=folder, prefix="hibernaut-restore-")  # noqa: SIM115 - `close` does
        self._places: dict[_Frame, int] = {}
        self._frames: OrderedDict[_Frame, bytes] = OrderedDict()
        self._end = 0
        self.requests = 0

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    async def fill(self, store: ObjectStore, entries: Iterable[Entry], control: Control) -> None:
        """Fetch and verify all content of these entries.

        Raises:
            SnapshotDamaged: A pack is missing or a chunk does not match its digest.
        """
        wanted: dict[_Frame, dict[bytes, Location]] = defaultdict(dict)
        for entry in entries:
            for digest in entry.chunks:
                location = self._chunks[digest]
                wanted[location.frame][digest] = location
        ranges = list(_ranges(wanted))
        slots = asyncio.Semaphore(_PARALLEL)
        done = 0

        async def fetch(pack: str, frames: list[_Frame]) -> None:
            nonlocal done
            async with slots:
                start = frames[0][1]
                length = frames[-1][1] + frames[-1][2] - start
                self.requests += 1
                try:
                    data = await store.get_range(pack, start, length)
                except ObjectNotFound:
                    msg = f"The pack {pack} is missing from the store."
                    raise SnapshotDamaged(msg) from None
                place, self._end = self._end, self._end + len(data)
                await asyncio.to_thread(self._keep, data, place, frames, wanted)
                done += length
                control.text = f"fetched {done >> 20} MiB"

        tasks = [asyncio.create_task(fetch(pack, frames)) for pack, frames in ranges]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def content(self, entry: Entry) -> Iterator[bytes]:
        """See `ContentSource.content`."""
        for digest in entry.chunks:
            location = self._chunks[digest]
            data = self._frame(location.frame)[location.start : location.start + location.length]
            _verify(digest, data, location.pack)
            yield data

    def in_order(self, entries: Iterable[Entry]) -> list[Entry]:
        """See `ContentSource.in_order`."""
        return sorted(entries, key=lambda entry: self._chunks[entry.chunks[0]][:5] if entry.chunks else ("",))

    def _keep(
        self, data: bytes, place: int, frames: list[_Frame], wanted: Mapping[_Frame, Mapping[bytes, Location]]
    ) -> None:
        start = frames[0][1]
        for frame in frames:
            pack, offset, stored, plain = frame
            piece = data[offset - start : offset - start + stored]
            content = open_frame(piece, plain)
            for digest, location in wanted[frame].items():
                _verify(digest, content[location.start : location.start + location.length], pack)
        try:
            os.pwrite(self._file.fileno(), data, place)
        except OSError as error:
            msg = (
                f"The local disk cannot hold what is to be restored ({error.strerror}): make room for temporary files."
            )
            raise CaptureError(msg) from error
        for frame in frames:
            self._places[frame] = place + frame[1] - start

    def _frame(self, frame: _Frame) -> bytes:
        content = self._frames.get(frame)
        if content is None:
            stored = os.pread(self._file.fileno(), frame[2], self._places[frame])
            content = self._frames[frame] = open_frame(stored, frame[3])
            if len(self._frames) > _FRAMES_KEPT:
                self._frames.popitem(last=False)
        else:
            self._frames.move_to_end(frame)
        return content


def _verify(digest: bytes, data: bytes, pack: str) -> None:
    if digest_of(data) != digest:
        msg = f"A chunk in the pack {pack} does not match its digest."
        raise SnapshotDamaged(msg)


def _ranges(frames: Iterable[_Frame]) -> Iterator[tuple[str, list[_Frame]]]:
    """Group frames that lie close together in a pack: one request for each group."""
    group: list[_Frame] = []
    for frame in sorted(frames):
        if group:
            pack, offset, stored, _ = group[-1]
            near = pack == frame[0] and 0 <= frame[1] - (offset + stored) <= _GAP_BYTES
            if not near or frame[1] + frame[2] - group[0][1] > _RANGE_BYTES:
                yield group[0][0], group
                group = []
        group.append(frame)
    if group:
        yield group[0][0], group
