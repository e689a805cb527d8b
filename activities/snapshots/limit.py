"""How much a snapshot may hold, and what to say when the files of a sandbox are more."""

from __future__ import annotations

import heapq
import os
from collections import defaultdict
from typing import TYPE_CHECKING

from activities.errors import SnapshotTooLarge
from activities.snapshots.entries import ROOT, Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SHOWN = 5
_SHOWN_PATH = 200
_WORTH_A_LOOK = 4
"""A directory is shown as a whole unless one of those in it has at least this part of its bytes."""
_WORTH_A_WORD = 50
"""What has less than this part of all bytes is not shown."""


class Limit:
    """A limit of the content that differs from the image, holes not counted."""

    def __init__(self, max_bytes: int | None) -> None:
        """None: there is none."""
        self.max_bytes = max_bytes

    def __bool__(self) -> bool:
        """Whether there is one."""
        return self.max_bytes is not None

    def check(self, sizes: Mapping[bytes, int]) -> None:
        """Refuse files, by their paths, that have too many bytes; call it before anything of them is stored.

        Raises:
            SnapshotTooLarge: They have.
        """
        total = sum(sizes.values())
        if self.max_bytes is None or total <= self.max_bytes:
            return
        largest = ", ".join(f"{_shown(path)} {_size(size)}" for path, size in largest_directories(sizes))
        msg = (
            f"The files that differ from the image have {_size(total)}, and a snapshot may hold "
            f"{_size(self.max_bytes)} (sandbox.snapshots.max_bytes, {total:,} of {self.max_bytes:,} bytes). Most of it "
            f"is in {largest}. Delete what is not needed; a new agent may leave paths out of its snapshots "
            "(sandbox.snapshots.exclude) or have a higher limit."
        )
        raise SnapshotTooLarge(msg)


UNLIMITED = Limit(None)


def content_bytes(entry: Entry) -> int:
    """Return the bytes of an entry's content without its holes."""
    if entry.kind is not Kind.FILE or entry.leader:
        return 0
    return entry.size if entry.extents is None else sum(length for _, length in entry.extents)


def largest_directories(sizes: Mapping[bytes, int], count: int = _SHOWN) -> list[tuple[bytes, int]]:
    """Return the few directories in which most bytes are, as deep as that is true of one place."""
    totals: defaultdict[bytes, int] = defaultdict(int)
    for path, size in sizes.items():
        for above in _above(path):
            totals[above] += size
    below: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for path in totals:
        if path != ROOT:
            below[path.rpartition(b"/")[0] or ROOT].append(path)
    heap = [(-totals[ROOT], ROOT)]
    found: list[tuple[bytes, int]] = []
    while heap and len(found) < count:
        size, path = heapq.heappop(heap)
        inside = [(-totals[child], child) for child in below[path]]
        if inside and -min(inside)[0] * _WORTH_A_LOOK >= -size:
            for child in inside:
                heapq.heappush(heap, child)
        elif not found or -size * _WORTH_A_WORD >= totals[ROOT]:
            found.append((path, -size))
    return found


def _above(path: bytes) -> Iterable[bytes]:
    while path := path.rpartition(b"/")[0]:
        yield path
    yield ROOT


def _shown(path: bytes) -> str:
    text = "/" if path == ROOT else "/" + os.fsdecode(path)
    # A name may have any byte but one; quotes and escapes only where that is so.
    plain = text if text.isprintable() and text.isascii() else ascii(text)
    return plain if len(plain) <= _SHOWN_PATH else plain[:_SHOWN_PATH] + "..."


def _size(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if size < 1000:  # noqa: PLR2004  # decimal units
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
