"""Reads of a large file that was read before what changed alone: tools in the container tell which segments differ.

A large file that changes once changes again. When that is read, its segments are summed up; at the next change they are
summed up in the container, where a sum takes a fraction of the time that handing out the content does, and only around
those whose sums differ the content is asked for and cut into chunks anew, until a cut falls on an old one again. As
with everything read, what changes meanwhile shows in the next listing.

Sums come from an untrusted container, as the content does: wrong ones make its own snapshots wrong, and no others.
"""

from __future__ import annotations

import hashlib
import io
import re
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from activities.adapters.api_listing import FILE
from activities.adapters.api_script import BLOCK, SEGMENT_BYTES, SUM_BYTES
from activities.adapters.pax_reader import read_members
from activities.errors import CaptureError
from activities.snapshots.chunking import cut
from activities.snapshots.entries import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activities.adapters.api_listing import Seen
    from activities.adapters.api_shell import ContainerShell, End
    from activities.snapshots.capture import Control
    from activities.snapshots.chunking import Readable
    from activities.snapshots.packs import Location, PackWriter
    from activities.snapshots.state import Signature

LARGE_BYTES = 16 << 20
_PART_BLOCKS = 64
_PLAIN = re.compile(rb"[ -~]+")


class Segments(NamedTuple):
    """What is known of a large file's content."""

    signature: Signature
    """What it looked like."""
    sums: tuple[bytes, ...]
    """Of each of its segments."""


class Summed:
    """A content that is summed up while it is read."""

    def __init__(self) -> None:
        self._content: Readable = io.BytesIO()
        self._sums: list[bytes] = []
        self._sum = _new_sum()
        self._size = 0

    def of(self, content: Readable) -> Summed:
        """Read this."""
        self._content = content
        return self

    def read(self, size: int, /) -> bytes:
        """See `Readable.read`."""
        piece = self._content.read(size)
        view = memoryview(piece)
        while view:
            part = view[: SEGMENT_BYTES - self._size]
            self._sum.update(part)
            self._size += len(part)
            view = view[len(part) :]
            if self._size == SEGMENT_BYTES:
                self._end()
        return piece

    def sums(self) -> tuple[bytes, ...]:
        """Return those of all segments, once everything was read."""
        if self._size:
            self._end()
        return tuple(self._sums)

    def _end(self) -> None:
        self._sums.append(self._sum.digest())
        self._sum, self._size = _new_sum(), 0


class LargeFile(NamedTuple):
    """A large file as it was read last."""

    entry: Entry
    segments: Segments
    starts: tuple[int, ...]
    """Where each chunk begins, and after them the size."""

    @classmethod
    def of(cls, entry: Entry, segments: Segments, known: Mapping[bytes, Location]) -> LargeFile | None:
        """Put together what is known of a file; None when its chunks are not all known."""
        lengths = [known[digest].length for digest in entry.chunks if digest in known]
        starts = tuple(accumulate(lengths, initial=0))
        if len(lengths) != len(entry.chunks) or starts[-1] != entry.size:
            return None
        return cls(entry, segments, starts)


def is_large(entry: Entry | None) -> bool:
    """Tell whether it is a file that is worth summing up when it is read again."""
    return entry is not None and entry.kind is Kind.FILE and not entry.leader and entry.size >= LARGE_BYTES


def is_plain(path: bytes) -> bool:
    """Tell whether a shell reads this path as it is, whichever shell it is."""
    return _PLAIN.fullmatch(path) is not None


def likely(segments: Mapping[bytes, Segments]) -> tuple[bytes, int] | None:
    """Return the largest file among those that changed before, and how many segments it has."""
    files = [(len(one.sums), path) for path, one in segments.items() if is_plain(path)]
    count, path = max(files, default=(0, b""))
    return (path, count) if count else None


