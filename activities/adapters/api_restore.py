"""Writes a snapshot's entries into a container through the Docker API alone, with the container's own tools.

Those tools are part of what is replaced: the snapshot may hold another C library, or delete `rm`. So files are written
first, by programs that were started before; then what the snapshot deletes is removed, with the tools as restored; and
the times of the directories that this touches are set by a tar that was started at the very beginning.
"""

from __future__ import annotations

from bisect import bisect
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from activities.adapters.api_restored import unmounted
from activities.adapters.api_sender import Sender
from activities.adapters.api_unpack import TAR, Unpacker, check_end, signal
from activities.adapters.docker_stream import WAIT, ExecStream
from activities.adapters.pax_writer import BLOCK, END, RECORD, filler, member, member_header, member_size
from activities.snapshots.entries import ROOT, Entry, Kind, ancestors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from activities.adapters.api_listing import Listing
    from activities.adapters.docker_client import Daemon
    from activities.snapshots.capture import ContentSource, Control

# Its first complaint tells that it has read a record: from then on it needs no file of the container.
_EXTRACT_LATER = WAIT + f'head -c "$1" | {TAR} --checkpoint=1 --checkpoint-action=echo=ready'
_REMOVE = WAIT + 'cd / && head -c "$1" | xargs -0 -r rm -rf --one-file-system --'
_TOOLS = (b"bin/", b"sbin/", b"lib", b"usr/bin/", b"usr/sbin/", b"usr/lib")
_REPORT_EVERY = 200
_FILLERS = 16
"""Records sent to have tar read one: `head` holds some back."""
_SHARED_BYTES = 32 << 20
_FILE_BYTES = 20_000
_SHORT_PATH = 200


class _Plan(NamedTuple):
    """What is sent, in order."""

    directories: list[Entry]
    parts: list[Sequence[Entry]]
    """Files, one part for each tar."""
    links: list[Entry]
    """Other names of files, which are there by then."""


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
        self._paths = self._written = 0

    def apply(self, entries: Mapping[bytes, Entry]) -> None:
        """Write everything.

        Raises:
            CaptureError: The container's tools failed.
        """
        with ExitStack() as stack:
            # They come up while it is worked out what to send them.
            tars = [stack.enter_context(Unpacker(self._daemon, self._container_id)) for _ in range(_streams(entries))]
            wanted = unmounted(entries, self._fresh.mounts)
            removals = self._removals(wanted)
            plan = _plan(wanted, self._source, len(tars))
            self._paths = sum(map(len, (plan.directories, *plan.parts, plan.links)))
            self._begin(plan, tars)
            if not removals:
                self._remove(self._obstacles(wanted))
                self._extract(plan, tars)
                return
            touched = {above for path in removals for above in [*ancestors(path), ROOT]}
            later = [entry for path, entry in wanted.items() if path in touched and entry.kind is Kind.DIRECTORY]
            last = b"".join(member_header(entry) for entry in sorted(later))
            last += bytes(-(len(last) + len(END)) % RECORD) + END
            first = filler() * _FILLERS
            finishing = stack.enter_context(self._exec(_EXTRACT_LATER, len(first) + len(last)))
            finishing.send(first)
            finishing.wait_for_complaint()
            self._remove(self._obstacles(wanted))
            self._extract(plan, tars)
            self._remove(removals)
            finishing.send(last)
            check_end(finishing, "setting the times of directories")

    def _begin(self, plan: _Plan, tars: Sequence[Unpacker]) -> None:
        """Start every tar, and wait until those beside the first need no file of the container any more."""
        first, *beside = tars
        size = _members_size(plan.directories)
        size += len(signal(size)) if beside else 0
        first.begin(size + _members_size(plan.parts[0]) + _members_size(plan.links) + len(END))
        for tar, part in zip(beside, plan.parts[1:], strict=True):
            ready = signal(0)
            tar.begin(len(ready) + _members_size(part) + len(END))
            tar.stream.send(ready)
        for tar in beside:
            tar.wait()

    def _extract(self, plan: _Plan, tars: Sequence[Unpacker]) -> None:
        """Write everything: directories by the first tar, files by all, and by the first again what needs the others'.

        The first one ends last: it sets the times of directories then.
        """
        first, *beside = tars
        with Sender(first.stream) as sender, ThreadPoolExecutor(max(len(beside), 1)) as pool:
            self._send(plan.directories, sender)
            if beside:
                # A file is never written where a link may still lead elsewhere.
                sender.add(signal(sender.bytes))
                sender.flush()
                first.wait()
            others = [pool.submit(self._fill, *item) for item in zip(beside, plan.parts[1:], strict=True)]
            try:
                self._send(plan.parts[0], sender)
                for other in others:
                    other.result()
            except BaseException:
                # What the others still write is of no use.
                self._control.stop()
                for tar in beside:
                    tar.stream.hang_up()
                raise
            self._send(plan.links, sender)
            sender.add(bytes(first.size - sender.bytes))
            sender.finish()
        first.check("writing files")

    def _fill(self, tar: Unpacker, part: Iterable[Entry]) -> None:
        """Have one of the other tars write its files."""
        with Sender(tar.stream, sent=len(signal(0))) as sender:
            self._send(part, sender)
            sender.add(bytes(tar.size - sender.bytes))
            sender.finish()
        tar.check("writing files")

    def _send(self, entries: Iterable[Entry], sender: Sender) -> None:
        for number, entry in enumerate(entries):
            if number % _REPORT_EVERY == 0:
                self._control.report(f"wrote {self._written} of {self._paths} paths")
            for piece in member(entry, self._source):
                sender.add(piece)
            # By several threads: it may miss some.
            self._written += 1

    def _remove(self, paths: list[bytes]) -> None:
        if not paths:
            return
        # The tools themselves last: what removes them must still run.
        ordered = sorted(paths, key=lambda path: (path.startswith(_TOOLS), path))
        names = b"".join(b"./%s\0" % path for path in ordered)
        with self._exec(_REMOVE, len(names)) as stream:
            stream.send(names)
            check_end(stream, "removing files")

    def _obstacles(self, wanted: Mapping[bytes, Entry]) -> list[bytes]:
        """Return the image's directories that are to become something else: tar replaces all but those."""
        return [
            path
            for path, entry in wanted.items()
            if entry.kind not in (Kind.DIRECTORY, Kind.WHITEOUT) and self._is_image_directory(path)
        ]

    def _removals(self, wanted: Mapping[bytes, Entry]) -> list[bytes]:
        """Return what the snapshot deletes of the image, directly or by a directory that hides it."""
        hidden = {path for path, entry in wanted.items() if entry.kind is Kind.WHITEOUT and path in self._fresh.records}
        opaque = {path for path, entry in wanted.items() if entry.opaque and self._fresh.is_directory(path)}
        for path in self._fresh.records if opaque else ():
            if path not in wanted and any(above in opaque for above in ancestors(path)):
                hidden.add(path)
        return sorted(path for path in hidden if not any(above in hidden for above in ancestors(path)))

    def _is_image_directory(self, path: bytes) -> bool:
        return self._fresh.is_directory(path)

    def _exec(self, script: str, size: int) -> ExecStream:
        return ExecStream(self._daemon, self._container_id, ["/bin/sh", "-c", script, "sh", str(size)])


