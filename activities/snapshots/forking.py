"""Forks: a snapshot of one agent becomes the first one of another, at the price of a manifest.

The new agent's manifest is full and names the packs where they lie. What keeps them: before anything else the source
is marked, so that its deletion leaves its packs to the collection; the condemned list is looked at before the manifest
is written; and after that the source's snapshot is seen to be there still, so nothing it needs was deleted until then,
and the list is looked at once more for packs that are being rewritten.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from activities.errors import ObjectExists, SnapshotConflict, SnapshotNotFound
from activities.snapshots import commit, layout
from activities.snapshots.capture import Control
from activities.snapshots.chain import ChainReader
from activities.snapshots.counting import tally
from activities.snapshots.guard import Anew
from activities.snapshots.packs import LEVEL

if TYPE_CHECKING:
    from activities.ports.snapshots import SnapshotInfo
    from activities.ports.store import ObjectStore
    from activities.snapshots.commit import Name
    from activities.snapshots.head import Heads
    from activities.snapshots.manifest import Manifest
    from activities.snapshots.sealing import Sealer
    from activities.snapshots.sharing import Sharing


class Forking:
    """Forks snapshots within one store."""

    def __init__(self, store: ObjectStore, heads: Heads, *, sealer: Sealer, sharing: Sharing) -> None:
        self._store = store
        self._heads = heads
        self._sealer = sealer
        self._sharing = sharing

    async def fork(self, source: str, name: Name) -> SnapshotInfo:
        """See `SnapshotEngine.fork`; `name` is that of the new snapshot."""
        clock, requests = time.monotonic(), tally()
        watch = self._sharing.timing.start()
        uid, _ = layout.parse_ref(source)
        if uid == name.agent_uid:
            msg = f"The snapshot {source} is one of agent {uid} already: a fork needs another agent."
            raise SnapshotConflict(msg)
        await self._heads.claim(name.agent_uid, name.generation)
        head = self._heads.known(name.agent_uid)
        chain = ChainReader(self._store, sealer=self._sealer)
        if head is not None and head.ref == name.ref:
            return commit.found_info(await commit.existing(chain, name), name.ref, clock, requests.count)
        await self._sharing.markers.put(uid)
        top, _ = await chain.manifest(source)
        state = await chain.state(source)
        live = {digest for entry in state.entries.values() for digest in entry.chunks}
        chunks = {digest: place for digest, place in state.chunks.items() if digest in live}
        anew = Anew(layout.packs_prefix(name.agent_uid), LEVEL, self._sharing.salt(name), Control())
        admitted = await self._sharing.guard.admit(chunks, anew, look_for=False)
        stored = commit.Stored(admitted.chunks, admitted.stored_bytes, self._sealer, self._sharing.timing.now())
        made = await asyncio.to_thread(commit.build_fork, state, top, stored, name, clock)
        self._sharing.check(watch, name.ref)
        found = None
        try:
            await self._store.put(name.ref, made.data, if_none_match=True)
        except ObjectExists:
            found = await commit.existing(chain, name)
        late = found is not None or self._sharing.is_late(admitted.watch, admitted)
        await self._finish(name, source, found or made.manifest, late=late)
        count = requests.count
        return commit.found_info(found, name.ref, clock, count) if found else made.info(clock, count)

    async def _finish(self, name: Name, source: str, written: Manifest, *, late: bool) -> None:
        """See that what was written is whole, and make it count."""
        try:
            if await self._store.head(source) is None:
                msg = f"The snapshot {source} was deleted while it was forked."
                raise SnapshotNotFound(msg)
            await self._sharing.guard.confirm(written, late=late)
        except (SnapshotNotFound, SnapshotConflict):
            if await self._heads.retract(name.agent_uid, name.number):
                await self._store.delete([name.ref])
            raise
        await self._heads.advance(name.agent_uid, name.generation, name.number, name.ref)
