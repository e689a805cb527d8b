"""Writes a snapshot's entries into a container through the Docker API alone, with the container's own tools.

Those tools are part of what is replaced: the snapshot may hold another C library, or delete `rm`. So files are written
first, by programs that were started before; then what the snapshot deletes is removed, with the tools as restored; and
the times of the directories that this touches are set by a tar that was started at the very beginning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from activities.adapters.docker_stream import WAIT, ExecStream
from activities.adapters.pax_writer import END, RECORD, filler, member, member_header, member_size
from activities.errors import CaptureError
from activities.snapshots.entries import ROOT, Entry, Kind, ancestors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activities.adapters.api_listing import Listing
    from activities.adapters.docker_client import Daemon
    from activities.snapshots.capture import ContentSource, Control

_TAR = (
    "tar --extract --file=- --directory=/ --absolute-names --numeric-owner --same-owner --preserve-permissions "
    "--xattrs --xattrs-include='*' --delay-directory-restore"
)
_EXTRACT = WAIT + f'head -c "$1" | {_TAR}'
# Its first complaint tells that it has read a record: from then on it needs no file of the container.
_EXTRACT_LATER = f"{_EXTRACT} --checkpoint=1 --checkpoint-action=echo=ready"
_REMOVE = WAIT + 'cd / && head -c "$1" | xargs -0 -r rm -rf --one-file-system --'
_TOOLS = (b"bin/", b"sbin/", b"lib", b"usr/bin/", b"usr/sbin/", b"usr/lib")
_REPORT_EVERY = 200
_FILLERS = 16
"""Records sent to have tar read one: `head` holds some back."""


class ApiRestore:
    """Brings a running container to a set of entries."""

    def __init__(
        self, daemon: Daemon, container_id: str, fresh: Listing, source: ContentSource, control: Control
    ) -> None:
        self._daemon = daemon
        self._container_id = container_id
        self._fresh = fresh
        self._source = source
        self._control = control

    def apply(self, entries: Mapping[bytes, Entry]) -> None:
        """Write everything.

        Raises:
            CaptureError: The container's tools failed.
        """
        wanted = {path: entry for path, entry in entries.items() if not self._is_mounted(path)}
        removals = self._removals(wanted)
        touched = {above for path in removals for above in [*ancestors(path), ROOT]}
        later = [entry for path, entry in wanted.items() if path in touched and entry.kind is Kind.DIRECTORY]
        last = b"".join(member_header(entry) for entry in sorted(later))
        last += bytes(-(len(last) + len(END)) % RECORD) + END
        first = filler() * _FILLERS
        with self._exec(_EXTRACT_LATER, len(first) + len(last)) as finishing:
            finishing.send(first)
            finishing.wait_for_complaint()
            self._remove(self._obstacles(wanted))
            self._extract(wanted)
            self._remove(removals)
            finishing.send(last)
            self._check(finishing, "setting the times of directories")

    def _extract(self, wanted: Mapping[bytes, Entry]) -> None:
        present = [wanted[path] for path in sorted(wanted) if wanted[path].kind is not Kind.WHITEOUT]
        directories = [entry for entry in present if entry.kind is Kind.DIRECTORY]
        files = self._source.in_order(
            entry for entry in present if entry.kind is not Kind.DIRECTORY and not entry.leader
        )
        ordered = [*directories, *files, *(entry for entry in present if entry.leader)]
        size = sum(member_size(entry) for entry in ordered) + len(END)
        padding = -size % RECORD
        with self._exec(_EXTRACT, size + padding) as stream:
            for number, entry in enumerate(ordered):
                if number % _REPORT_EVERY == 0:
                    self._control.report(f"wrote {number} paths")
                for piece in member(entry, self._source):
                    stream.send(piece)
            stream.send(END + bytes(padding))
            self._check(stream, "writing files")

    def _remove(self, paths: list[bytes]) -> None:
        if not paths:
            return
        # The tools themselves last: what removes them must still run.
        ordered = sorted(paths, key=lambda path: (path.startswith(_TOOLS), path))
        names = b"".join(b"./%s\0" % path for path in ordered)
        with self._exec(_REMOVE, len(names)) as stream:
            stream.send(names)
            self._check(stream, "removing files")

    def _obstacles(self, wanted: Mapping[bytes, Entry]) -> list[bytes]:
        """Return the image's directories that are to become something else: tar replaces all but those."""
        return [
            path
            for path, entry in wanted.items()
            if entry.kind not in (Kind.DIRECTORY, Kind.WHITEOUT) and self._is_image_directory(path)
        ]

    def _removals(self, wanted: Mapping[bytes, Entry]) -> list[bytes]:
        """Return what the snapshot deletes of the image, directly or by a directory that hides it."""
        hidden = {path for path, entry in wanted.items() if entry.kind is Kind.WHITEOUT and path in self._fresh.paths}
        opaque = {path for path, entry in wanted.items() if entry.opaque}
        for path in self._fresh.paths:
            if path not in wanted and any(above in opaque for above in ancestors(path)):
                hidden.add(path)
        return sorted(path for path in hidden if not any(above in hidden for above in ancestors(path)))

    def _is_image_directory(self, path: bytes) -> bool:
        seen = self._fresh.paths.get(path)
        return seen is not None and seen.letter == b"d"

    def _is_mounted(self, path: bytes) -> bool:
        mounts = self._fresh.mounts
        return path in mounts or any(above in mounts for above in ancestors(path))

    def _exec(self, script: str, size: int) -> ExecStream:
        return ExecStream(self._daemon, self._container_id, ["/bin/sh", "-c", script, "sh", str(size)])

    def _check(self, stream: ExecStream, what: str) -> None:
        code = stream.finish()
        if code:
            why = stream.complaints.decode(errors="replace").strip()[:500]
            msg = f"Restoring through the Docker API failed in {what}, with code {code}: {why}"
            raise CaptureError(msg)