def _plan(wanted: Mapping[bytes, Entry], content: ContentSource, streams: int) -> _Plan:
    present = [wanted[path] for path in sorted(wanted) if wanted[path].kind is not Kind.WHITEOUT]
    directories = [entry for entry in present if entry.kind is Kind.DIRECTORY]
    files = content.in_order(entry for entry in present if entry.kind is not Kind.DIRECTORY and not entry.leader)
    return _Plan(directories, _shared_out(files, streams), [entry for entry in present if entry.leader])


def _streams(entries: Mapping[bytes, Entry]) -> int:
    """Return how many tars are to write: a second one pays from some tens of MiB on."""
    return 2 if sum([_cost(entry) for entry in entries.values()]) > _SHARED_BYTES else 1


def _shared_out(files: Sequence[Entry], streams: int) -> list[Sequence[Entry]]:
    """Cut files into parts that take about as long; neighbours stay together, for two tars in one directory wait."""
    costs = list(accumulate((_cost(entry) for entry in files), initial=0))
    cuts = [bisect(costs, costs[-1] * number // streams) - 1 for number in range(streams)]
    return [files[start:end] for start, end in pairwise([*cuts, len(files)])]


def _cost(entry: Entry) -> int:
    """Return what it takes to write it, in bytes: to make a file takes as long as to write so many."""
    return entry.size + _FILE_BYTES if entry.kind is Kind.FILE else _FILE_BYTES


def _members_size(entries: Iterable[Entry]) -> int:
    return sum([_member_size(entry) for entry in entries])


def _member_size(entry: Entry) -> int:
    """Return the bytes of a whole member; what most entries are is told at once."""
    if (
        entry.kind is not Kind.FILE
        or entry.leader
        or entry.xattrs
        or entry.extents is not None
        or len(entry.path) > _SHORT_PATH
    ):
        return member_size(entry)
    # Its extended header is one block: a path and some numbers.
    return 3 * BLOCK + entry.size + -entry.size % BLOCK
