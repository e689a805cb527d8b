"""What a snapshot has over its image, and what changed from one snapshot to another, path by path for people."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from activities.snapshots.entries import ROOT, Entry, Kind, ancestors
from activities.snapshots.reader import described
from activities.snapshots.state import compare
from hibernaut.models import ChangeKind, FileType, SnapshotChange, SnapshotPath

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from activities.snapshots.state import State

    Entries = Mapping[bytes, Entry]

_TIME = ("time",)


def shown(path: bytes) -> str:
    """A path of a snapshot as an absolute one."""
    return "/" if path == ROOT else "/" + os.fsdecode(path)


def paths(state: State) -> Iterator[SnapshotPath]:
    """Every path in which a snapshot differs from its image, a directory before what is in it."""
    entries = state.entries
    for path in sorted(entries, key=_tree_order):
        entry = entries[path]
        yield SnapshotPath(
            path=shown(path),
            file=None if entry.kind is Kind.WHITEOUT else described(entry, entries),
            link=shown(entry.leader) if entry.leader else None,
            opaque=entry.opaque,
        )


def changes(before: State, after: State) -> Iterator[SnapshotChange]:
    """Every path that is different in two snapshots of one image, a directory before what is in it.

    A directory is told where its own mode, owner or attributes changed, or where nothing below it is told.
    """
    old, new = before.entries, after.entries
    difference = compare(old, new)
    differing = {*difference.changed, *difference.removed, *_relinked(old, new)}
    found = {path: change for path in differing if (change := _change(path, old, new)) is not None}
    above: set[bytes] = set()
    # What is in a directory comes before it here.
    for path in sorted(found, key=_tree_order, reverse=True):
        if path in above and _incidental(found[path]):
            del found[path]
        elif path != ROOT:
            above.update((ROOT, *ancestors(path)))
    for path in sorted(found, key=_tree_order):
        yield found[path]


def _change(path: bytes, old: Entries, new: Entries) -> SnapshotChange | None:
    was, now = _present(old.get(path)), _present(new.get(path))
    what: tuple[str, ...] = ()
    if was is not None and now is not None:
        kind, what = ChangeKind.CHANGED, _what(was, now, old, new)
        if not what:
            return None
    elif now is not None:
        kind = ChangeKind.ADDED
    elif was is not None or path in new:
        kind = ChangeKind.DELETED
    elif _is_hidden(path, new):
        # It was deleted, and now so is what it was in.
        return None
    else:
        kind = ChangeKind.ADDED
    return SnapshotChange(
        path=shown(path),
        change=kind,
        what=what,
        before=described(was, old) if was is not None else None,
        after=described(now, new) if now is not None else None,
    )


def _what(was: Entry, now: Entry, old: Entries, new: Entries) -> tuple[str, ...]:
    if was.kind is not now.kind:
        return ("type",)
    found = {
        "content": _content(was, old) != _content(now, new) or was.opaque != now.opaque,
        "mode": was.mode != now.mode,
        "owner": (was.uid, was.gid) != (now.uid, now.gid),
        "time": was.mtime_ns != now.mtime_ns,
        "target": was.target != now.target,
        "device": was.device != now.device,
        "attributes": was.xattrs != now.xattrs,
        "link": was.leader != now.leader,
    }
    return tuple(name for name, differs in found.items() if differs)


def _content(entry: Entry, entries: Entries) -> object:
    entry = entries.get(entry.leader, entry) if entry.leader else entry
    return entry.size, entry.chunks, entry.extents


def _relinked(old: Entries, new: Entries) -> Iterator[bytes]:
    """Hard links that are as they were, to content that is not: their entries alone do not show it."""
    for path, entry in new.items():
        was = old.get(path)
        if entry.leader and was is not None and was.leader and _content(was, old) != _content(entry, new):
            yield path


def _present(entry: Entry | None) -> Entry | None:
    return None if entry is None or entry.kind is Kind.WHITEOUT else entry


def _is_hidden(path: bytes, entries: Entries) -> bool:
    """Tell whether what the image has at a path is out of sight, because of something above it."""
    above = (entries.get(up) for up in ancestors(path))
    return any(entry is not None and (entry.opaque or entry.kind is not Kind.DIRECTORY) for entry in above)


def _incidental(change: SnapshotChange) -> bool:
    """Tell whether it is a directory that may be there, gone or touched because of what is below it."""
    either = change.after or change.before
    alone = change.what in ((), _TIME)
    return alone and either is not None and either.type is FileType.DIRECTORY


def _tree_order(path: bytes) -> bytes:
    """Sort a directory right before what is in it."""
    return b"" if path == ROOT else path.replace(b"/", b"\0")
