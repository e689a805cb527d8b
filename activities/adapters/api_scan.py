"""One look at a container's files through its shell: what differs from the image, and reading what is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from activities.adapters.api_large import LargeFile, LargeReader, Segments, Summed, is_large, likely
from activities.adapters.api_listing import FILE
from activities.adapters.api_reading import read_paths
from activities.adapters.api_view import Known, Raw, View, list_paths
from activities.errors import CaptureError
from activities.snapshots.entries import Entry, Kind
from activities.snapshots.limit import content_bytes
from activities.snapshots.state import WHITEOUT_SIGNATURE, Scan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activities.adapters.api_delta import Image
    from activities.adapters.api_listing import Seen
    from activities.adapters.api_proof import Look
    from activities.adapters.api_shell import ContainerShell
    from activities.snapshots.capture import Control
    from activities.snapshots.packs import PackWriter
    from activities.snapshots.scope import Scope
    from activities.snapshots.state import Index, Signature

_PASSES = 3
_MOST_PASSES = 12


class _Held(NamedTuple):
    """A path that was read, and what it looked like in the listing before."""

    signature: Signature
    entry: Entry
    settled: bool
    """Its next change is sure to show."""
    look: Look | None = None
    """The last look after it was read, if nothing ran since before the listing."""


class ApiScan:
    """Lists a container's files, and reads what its index does not know."""

    def __init__(
        self,
        image: Image,
        shell: ContainerShell,
        index: Index,
        known: Known | None,
        writer: PackWriter,
        control: Control,
        scope: Scope,
    ) -> None:
        """Look at a container.

        Args:
            image: What it looked like when it was fresh.
            shell: In the container.
            index: What is known of its files.
            known: What the scan left behind that the index is of; None: the index is of no scan of this capture.
            writer: Takes contents.
            control: Of the caller.
            scope: What belongs to a snapshot, which `image` and `known` are of too.
        """
        self._image = image
        self._shell = shell
        self._index = index
        self._known = known
        self._writer = writer
        self._control = control
        self._scope = scope
        self._held: dict[bytes, _Held] = {}
        self._segments = dict(known.segments) if known is not None else {}

    def run(self) -> Scan:
        """Scan it.

        Raises:
            SnapshotTooLarge: There is more than the scope allows.
            CaptureError: A path could not be read, or the container's tools failed.
        """
        passes = 0
        while True:
            raw = self._list(first=not passes)
            view = View(self._image, raw, self._known, self._index, self._scope)
            missing = {path: seen for path, seen in view.own.items() if not self._is_held(path, seen)}
            still = raw.still()
            if not missing:
                return self._scan(view, still)
            if passes == _MOST_PASSES or (passes >= _PASSES and all(self._is_known(*item) for item in missing.items())):
                # What never holds still is kept as it was read last, and read again next time.
                return self._scan(view, None)
            passes += 1
            self._check_limit(view)
            still = self._read(missing, raw, view)
            if still is not None and all(path in self._held for path in missing):
                return self._scan(view, still)

    def _list(self, *, first: bool) -> Raw:
        known = self._known if first else None
        # What is done ahead is of use only where nothing runs meanwhile.
        ahead = likely(known.segments) if known is not None and known.look is not None else None
        return list_paths(self._shell, self._control, ahead=ahead)

    def _is_known(self, path: bytes, seen: Seen) -> bool:
        """Tell whether a path was read at all: one that came up just now was not."""
        return path in self._held or self._remembered(path, seen) is not None

    def _is_held(self, path: bytes, seen: Seen) -> bool:
        held = self._held.get(path) or self._remembered(path, seen)
        return held is not None and held.signature == seen.signature

    def _remembered(self, path: bytes, seen: Seen) -> _Held | None:
        """Return what the index knows of a path."""
        signature, entry = self._index.signatures.get(path), self._index.state.entries.get(path)
        if seen.is_directory and self._scope.exclusion.hides_below(path):
            # Its times change with what is in it, which is left out.
            looks = (Kind.DIRECTORY, seen.mode, seen.uid, seen.gid, False)
            same = entry is not None and (entry.kind, entry.mode, entry.uid, entry.gid, entry.opaque) == looks
            signature = seen.signature if same else None
        if signature is None or entry is None or entry.leader or entry.kind is Kind.WHITEOUT:
            return None
        return _Held(signature, entry, True)  # noqa: FBT003  # a record's field

    def _read(self, missing: Mapping[bytes, Seen], raw: Raw, view: View) -> Look | None:
        """Read paths; return the last look if nothing ran since before the listing."""
        # Where content lies is told by neighbours: in a pack, and on the disk.
        wanted = {path: missing[path] for path in sorted(missing)}
        found, births = self._read_large(wanted, ahead=raw.still() is not None)
        rest = {path: seen for path, seen in wanted.items() if path not in found}
        summed = {path: Summed() for path in rest if is_large(self._index.state.entries.get(path))}
        read, end = read_paths(self._shell, rest, self._is_opaque, self._writer, self._control, summed)
        for path in summed.keys() & read.keys():
            self._segments[path] = Segments(rest[path].signature, summed[path].sums())
        found |= read
        still = raw.still(end._replace(births=births + end.births))
        settled = raw.settled_ns(view.listing.taken_ns, still)
        for path, entry in found.items():
            seen = missing[path]
            self._held[path] = _Held(seen.signature, entry, seen.ctime_ns < settled, still)
        return still

    def _read_large(self, wanted: Mapping[bytes, Seen], *, ahead: bool) -> tuple[dict[bytes, Entry], list[int]]:
        """Read what changed of large files that changed before; return also the ids of commands that it took."""
        reader = LargeReader(self._shell, self._writer, self._control)
        found: dict[bytes, Entry] = {}
        for path in wanted.keys() & (self._known.segments.keys() if self._known is not None else ()):
            segments, entry = self._segments[path], self._index.state.entries.get(path)
            if entry is None or segments.signature != self._index.signatures.get(path):
                continue
            large = LargeFile.of(entry, segments, self._index.state.chunks)
            read = reader.read(wanted[path], large, ahead=ahead) if large is not None else None
            if read is not None:
                found[path], sums = read
                self._segments[path] = Segments(wanted[path].signature, sums)
        return found, reader.births

    def _is_opaque(self, path: bytes) -> bool:
        return not (self._image.listing.is_directory(path) or self._scope.exclusion.hides_below(path))

    def _check_limit(self, view: View) -> None:
        if not self._scope.limit:
            return
        sizes = {path: content_bytes(entry) for path, entry in view.entries.items()}
        sizes |= {path: seen.size for path, seen in view.own.items() if seen.letter == FILE}
        if sum(sizes.values()) > (self._scope.limit.max_bytes or 0):
            # What has holes takes up less room than it is long.
            blocks = self._shell.blocks(self._control)
            sizes = {path: min(size, blocks.get(path, size)) for path, size in sizes.items()}
        self._scope.limit.check(sizes)

    def _scan(self, view: View, still: Look | None) -> Scan:
        entries, signatures = view.entries, view.signatures
        unread: list[bytes] = []
        for path, seen in view.own.items():
            held = self._held.get(path) or self._remembered(path, seen)
            if held is None:
                unread.append(path)
                continue
            entries[path] = held.entry
            if held.settled and held.signature == seen.signature:
                signatures[path] = held.signature
            elif held.look is not still:
                # Read while something ran, or before: a change right after that may not show.
                still = None
        if unread:
            msg = f"{unread[0]!a} and {len(unread) - 1} more paths could not be read in the container."
            raise CaptureError(msg)
        for path, leader in view.linked.items():
            entries[path] = entries[leader]._replace(path=path, size=0, chunks=(), extents=None, leader=leader)
            if leader in signatures:
                signatures[path] = view.listing.seen(path).signature
        for path in view.whiteouts:
            entries[path] = Entry(path=path, kind=Kind.WHITEOUT)
            signatures[path] = WHITEOUT_SIGNATURE
        segments = {path: one for path, one in self._segments.items() if signatures.get(path) == one.signature}
        known = Known(view.listing, view.delta, signatures, self._shell, still, segments)
        return Scan(entries, signatures, view.listing.skipped, known)
