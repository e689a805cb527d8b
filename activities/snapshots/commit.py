"""Builds the manifest of a snapshot, and the report on one: new, unchanged, or written by an earlier attempt."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from activities.errors import SnapshotConflict
from activities.ports.snapshots import SnapshotInfo
from activities.snapshots import layout
from activities.snapshots import state as states
from activities.snapshots.chain import FULL_EVERY, ChainReader
from activities.snapshots.entries import Kind
from activities.snapshots.manifest import Manifest, Statistics, encode, text_of, write_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from activities.snapshots.capture import Capture
    from activities.snapshots.entries import Entry
    from activities.snapshots.packs import Location
    from activities.snapshots.state import Difference, Scan, State


class Name(NamedTuple):
    """Which snapshot it is."""

    agent_uid: str
    generation: int
    number: int
    parent: str | None

    @property
    def ref(self) -> str:
        """The key of the manifest."""
        return layout.manifest_key(self.agent_uid, self.number)


@dataclass(frozen=True, slots=True)
class Built:
    """A manifest that is ready to be written."""

    manifest: Manifest
    data: bytes
    state: State

    def info(self, clock: float, requests: int) -> SnapshotInfo:
        """Report on it once it is written."""
        ref = layout.manifest_key(self.manifest.agent_uid, self.manifest.number)
        return _info(self.manifest, ref, len(self.data), clock, requests)


def build(
    before: State,
    scan: Scan,
    difference: Difference,
    new: Mapping[bytes, Location],
    stored_bytes: int,
    capture: Capture,
    name: Name,
) -> Built:
    """Build the manifest of what a scan found: a delta where that is right and pays, else a full one."""
    entries = scan.entries
    chunks = {**before.chunks, **new}
    full = (
        before.ref is None
        or before.ref != name.parent
        or before.depth + 1 > FULL_EVERY
        or 2 * len(difference.changed) > len(entries)
    )
    unknown = [path for path in difference.changed if path not in before.entries]
    counted = states.counts(before.entries, difference, capture.in_image(unknown))
    if full:
        live = {digest for entry in entries.values() for digest in entry.chunks}
        chunks = {digest: location for digest, location in chunks.items() if digest in live}
    tables = _Tables(chunks if full else new)
    written = entries if full else difference.changed
    manifest = Manifest(
        agent_uid=name.agent_uid,
        generation=name.generation,
        number=name.number,
        parent=name.parent,
        kind="full" if full else "delta",
        parent_digest=None if full else before.digest,
        depth=0 if full else before.depth + 1,
        image=capture.image_id,
        capture=capture.kind,
        created=datetime.now(UTC).isoformat(),
        packs=tables.packs,
        frames=tables.frames,
        chunks=tables.chunks,
        entries=[write_entry(written[path]) for path in sorted(written)],
        removed=[] if full else [text_of(path) for path in sorted(difference.removed)],
        statistics=Statistics(
            added=counted.added,
            changed=counted.changed,
            deleted=counted.deleted,
            skipped=scan.skipped,
            files_total=_files(entries.values()),
            bytes_total=_bytes(entries.values()),
            packs_stored=stored_bytes,
        ),
    )
    data, digest = encode(manifest)
    state = replace(
        before,
        ref=name.ref,
        digest=digest,
        number=name.number,
        depth=manifest.depth,
        image=capture.image_id,
        entries=entries,
        chunks=chunks,
        parent=name.parent,
    )
    return Built(manifest=manifest, data=data, state=state)


async def existing(chain: ChainReader, ref: str, generation: int, parent: str | None, clock: float) -> SnapshotInfo:
    """Return the snapshot that an earlier attempt of the same call wrote.

    Raises:
        SnapshotConflict: It is another's.
    """
    found, _ = await chain.manifest(ref)
    if (found.generation, found.parent) != (generation, parent):
        msg = (
            f"Snapshot {ref} exists already, of generation {found.generation} and parent {found.parent}; asked for was "
            f"generation {generation} and parent {parent}. Take the snapshot under the next number."
        )
        raise SnapshotConflict(msg)
    return _info(found, ref, 0, clock, chain.requests)


def unchanged(kept: State, ref: str, scan: Scan, capture: Capture, clock: float, requests: int) -> SnapshotInfo:
    """Report that a container still holds what its last snapshot does."""
    return SnapshotInfo(
        ref=ref,
        number=kept.number,
        parent=kept.parent,
        unchanged=True,
        added=0,
        changed=0,
        deleted=0,
        files_total=_files(kept.entries.values()),
        bytes_new_stored=0,
        bytes_total=_bytes(kept.entries.values()),
        skipped=scan.skipped,
        requests=requests,
        duration_ms=_since(clock),
        capture=capture.kind,
        image_id=capture.image_id,
    )


def _info(found: Manifest, ref: str, manifest_bytes: int, clock: float, requests: int) -> SnapshotInfo:
    numbers = found.statistics
    return SnapshotInfo(
        ref=ref,
        number=found.number,
        parent=found.parent,
        unchanged=False,
        added=numbers.added,
        changed=numbers.changed,
        deleted=numbers.deleted,
        files_total=numbers.files_total,
        bytes_new_stored=numbers.packs_stored + manifest_bytes,
        bytes_total=numbers.bytes_total,
        skipped=numbers.skipped,
        requests=requests,
        duration_ms=_since(clock),
        capture=found.capture,
        image_id=found.image,
    )


class _Tables:
    """The three tables of a manifest: packs, frames in packs, chunks in frames."""

    def __init__(self, chunks: Mapping[bytes, Location]) -> None:
        packs: dict[str, int] = {}
        frames: dict[tuple[str, int, int, int], int] = {}
        self.chunks: list[tuple[str, int, int, int]] = []
        self.frames: list[tuple[int, int, int, int]] = []
        for digest, location in sorted(chunks.items(), key=lambda item: item[1]):
            frame = location.frame
            if frame not in frames:
                frames[frame] = len(frames)
                self.frames.append((packs.setdefault(location.pack, len(packs)), *frame[1:]))
            self.chunks.append((digest.hex(), frames[frame], location.start, location.length))
        self.packs = list(packs)


def _files(entries: Iterable[Entry]) -> int:
    return sum(1 for entry in entries if states.is_file(entry))


def _bytes(entries: Iterable[Entry]) -> int:
    return sum(entry.size for entry in entries if entry.kind is Kind.FILE and not entry.leader)


def _since(clock: float) -> int:
    return round((time.monotonic() - clock) * 1000)
