"""Which parts of which files each chunk is, and which files are still to be completed."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import defaultdict
from itertools import accumulate, islice
from typing import TYPE_CHECKING, NamedTuple

from activities.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from activities.snapshots.capture import Control
    from activities.snapshots.entries import Entry
    from activities.snapshots.packs import Location


class Part(NamedTuple):
    """A chunk as one file uses it."""

    entry: Entry
    start: int
    """Where it begins in what the file holds, holes left out."""


class Board:
    """The files of one restore, for all threads that write them."""

    def __init__(self, files: Sequence[Entry], chunks: Mapping[bytes, Location], control: Control) -> None:
        """Take up files whose content is to come; `chunks` tells how long each is."""
        self._control = control
        self._total = sum(entry.size for entry in files)
        self._written = 0
        self._parts: defaultdict[bytes, list[Part]] = defaultdict(list)
        self._left: dict[bytes, int] = {}
        self._ends: dict[bytes, list[int]] = {}
        """Of files with holes: how much they hold up to the end of each run of data."""
        self._lock = threading.Lock()
        for entry in files:
            if len(entry.chunks) == 1:
                self._parts[entry.chunks[0]].append(Part(entry, 0))
                continue
            start = 0
            for digest in entry.chunks:
                self._parts[digest].append(Part(entry, start))
                start += chunks[digest].length
            if entry.chunks:
                self._left[entry.path] = len(entry.chunks)
                if entry.extents is not None:
                    self._ends[entry.path] = list(accumulate(length for _, length in entry.extents))
        self._missing = set(self._parts)

    def take(self, digest: bytes) -> Sequence[Part]:
        """Return what a chunk that came is to be written to."""
        self._missing.discard(digest)
        return self._parts.get(digest, ())

    def is_in_parts(self, entry: Entry) -> bool:
        """Tell whether a file is written chunk by chunk, in any order."""
        return entry.path in self._left

    def is_last(self, entry: Entry) -> bool:
        """Count a part of a file that is written; tell whether it was the last one."""
        with self._lock:
            self._left[entry.path] -= 1
            return self._left[entry.path] == 0

    def runs(self, part: Part) -> Iterator[tuple[int, int]]:
        """Return the offsets and lengths of a file with holes from where a part of it begins."""
        entry, start = part
        ends = self._ends.get(entry.path, ())
        first = bisect_right(ends, start)
        passed = ends[first - 1] if first else 0
        for offset, length in islice(entry.extents or (), first, None):
            yield offset + start - passed, length - (start - passed)
            start = passed = 0

    def report(self, size: int) -> None:
        """Say how much is written, and stop here when the caller gave up."""
        self._written += size
        done = min(self._written, self._total)
        self._control.report(f"wrote {done >> 20} of {self._total >> 20} MiB")

    def check_complete(self) -> None:
        """Make sure that everything came.

        Raises:
            CaptureError: Something did not.
        """
        left = len(self._missing) + sum(1 for count in self._left.values() if count)
        if left:
            msg = f"The content of {left} files or more did not come: restore again."
            raise CaptureError(msg)
