"""A snapshot as it is held in memory, and the difference between two."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from activities.snapshots.entries import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from activities.snapshots.packs import Location

Signature = bytes
"""What tells a change of a path from outside: its inode, size and times among it. Each capture has words of its own."""
WHITEOUT_SIGNATURE: Signature = b"whiteout"
"""Overlay shares one inode among whiteouts: its times say nothing of the one path."""


class Totals(NamedTuple):
    """What a set of entries amounts to."""

    files: int = 0
    """Paths that are present and no directories."""
    bytes: int = 0
    """Of files; an inode with several names counts once."""

    def of_change(self, entry: Entry | None, sign: int) -> Totals:
        """Return what it is with an entry more (1) or less (-1)."""
        if entry is None or not is_file(entry):
            return self
        has_bytes = entry.kind is Kind.FILE and not entry.leader
        return Totals(self.files + sign, self.bytes + (sign * entry.size if has_bytes else 0))


_NOTHING = Totals()


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
    totals: Totals = _NOTHING
    """Of the entries: kept, because a small change to a large delta should not cost a look at each."""


EMPTY = State(ref=None, digest=None, number=0, depth=0, image=None, entries={}, chunks={})


@dataclass(slots=True)
class Index:
    """What is known of one container's files: a snapshot, and what its paths looked like when it was taken or restored.

    A path without a signature is read again at the next capture.
    """

    state: State
    signatures: dict[bytes, Signature] = field(default_factory=dict[bytes, Signature])
    gate: object = None
    """The capture's own proof that nothing ran since; None: it has none."""
    exclude: tuple[str, ...] = ()
    """The patterns by which paths were left out: with others the proof means nothing."""


class Scan(NamedTuple):
    """What a capture found."""

    entries: Mapping[bytes, Entry]
    signatures: dict[bytes, Signature]
    """Of the paths whose next change is sure to show."""
    skipped: int
    """Sockets, and paths too long to be named."""
    gate: object = None
    """What the capture wants back with the next index."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed between two sets of entries."""

    changed: dict[bytes, Entry]
    removed: list[bytes]

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


def compare(before: Mapping[bytes, Entry], after: Mapping[bytes, Entry]) -> Difference:
    """Return what leads from `before` to `after`."""
    if after is before:
        return Difference(changed={}, removed=[])
    changed: dict[bytes, Entry] = {}
    for path, entry in after.items():
        old = before.get(path)
        # A capture hands back the very object where nothing changed: comparing fields is the exception.
        if old is not entry and old != entry:
            changed[path] = entry
    removed = [path for path in before if path not in after]
    return Difference(changed=changed, removed=removed)


def totals_of(entries: Iterable[Entry]) -> Totals:
    """Count all entries."""
    files = [entry for entry in entries if is_file(entry)]
    return Totals(len(files), sum(entry.size for entry in files if entry.kind is Kind.FILE and not entry.leader))


def totals_after(before: State, difference: Difference) -> Totals:
    """Return the totals after a change, from those before it."""
    totals = before.totals
    for path, entry in difference.changed.items():
        totals = totals.of_change(before.entries.get(path), -1).of_change(entry, 1)
    for path in difference.removed:
        totals = totals.of_change(before.entries[path], -1)
    return totals


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
