"""Reads snapshots from the store: a manifest, and the chain of manifests below it down to a full one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from activities.errors import ObjectNotFound, SnapshotDamaged, SnapshotNotFound
from activities.snapshots import layout
from activities.snapshots.entries import check_tree
from activities.snapshots.manifest import Manifest, bytes_of, chunk_lengths, decode, read_entries
from activities.snapshots.sealing import PLAIN
from activities.snapshots.state import EMPTY, State, totals_of
from activities.snapshots.tables import locations

if TYPE_CHECKING:
    from activities.ports.store import ObjectStore
    from activities.snapshots.entries import Entry
    from activities.snapshots.packs import Location
    from activities.snapshots.sealing import Sealer

FULL_EVERY = 20
"""A chain has at most this many delta manifests above its full one."""
_LONGEST = 4 * FULL_EVERY


class ChainReader:
    """Reads one snapshot; counts the requests it makes."""

    def __init__(self, store: ObjectStore, *, sealer: Sealer = PLAIN) -> None:
        self._store = store
        self.sealer = sealer
        self.requests = 0

    async def manifest(self, ref: str) -> tuple[Manifest, str]:
        """Read one manifest; return it and its digest.

        Raises:
            SnapshotNotFound: There is none.
            SnapshotDamaged: It cannot be read, or is that of another snapshot.
            SnapshotSealed: It is sealed with a key that is not known here.
        """
        uid, number = layout.parse_ref(ref)
        self.requests += 1
        try:
            data = await self._store.get(ref)
        except ObjectNotFound:
            msg = f"There is no snapshot {ref} in the store."
            raise SnapshotNotFound(msg) from None
        found, digest = await asyncio.to_thread(decode, data, ref, self.sealer)
        if (found.agent_uid, found.number) != (uid, number):
            msg = f"The manifest {ref} is that of snapshot {found.number} of agent {found.agent_uid}."
            raise SnapshotDamaged(msg)
        return found, digest

    async def state(self, ref: str | None) -> State:
        """Read a snapshot and check all it says; None is the image alone.

        Raises:
            SnapshotNotFound: There is none under this reference.
            SnapshotDamaged: A manifest of its chain is missing or damaged.
            PathEscape: A path leaves the root.
        """
        if ref is None:
            return EMPTY
        chain = [await self.manifest(ref)]
        while chain[-1][0].kind == "delta":
            above = chain[-1][0]
            if above.parent is None or len(chain) > _LONGEST:
                msg = f"The chain of {ref} does not end in a full manifest."
                raise SnapshotDamaged(msg)
            try:
                below = await self.manifest(above.parent)
            except SnapshotNotFound:
                msg = f"The manifest {above.parent}, on which {ref} builds, is missing."
                raise SnapshotDamaged(msg) from None
            if below[1] != above.parent_digest or below[0].image != above.image:
                msg = f"The manifest {above.parent} is not the one that {ref} was built on."
                raise SnapshotDamaged(msg)
            chain.append(below)
        return await asyncio.to_thread(_assemble, ref, chain)

    async def before(self, ref: str) -> str | None:
        """Return the reference of the snapshot before a damaged one: its parent, or the next lower number.

        Of a fork's first snapshot there is none: those of the agent that it was forked from are earlier steps of
        another, of which its own conversation knows nothing.
        """
        uid, _ = layout.parse_ref(ref)
        try:
            found, _ = await self.manifest(ref)
        except (SnapshotDamaged, SnapshotNotFound):
            self.requests += 1
            lower = [info.key async for info in self._store.list(layout.manifests_prefix(uid)) if info.key < ref]
            return lower[-1] if lower else None
        return found.parent if found.parent is not None and layout.parse_ref(found.parent)[0] == uid else None


def _assemble(ref: str, chain: list[tuple[Manifest, str]]) -> State:
    entries: dict[bytes, Entry] = {}
    chunks: dict[bytes, Location] = {}
    for found, _ in reversed(chain):
        for path in found.removed:
            entries.pop(bytes_of(path), None)
        entries.update(read_entries(found.entries))
        chunks.update(locations(found))
    top, digest = chain[0]
    check_tree(entries, chunk_lengths(chunks))
    return State(
        ref=ref,
        digest=digest,
        number=top.number,
        depth=top.depth,
        image=top.image,
        entries=entries,
        chunks=chunks,
        parent=top.parent,
        totals=totals_of(entries.values()),
    )
