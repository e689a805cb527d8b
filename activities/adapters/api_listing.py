"""Every path of a container as one `find` inside it tells, compared with what was known before.

A listing is compared as the bytes it came in, record by record: of tens of thousands of paths only those that differ
are looked at one by one. The records come from an untrusted container: each is checked when it is seen first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from activities.adapters.docker_overlay import mount_points, parse_mounts
from activities.errors import CaptureError, PathEscape
from activities.snapshots.entries import MAX_PATH_BYTES, ROOT, ancestors, check_path
from activities.snapshots.exclusion import Exclusion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from activities.snapshots.state import Signature

FIELDS = 11
"""Of a record."""
FILE = b"f"
"""The letter of a regular file."""
_SOCKET = b"s"
_DIRECTORY = b"d"
_SUSPECT = re.compile(rb"(?:^|/)\.{0,2}(?:/|$)|[^/]{256}")
"""Finds a path that may leave the root, or cannot exist; `check_path` says which."""
_SECOND = 1_000_000_000
NOTHING = Exclusion(())


class Seen(NamedTuple):
    """A path as `find` saw it."""

    letter: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    links: int
    target: bytes

    @property
    def is_directory(self) -> bool:
        """Whether it is one."""
        return self.letter == _DIRECTORY

    @property
    def signature(self) -> Signature:
        """What tells a change of this path."""
        return signature_of(self.inode, self.size, self.mtime_ns, self.ctime_ns)


@dataclass(frozen=True, slots=True)
class Listing:
    """All paths of a container but those of other mounts. Nothing in it is ever changed."""

    records: dict[bytes, bytes]
    """By path, as `find` told it."""
    everything: frozenset[bytes]
    """All records, those of mounts, of sockets, and of what no snapshot is to hold included."""
    taken_ns: int
    """When it began, by the container's clock."""
    skipped: int
    """Sockets, and paths too long to be named."""
    mounts: frozenset[bytes]
    patterns: tuple[str, ...] = ()
    """Which paths no snapshot is to hold."""

    def without(self, exclusion: Exclusion) -> Listing:
        """Return the same listing without what no snapshot is to hold."""
        if exclusion.patterns == self.patterns:
            return self
        records = {
            path: record
            for path, record in self.records.items()
            if not exclusion.leaves_out(path, directory=self.is_directory(path))
        }
        return replace(self, records=records, patterns=exclusion.patterns)

    def seen(self, path: bytes) -> Seen:
        """Return what was told of a path."""
        return _parsed(self.records[path])[1]

    def is_directory(self, path: bytes) -> bool:
        """Tell whether there is a directory at this path."""
        return self.records.get(path, b"")[:2] == _DIRECTORY + b"\0"


class Change(NamedTuple):
    """What a listing tells that the one before did not."""

    listing: Listing
    new: Mapping[bytes, Seen]
    """Paths that are there and were not, or look otherwise."""
    gone: Mapping[bytes, Seen]
    """Paths that are not there any more, or look otherwise: as they were."""


def parse_listing(raw: bytes, known: Listing | None = None, exclusion: Exclusion = NOTHING) -> Change:
    """Read a listing, against the one that is known, without what no snapshot is to hold.

    Raises:
        CaptureError: It cannot be used; it comes from an untrusted container.
    """
    try:
        change = _parse(raw, known, exclusion)
    except (ValueError, IndexError, PathEscape) as error:
        msg = "The container's listing of its files cannot be read."
        raise CaptureError(msg) from error
    if ROOT not in change.listing.records:
        msg = "The container's listing of its files is cut short."
        raise CaptureError(msg)
    return change


def _parse(raw: bytes, known: Listing | None, exclusion: Exclusion) -> Change:
    mount_lines, clock, found = raw.split(b"\0", 2)
    mounts = mount_points(parse_mounts(mount_lines))
    records = found.split(b"\0\0")
    if records.pop() != b"":
        raise ValueError
    everything = frozenset(records)
    if len(everything) != len(records):
        raise ValueError
    if known is not None and (known.mounts, known.patterns) == (mounts, exclusion.patterns):
        paths, skipped = dict(known.records), known.skipped
        gone, left_out = _sorted_out(known.everything - everything, mounts, exclusion)
        for path in gone:
            del paths[path]
        new, more_left_out = _sorted_out(everything - known.everything, mounts, exclusion)
        skipped += more_left_out - left_out
    else:
        # With other mounts, or other patterns, other records are left out.
        gone, _ = _sorted_out(known.records.values() if known is not None else (), frozenset(), NOTHING)
        paths = {}
        new, skipped = _sorted_out(everything, mounts, exclusion)
    for path, (record, _) in new.items():
        if path in paths:
            # Two records of one path.
            raise ValueError
        paths[path] = record
    taken_ns = nanoseconds(clock.strip())
    listing = Listing(paths, everything, taken_ns, skipped, mounts, exclusion.patterns)
    return Change(
        listing, {path: seen for path, (_, seen) in new.items()}, {path: seen for path, (_, seen) in gone.items()}
    )


def _sorted_out(
    records: Iterable[bytes], mounts: frozenset[bytes], exclusion: Exclusion
) -> tuple[dict[bytes, tuple[bytes, Seen]], int]:
    """Return those that are of the container's own files, checked, by path; and how many of them no snapshot holds."""
    found: dict[bytes, tuple[bytes, Seen]] = {}
    skipped = 0
    tops = {mount.partition(b"/")[0] for mount in mounts}
    for record in records:
        path, seen = _parsed(record)
        if path.partition(b"/")[0] in tops and (path in mounts or any(above in mounts for above in ancestors(path))):
            continue
        if exclusion and exclusion.leaves_out(path, directory=seen.is_directory):
            continue
        if seen.letter == _SOCKET or len(path) > MAX_PATH_BYTES:
            skipped += 1
            continue
        if _SUSPECT.search(path) is not None:
            check_path(path)
        if path in found:
            raise ValueError
        found[path] = (record, seen)
    return found, skipped


def _parsed(record: bytes) -> tuple[bytes, Seen]:
    fields = record.split(b"\0")
    if len(fields) != FIELDS:
        raise ValueError
    letter, mode, uid, gid, size, mtime, ctime, inode, links, target, path = fields
    if target[:1] != b">" or path[:1] != b"/":
        raise ValueError
    seen = Seen(
        letter,
        int(mode, 8),
        int(uid),
        int(gid),
        int(size),
        nanoseconds(mtime),
        nanoseconds(ctime),
        int(inode),
        int(links),
        target[1:],
    )
    return path[1:] or ROOT, seen


def nanoseconds(text: bytes) -> int:
    """Read whole seconds and, after the point, nanoseconds to be added to them (also to negative ones)."""
    seconds, _, fraction = text.partition(b".")
    if len(fraction) == 10:  # noqa: PLR2004  # as `find` writes it: nine digits and a zero
        return int(seconds) * _SECOND + int(fraction[:9])
    return int(seconds) * _SECOND + int(fraction[:9].ljust(9, b"0"))


def signature_of(inode: int, size: int, mtime_ns: int, ctime_ns: int) -> Signature:
    """Return what tells a change of a path that looks like this."""
    return b"%d %d %d %d" % (inode, size, mtime_ns, ctime_ns)