class LargeReader:
    """Reads large files again."""

    def __init__(self, shell: ContainerShell, writer: PackWriter, control: Control) -> None:
        self._shell = shell
        self._writer = writer
        self._control = control
        self.births: list[int] = []
        """Process ids of all commands that the shell has run for it."""
        self.last: End | None = None
        """Of what was asked last."""

    def read(self, seen: Seen, known: LargeFile, *, ahead: bool) -> tuple[Entry, tuple[bytes, ...]] | None:
        """Read a file again; return it, and the sums of its segments.

        None: it is not worth it, or something was not as it was listed. Then it has to be read whole.

        Args:
            seen: What the file looks like.
            known: What is known of it.
            ahead: Sums that were made beside the listing count.
        """
        path = known.entry.path
        if seen.letter != FILE or seen.size < LARGE_BYTES or known.entry.extents is not None:
            return None
        if not is_plain(path):
            return None
        count = -(-seen.size // SEGMENT_BYTES)
        same_count = count == len(known.segments.sums)
        head, sums, end = self._shell.sums(path, count, self._control, ahead=ahead and same_count)
        self._note(end)
        xattrs = _xattrs(head, path, seen.size)
        old = known.segments.sums
        differs = [number >= len(old) or old[number] != found for number, found in enumerate(sums)]
        if len(sums) != count or sum(differs) * 2 > count or xattrs is None:
            return None
        chunks = self._chunks(seen.size, known, differs)
        if chunks is None:
            return None
        entry = known.entry._replace(
            mode=seen.mode,
            uid=seen.uid,
            gid=seen.gid,
            mtime_ns=seen.mtime_ns,
            size=seen.size,
            chunks=tuple(chunks),
            xattrs=xattrs,
        )
        return entry, sums

    def _chunks(self, size: int, known: LargeFile, differs: list[bool]) -> list[bytes] | None:
        """Return the chunks of a file of which some segments differ; None when it was cut short meanwhile."""
        starts = known.starts
        numbers = {start: number for number, start in enumerate(starts[:-1])}

        def is_same(number: int) -> bool:
            start, end = starts[number], starts[number + 1]
            # The last one was cut by the end of the file, not by its content.
            if end > size or (number == len(numbers) - 1 and end != size):
                return False
            return not any(differs[start // SEGMENT_BYTES : (end - 1) // SEGMENT_BYTES + 1])

        chunks: list[bytes] = []
        at = 0
        while at < size:
            number = numbers.get(at)
            if number is not None and is_same(number):
                chunks.append(known.entry.chunks[number])
                at = starts[number + 1]
                continue
            parts = _Parts(self, known.entry.path, at, size)
            for chunk in cut(parts):
                chunks.append(self._writer.add_chunk(chunk))
                at += len(chunk)
                number = numbers.get(at)
                if parts.is_short or (number is not None and is_same(number)):
                    break
            self._writer.read_bytes += parts.taken
            if parts.is_short:
                return None
        return chunks

    def part(self, path: bytes, block: int) -> bytes:
        """Ask for some MiB of a file."""
        data, end = self._shell.part(path, block, _PART_BLOCKS, self._control)
        self._note(end)
        return data

    def _note(self, end: End) -> None:
        self.births += end.births
        self.last = end


class _Parts:
    """A file from some place on, asked for in parts."""

    def __init__(self, reader: LargeReader, path: bytes, at: int, size: int) -> None:
        self._reader = reader
        self._path = path
        self._at = at
        self._size = size
        self._waiting = memoryview(b"")
        self.taken = 0
        self.is_short = False
        """It is shorter than was listed."""

    def read(self, size: int, /) -> bytes:
        """See `Readable.read`."""
        if not self._waiting and self._at < self._size and not self.is_short:
            block, skipped = divmod(self._at, BLOCK)
            data = memoryview(self._reader.part(self._path, block))
            self._waiting = data[skipped : skipped + self._size - self._at]
            self._at += len(self._waiting)
            self.is_short = len(data) != min(_PART_BLOCKS * BLOCK, self._size - block * BLOCK)
        piece = bytes(self._waiting[:size])
        self._waiting = self._waiting[len(piece) :]
        self.taken += len(piece)
        return piece


def _xattrs(head: bytes, path: bytes, size: int) -> tuple[tuple[bytes, bytes], ...] | None:
    """Return the extended attributes that the beginning of a tar stream tells; None when it tells of another file."""
    try:
        member = next(read_members(io.BytesIO(head)))
    except (CaptureError, StopIteration):
        return None
    is_it = member.path.removeprefix(b"./") == path and member.type == b"0" and member.size == size
    return member.xattrs if is_it and member.extents is None else None


def _new_sum() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=SUM_BYTES)
