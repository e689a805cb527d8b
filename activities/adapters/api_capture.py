"""Captures a container's files through the Docker API alone: listed by one `find`, read by one streamed `tar`.

The container is not frozen, for nothing runs in a frozen one: after reading, the files are listed again, and what
changed meanwhile is read again, a few times. Which paths differ from the image is told by a listing of the fresh
container.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import zstandard

from activities.adapters.api_listing import Delta, Listing, Seen, differences, parse_listing, read_listing
from activities.adapters.api_restore import ApiRestore
from activities.adapters.docker_stream import WAIT, ExecStream
from activities.adapters.host_scan import FRESH_NS
from activities.adapters.pax_reader import Member, read_members
from activities.errors import CaptureError, SandboxNotFresh
from activities.snapshots.capture import Control
from activities.snapshots.entries import ROOT, Entry, Kind
from activities.snapshots.state import WHITEOUT_SIGNATURE, Scan, Signature

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from activities.adapters.docker_client import Daemon
    from activities.ports.snapshots import CaptureKind
    from activities.snapshots.capture import ContentSource
    from activities.snapshots.packs import PackWriter
    from activities.snapshots.state import Index

_PASSES = 3
_MAX_NOTES = 256 << 20
# The list goes to memory first: a tar that waits for its output to be read does not read its list.
_READ = (
    WAIT + 'list=/dev/shm/.hibernaut-list-$$; head -c "$1" >"$list" && tar --create --file=- --format=posix '
    "--xattrs --xattrs-include='*' --sparse --no-recursion --ignore-failed-read --null --verbatim-files-from "
    '--files-from="$list"; code=$?; rm -f "$list"; exit $code'
)
_TAR_FAILED = 2
_KINDS = {
    b"f": Kind.FILE,
    b"d": Kind.DIRECTORY,
    b"l": Kind.SYMLINK,
    b"p": Kind.FIFO,
    b"c": Kind.CHARACTER,
    b"b": Kind.BLOCK,
}
_TYPES = {
    b"0": Kind.FILE,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}


class ApiCapture:
    """Implements `Capture` from anywhere."""

    kind: CaptureKind = "api"
    needs_notes = True

    def __init__(self, daemon: Daemon, container_id: str, image_id: str) -> None:
        self.image_id = image_id
        self._daemon = daemon
        self._container_id = container_id
        self._base: Listing | None = None

    def prepare(self) -> bytes | None:
        """See `Capture.prepare`: the listing of the fresh container."""
        raw = read_listing(self._daemon, self._container_id, Control())
        self._base = parse_listing(raw)
        return zstandard.ZstdCompressor(level=3).compress(raw)

    def resume(self, notes: bytes | None) -> None:
        """See `Capture.resume`."""
        if notes is None:
            msg = (
                f"What the container {self._container_id[:12]} looked like when it was fresh is not known: "
                "acquire a new sandbox and restore the last snapshot."
            )
            raise SandboxNotFresh(msg)
        if zstandard.frame_content_size(notes) > _MAX_NOTES:
            msg = "The listing of the fresh container in the store is damaged."
            raise CaptureError(msg)
        self._base = parse_listing(zstandard.ZstdDecompressor().decompress(notes, max_output_size=_MAX_NOTES))

    def take(self, index: Index, writer: PackWriter, control: Control) -> Scan:
        """See `Capture.take`."""
        known: dict[bytes, tuple[Signature, Entry]] = {
            path: (signature, entry)
            for path, signature in index.signatures.items()
            if (entry := index.state.entries.get(path)) is not None and not entry.leader
        }
        passes = 0
        while True:
            listing = self._list(control)
            delta = differences(self._fresh, listing)
            groups = _Groups(delta, listing)
            missing = [path for path in groups.own if known.get(path, (None,))[0] != listing.paths[path].signature]
            if not missing:
                break
            if passes == _PASSES:
                # What never holds still is kept as it was read last, and read again next time.
                unread = [path for path in missing if path not in known]
                if unread:
                    msg = f"{unread[0]!a} and {len(unread) - 1} more paths could not be read in the container."
                    raise CaptureError(msg)
                break
            passes += 1
            known.update(self._read(missing, listing, writer, control))
        return self._scan(listing, delta, groups, known)

    def in_image(self, paths: Iterable[bytes]) -> Mapping[bytes, bool]:
        """See `Capture.in_image`."""
        return {path: path in self._fresh.paths for path in paths}

    def restore(
        self, entries: Mapping[bytes, Entry], source: ContentSource, control: Control
    ) -> dict[bytes, Signature]:
        """See `Capture.restore`."""
        ApiRestore(self._daemon, self._container_id, self._fresh, source, control).apply(entries)
        listing = self._list(control)
        signatures = {path: seen.signature for path, seen in listing.paths.items() if path in entries}
        gone = (path for path, entry in entries.items() if entry.kind is Kind.WHITEOUT and path not in listing.paths)
        return signatures | dict.fromkeys(gone, WHITEOUT_SIGNATURE)

    @property
    def _fresh(self) -> Listing:
        if self._base is None:
            self.resume(None)
            raise AssertionError
        return self._base

    def _list(self, control: Control) -> Listing:
        return parse_listing(read_listing(self._daemon, self._container_id, control))

    def _scan(
        self, listing: Listing, delta: Delta, groups: _Groups, known: Mapping[bytes, tuple[Signature, Entry]]
    ) -> Scan:
        entries: dict[bytes, Entry] = {}
        signatures: dict[bytes, Signature] = {}
        settled = listing.taken_ns - FRESH_NS
        for path in groups.own:
            seen = listing.paths[path]
            signature, entry = known[path]
            entries[path] = entry
            if signature == seen.signature and seen.ctime_ns < settled:
                signatures[path] = signature
        for path, leader in groups.leaders.items():
            entries[path] = entries[leader]._replace(path=path, size=0, chunks=(), extents=None, leader=leader)
            if leader in signatures:
                signatures[path] = listing.paths[path].signature
        for path in delta.deleted:
            entries[path] = Entry(path=path, kind=Kind.WHITEOUT)
            signatures[path] = WHITEOUT_SIGNATURE
        return Scan(entries=entries, signatures=signatures, skipped=listing.skipped)

    def _read(
        self, paths: list[bytes], listing: Listing, writer: PackWriter, control: Control
    ) -> dict[bytes, tuple[Signature, Entry]]:
        """Read paths by one tar; one that vanished meanwhile is left out."""
        wanted = {path: listing.paths[path] for path in paths}
        names = b"".join(b"./%s\0" % path if path != ROOT else b"./\0" for path in paths)
        found: dict[bytes, tuple[Signature, Entry]] = {}
        argv = ["/bin/sh", "-c", _READ, "sh", str(len(names))]
        with ExecStream(self._daemon, self._container_id, argv) as stream:
            stream.send(names)
            for number, member in enumerate(read_members(stream)):
                if number % 100 == 0:
                    control.report(f"{number} paths, {writer.read_bytes >> 20} MiB read")
                path = member.path.removeprefix(b"./").rstrip(b"/") or ROOT
                seen = wanted.get(path)
                if seen is None:
                    continue
                entry = self._entry(path, seen, member, writer)
                if entry is not None:
                    found[path] = (seen.signature, entry)
            code = stream.finish()
            if code > _TAR_FAILED:
                why = stream.complaints.decode(errors="replace").strip()[:500]
                msg = f"Reading the container's files failed with code {code}: {why}"
                raise CaptureError(msg)
        return found

    def _entry(self, path: bytes, seen: Seen, member: Member, writer: PackWriter) -> Entry | None:
        kind = _KINDS.get(seen.letter)
        if kind is None or _TYPES.get(member.type) is not kind:
            return None
        entry = Entry(
            path=path,
            kind=kind,
            mode=seen.mode if kind is not Kind.SYMLINK else 0o777,
            uid=seen.uid,
            gid=seen.gid,
            mtime_ns=seen.mtime_ns,
            device=member.device,
            target=seen.target if kind is Kind.SYMLINK else b"",
            xattrs=member.xattrs,
        )
        if kind is Kind.DIRECTORY:
            image = self._fresh.paths.get(path)
            return entry._replace(opaque=image is None or image.letter != b"d")
        if kind is Kind.FILE:
            chunks, size = writer.add(member.content)
            size = size if member.extents is None else member.size
            return entry._replace(size=size, chunks=chunks, extents=member.extents)
        return entry


class _Groups:
    """The hard links of a delta: each group's first name bears the content."""

    def __init__(self, delta: Delta, listing: Listing) -> None:
        by_inode: defaultdict[int, list[bytes]] = defaultdict(list)
        for path in delta.present:
            seen = listing.paths[path]
            if seen.links > 1 and seen.letter != b"d":
                by_inode[seen.inode].append(path)
        self.leaders: dict[bytes, bytes] = {path: group[0] for group in by_inode.values() for path in group[1:]}
        self.own = [path for path in delta.present if path not in self.leaders]
