"""What the engine keeps in memory of each container: how its files are reached, and what they looked like last."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING

from activities.errors import ObjectNotFound, SnapshotDamaged, SnapshotNotFound
from activities.snapshots import layout
from activities.snapshots.sealing import PLAIN
from activities.snapshots.state import EMPTY, Index

if TYPE_CHECKING:
    from activities.ports.store import ObjectStore
    from activities.snapshots.capture import Capture, CaptureFactory
    from activities.snapshots.chain import ChainReader
    from activities.snapshots.sealing import Sealer

_KEPT_INDEXES = 64


class Containers:
    """The containers of one host; all of it may be forgotten, and is then found out anew."""

    def __init__(self, store: ObjectStore, captures: CaptureFactory, *, sealer: Sealer = PLAIN) -> None:
        self._store = store
        self._sealer = sealer
        self._captures = captures
        self._open: dict[str, Capture] = {}
        self._owners: dict[str, str] = {}
        self._indexes: OrderedDict[str, Index] = OrderedDict()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def lock(self, container_id: str) -> asyncio.Lock:
        """Return what lets one call at a time work on a container."""
        return self._locks[container_id]

    async def prepare(self, container_id: str, agent_uid: str) -> None:
        """Note what a fresh container looks like, where that is needed."""
        capture = await asyncio.to_thread(self._captures.open, container_id, None)
        notes = await asyncio.to_thread(capture.prepare)
        if notes is not None:
            key = _notes_key(agent_uid, container_id)
            await self._store.put(key, self._sealer.seal(notes, key.encode()))
        self._open[container_id] = capture
        self._owners[container_id] = agent_uid

    async def capture(self, container_id: str, agent_uid: str) -> Capture:
        """Return the way to reach a container's files, by what was noted of it when it was fresh."""
        self._owners[container_id] = agent_uid
        known = self._open.get(container_id)
        found = await asyncio.to_thread(self._captures.open, container_id, known)
        if found is not known:
            found.resume(await self._notes(agent_uid, container_id) if found.needs_notes else None)
            self._open[container_id] = found
        return found

    async def _notes(self, agent_uid: str, container_id: str) -> bytes | None:
        key = _notes_key(agent_uid, container_id)
        try:
            return self._sealer.open(await self._store.get(key), key.encode())
        except ObjectNotFound:
            return None

    async def index(
        self, container_id: str, ref: str, parent: str | None, chain: ChainReader, capture: Capture
    ) -> Index:
        """Return what is known of the container's files if its last snapshot is the parent, else the parent itself."""
        kept = self._indexes.get(container_id)
        if kept is not None and kept.state.ref in (parent, ref):
            self._indexes.move_to_end(container_id)
            return kept
        try:
            state = await chain.state(parent)
        except (SnapshotDamaged, SnapshotNotFound):
            # The new snapshot is a full one then, and needs nothing of the damaged one.
            state = EMPTY
        if state.image not in (None, capture.image_id):
            state = EMPTY
        return Index(state)

    def keep(self, container_id: str, index: Index) -> None:
        """Remember what a container's files look like; of many containers, the ones used last."""
        self._indexes[container_id] = index
        self._indexes.move_to_end(container_id)
        while len(self._indexes) > _KEPT_INDEXES:
            self._indexes.popitem(last=False)

    def drop_index(self, container_id: str) -> None:
        """Forget what a container's files look like."""
        self._indexes.pop(container_id, None)

    def drop_agent(self, agent_uid: str) -> None:
        """Forget what the files of an agent's containers look like."""
        for container_id in [kept for kept, owner in self._owners.items() if owner == agent_uid]:
            self.drop_index(container_id)

    async def forget(self, container_id: str) -> None:
        """Drop everything of a container that was removed, its notes in the store included."""
        self._open.pop(container_id, None)
        self.drop_index(container_id)
        self._locks.pop(container_id, None)
        owner = self._owners.pop(container_id, None)
        if owner is not None:
            await self._store.delete([_notes_key(owner, container_id), layout.restore_key(owner, container_id)])


def _notes_key(agent_uid: str, container_id: str) -> str:
    return f"{layout.container_prefix(agent_uid, container_id)}base"
