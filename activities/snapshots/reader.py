"""Lists and reads files of a snapshot without a container."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from activities.errors import FileInImageOnly, FileNotInSnapshot, ObjectNotFound, SnapshotDamaged
from activities.snapshots import layout
from activities.snapshots.chain import ChainReader
from activities.snapshots.chunking import digest_of
from activities.snapshots.entries import ROOT, Entry, Kind, ancestors
from activities.snapshots.packs import open_frame
from activities.snapshots.sealing import PLAIN
from hibernaut.models import FileEntry, FileType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from activities.ports.store import ObjectStore
    from activities.snapshots.packs import Location
    from activities.snapshots.sealing import Sealer
    from activities.snapshots.state import State

_STATES_KEPT = 4
_LINKS = 40
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime.min.replace(tzinfo=UTC) - _EPOCH
_LATEST = datetime.max.replace(tzinfo=UTC) - _EPOCH
_HOLE_PIECE = 1 << 20
_TYPES = {
    Kind.FILE: FileType.FILE,
    Kind.DIRECTORY: FileType.DIRECTORY,
    Kind.SYMLINK: FileType.SYMLINK,
    Kind.FIFO: FileType.FIFO,
    Kind.CHARACTER: FileType.DEVICE,
    Kind.BLOCK: FileType.DEVICE,
}


class SnapshotReader:
    """Reads snapshots; keeps the few that were read last in memory."""

    def __init__(self, store: ObjectStore, *, sealer: Sealer = PLAIN) -> None:
        self._store = store
        self._sealer = sealer
        self._states: OrderedDict[str, State] = OrderedDict()

    def forget_agent(self, agent_uid: str) -> None:
        """Drop what is kept of an agent's snapshots."""
        for ref in [ref for ref in self._states if layout.parse_ref(ref)[0] == agent_uid]:
            del self._states[ref]

    async def list_files(self, ref: str, path: str) -> list[FileEntry]:
        """See `SnapshotEngine.list_files`."""
        entries = (await self._state(ref)).entries
        entry = resolve(entries, os.fsencode(path))
        if entry.kind is not Kind.DIRECTORY:
            return [described(entry, entries)]
        prefix = b"" if entry.path == ROOT else entry.path + b"/"
        children = [
            child
            for child in entries.values()
            if child.path.startswith(prefix) and b"/" not in child.path[len(prefix) :] and child.path != ROOT
        ]
        present = (child for child in children if child.kind is not Kind.WHITEOUT)
        return [described(child, entries) for child in sorted(present)]

    async def open_file(self, ref: str, path: str) -> AsyncIterator[bytes]:
        """See `SnapshotEngine.open_file`."""
        state = await self._state(ref)
        entry = resolve(state.entries, os.fsencode(path))
        if entry.leader:
            entry = state.entries[entry.leader]
        if entry.kind is not Kind.FILE:
            msg = f"{path!r} is a {_TYPES[entry.kind].value} in the snapshot {ref}, not a file."
            raise FileNotInSnapshot(msg)
        position = 0
        frame: tuple[str, int, int, int] | None = None
        content = b""
        runs = iter(entry.extents if entry.extents is not None else ((0, entry.size),))
        run_left = 0
        for digest in entry.chunks:
            location = state.chunks[digest]
            if location.frame != frame:
                frame = location.frame
                content = await self._frame(location)
            data = content[location.start : location.start + location.length]
            if digest_of(data) != digest:
                msg = f"A chunk in the pack {location.pack} does not match its digest."
                raise SnapshotDamaged(msg)
            while data:
                if run_left == 0:
                    offset, run_left = next(runs)
                    for zeros in _zeros(offset - position):
                        yield zeros
                    position = offset
                piece, data = data[:run_left], data[run_left:]
                run_left -= len(piece)
                position += len(piece)
                yield piece
        for zeros in _zeros(entry.size - position):
            yield zeros

    async def _state(self, ref: str) -> State:
        found = self._states.get(ref)
        if found is None:
            found = self._states[ref] = await ChainReader(self._store, sealer=self._sealer).state(ref)
            if len(self._states) > _STATES_KEPT:
                self._states.popitem(last=False)
        self._states.move_to_end(ref)
        return found

    async def _frame(self, location: Location) -> bytes:
        try:
            stored = await self._store.get_range(location.pack, location.offset, location.stored)
        except ObjectNotFound:
            msg = f"The pack {location.pack} is missing from the store."
            raise SnapshotDamaged(msg) from None
        return await asyncio.to_thread(open_frame, stored, location.plain, self._sealer)


