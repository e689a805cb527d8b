"""A snapshot as it is held in memory, and the difference between two."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from activities.snapshots.entries import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activities.snapshots.packs import Location

Signature = tuple[int, int, int, int]
"""What tells a change of a path from outside: inode, size, mtime and ctime in nanoseconds."""
WHITEOUT_SIGNATURE: Signature = (0, 0, 0, 0)
"""Overlay shares one inode among whiteouts: its times say nothing of the one path."""


@dataclass(frozen=True, slots=True)
class State:
    """All that one snapshot says."""

    ref: str | None
    """None: no snapshot, the image alone."""
    digest: str | None
    """Of the manifest object."""
    number: int
    depth: int
    image: str | None
    entries: Mapping[bytes, Entry]
    chunks: Mapping[bytes, Location]
    """Every chunk known to be stored, those of earlier snapshots of the chain included."""
    parent: str | None = None


EMPTY = State(ref=None, digest=None, number=0, depth=0, image=None, entries={}, chunks={})


@dataclass(slots=True)
class Index:
    """What is known of one container's files: a snapshot, and what its paths looked like when it was taken or restored.

    A path without a signature is read again at the next capture.
    """

    state: State
    signatures: dict[bytes, Signature] = field(default_factory=dict[bytes, Signature])


class Scan(NamedTuple):
    """What a capture found."""

    entries: dict[bytes, Entry]
    signatures: dict[bytes, Signature]
    """Of the paths whose next change is sure to show."""
    skipped: int
    """Sockets, and paths too long to be named."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed between two sets of entries."""

    changed: dict[bytes, Entry]
    removed: list[bytes]

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


def compare(before: Mapping[bytes, Entry], after: Mapping[bytes, Entry]) -> Difference:
    """Return what leads from `before` to `after`."""
    changed: dict[bytes, Entry] = {}
    for path, entry in after.items():
        old = before.get(path)
        # A capture hands back the very object where nothing changed: comparing fields is the exception.
        if old is not entry and old != entry:
            changed[path] = entry
    removed = [path for path in before if path not in after]
    return Difference(changed=changed, removed=removed)


class Counts(NamedTuple):
    """Paths that are no directories, by what happened to them."""

    added: int
    changed: int
    deleted: int


def is_file(entry: Entry | None) -> bool:
    """Tell whether an entry counts as a file: present, and no directory."""
    return entry is not None and entry.kind is not Kind.WHITEOUT and entry.kind is not Kind.DIRECTORY


def counts(before: Mapping[bytes, Entry], difference: Difference, in_image: Mapping[bytes, bool]) -> Counts:
    """Count files; `in_image` says which of the changed paths the image has."""
    added = changed = deleted = 0
    for path, entry in difference.changed.items():
        old = before.get(path)
        if entry.kind is Kind.WHITEOUT:
            deleted += 1
        elif is_file(entry):
            known = is_file(old) if old is not None else in_image.get(path, False)
            changed += known
            added += not known
        elif is_file(old):
            deleted += 1
    deleted += sum(1 for path in difference.removed if is_file(before[path]))
    return Counts(added=added, changed=changed, deleted=deleted)
