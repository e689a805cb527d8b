"""Builds the manifest of a snapshot, and the report on one: new, unchanged, or written by an earlier attempt."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from activities.errors import SnapshotConflict
from activities.ports.snapshots import SnapshotInfo
from activities.snapshots import layout, state as states
from activities.snapshots.chain import FULL_EVERY, ChainReader
from activities.snapshots.manifest import Manifest, Statistics, encode, text_of, write_entry
from activities.snapshots.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from activities.snapshots.capture import Capture
    from activities.snapshots.packs import Location
    from activities.snapshots.sealing import Sealer
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


class Stored(NamedTuple):
    """What was stored for a snapshot before its manifest."""

    chunks: Mapping[bytes, Location]
    """Those that the parent does not have, borrowed ones included."""
    bytes: int
    """Of packs written."""
    sealer: Sealer
    now: datetime


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
    stored: Stored,
    capture: Capture,
    name: Name,
    clock: float,
) -> Built:
    """Build the manifest of what a scan found: a delta where that is right and pays, else a full one."""
    entries = scan.entries
    chunks = {**before.chunks, **stored.chunks}
    full = (
        before.ref is None
        or before.ref != name.parent
        or before.depth + 1 > FULL_EVERY
        or 2 * len(difference.changed) > len(entries)
    )
    unknown = [path for path in difference.changed if path not in before.entries]
    totals = states.totals_after(before, difference)
    counted = states.counts(before.entries, difference, capture.in_image(unknown))
    if full:
        live = {digest for entry in entries.values() for digest in entry.chunks}
        chunks = {digest: location for digest, location in chunks.items() if digest in live}
    tables = Tables(chunks if full else stored.chunks)
    written = entries if full else difference.changed
    # Checked when it is read: here every field is our own.
    manifest = Manifest.model_construct(
        agent_uid=name.agent_uid,
        generation=name.generation,
        number=name.number,
        parent=name.parent,
        kind="full" if full else "delta",
        parent_digest=None if full else before.digest,
        depth=0 if full else before.depth + 1,
        image=capture.image_id,
        capture=capture.kind,
        created=stored.now.isoformat(),
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
            files_total=totals.files,
            bytes_total=totals.bytes,
            packs_stored=stored.bytes,
            duration_ms=_since(clock),
        ),
    )
    data, digest = encode(manifest, stored.sealer)
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
        totals=totals,
    )
    return Built(manifest=manifest, data=data, state=state)


def build_fork(source: State, top: Manifest, stored: Stored, name: Name, clock: float) -> Built:
    """Build the manifest of an agent's first snapshot, which is one of another agent.

    Args:
        source: What is forked.
        top: Its manifest.
        stored: Where its chunks lie.
        name: Of the new snapshot.
        clock: When the call began.
    """
    tables = Tables(stored.chunks)
    numbers = top.statistics.model_copy(
        update={
            "added": 0,
            "changed": 0,
            "deleted": 0,
            "packs_stored": stored.bytes,
            "duration_ms": _since(clock),
        }
    )
    manifest = Manifest.model_construct(
        agent_uid=name.agent_uid,
        generation=name.generation,
        number=name.number,
        parent=name.parent,
        kind="full",
        parent_digest=None,
        depth=0,
        image=top.image,
        capture=top.capture,
        created=stored.now.isoformat(),
        packs=tables.packs,
        frames=tables.frames,
        chunks=tables.chunks,
        entries=[write_entry(source.entries[path]) for path in sorted(source.entries)],
        removed=[],
        statistics=numbers,
    )
    data, digest = encode(manifest, stored.sealer)
    state = replace(source, ref=name.ref, digest=digest, number=name.number, depth=0, parent=name.parent)
    return Built(manifest=manifest, data=data, state=state)


async def existing(chain: ChainReader, name: Name) -> Manifest:
    """Return the manifest that an earlier attempt of the same call wrote.

    Raises:
        SnapshotConflict: It is another's.
    """
    found, _ = await chain.manifest(name.ref)
    if (found.generation, found.parent) != (name.generation, name.parent):
        msg = (
            f"Snapshot {name.ref} exists already, of generation {found.generation} and parent {found.parent}; asked "
            f"for was generation {name.generation} and parent {name.parent}. Take the snapshot under the next number."
        )
        raise SnapshotConflict(msg)
    return found


def found_info(found: Manifest, ref: str, clock: float, requests: int) -> SnapshotInfo:
    """Report on a snapshot that an earlier attempt wrote."""
    return _info(found, ref, 0, clock, requests)


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
        files_total=kept.totals.files,
        bytes_new_stored=0,
        bytes_total=kept.totals.bytes,
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


def _since(clock: float) -> int:
    return round((time.monotonic() - clock) * 1000)