def resolve(entries: Mapping[bytes, Entry], path: bytes) -> Entry:
    """Find the entry a path leads to, following symbolic links as the container would.

    Raises:
        FileInImageOnly: The way leads over a path that the delta does not have.
        FileNotInSnapshot: The way is blocked: deleted, hidden, through what is no directory, or a loop of links.
    """
    pending = _names(path)
    at: list[bytes] = []
    links = 0
    while pending:
        name = pending.pop(0)
        if name == b"..":
            at = at[:-1]
            continue
        here = b"/".join([*at, name])
        entry = entries.get(here)
        if entry is None:
            _refuse(entries, here, pending)
            at.append(name)
            continue
        if entry.kind is Kind.SYMLINK:
            links += 1
            if links > _LINKS:
                msg = f"{_shown(path)} goes through too many symbolic links."
                raise FileNotInSnapshot(msg)
            at = [] if entry.target.startswith(b"/") else at
            pending = _names(entry.target) + pending
        elif entry.kind is Kind.WHITEOUT or (pending and entry.kind is not Kind.DIRECTORY):
            msg = f"{_shown(path)} does not exist in the snapshot."
            raise FileNotInSnapshot(msg)
        else:
            at.append(name)
    found = entries.get(b"/".join(at) or ROOT)
    if found is None:
        found = Entry(path=b"/".join(at) or ROOT, kind=Kind.DIRECTORY)
    return found


def _refuse(entries: Mapping[bytes, Entry], here: bytes, pending: list[bytes]) -> None:
    """Raise for a path that the delta does not have, unless a later name may climb back out of it."""
    if b".." in pending:
        return
    for above in ancestors(here):
        entry = entries.get(above)
        if entry is not None and (entry.opaque or entry.kind is Kind.WHITEOUT):
            msg = f"{_shown(here)} does not exist in the snapshot."
            raise FileNotInSnapshot(msg)
    msg = (
        f"{_shown(here)} is not in the snapshot, which holds only what differs from the image. If the image has it, "
        "wake the agent and read it from its container."
    )
    raise FileInImageOnly(msg)


def _names(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name not in (b"", b".")]


def _shown(path: bytes) -> str:
    return ascii("/" + os.fsdecode(path).lstrip("/"))


def _zeros(length: int) -> Iterator[bytes]:
    while length > 0:
        yield bytes(min(length, _HOLE_PIECE))
        length -= _HOLE_PIECE


def described(entry: Entry, entries: Mapping[bytes, Entry]) -> FileEntry:
    """Describe a path that is not deleted; `entries` has those that it may be a hard link to."""
    size = entries[entry.leader].size if entry.leader else entry.size
    return FileEntry(
        path="/" if entry.path == ROOT else "/" + os.fsdecode(entry.path),
        type=_TYPES[entry.kind],
        size=size if entry.kind is Kind.FILE else 0,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mtime=_moment(entry.mtime_ns),
        target=os.fsdecode(entry.target) if entry.kind is Kind.SYMLINK else None,
    )


def _moment(ns: int) -> datetime:
    """The nearest time that a calendar has: file systems know years before 1 and after 9999."""
    span = min(max(timedelta(microseconds=ns // 1_000), _EARLIEST), _LATEST)
    return _EPOCH + span
