"""What stays of a deleted agent's snapshots: packs that others' manifests name, and those that nobody does."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from activities.errors import SnapshotError, SnapshotNotFound
from activities.snapshots import layout
from activities.snapshots.chain import ChainReader
from activities.snapshots.survey import agents
from activities.snapshots.tables import locations
from hibernaut.models.deletion import Borrower, RetainedPack

if TYPE_CHECKING:
    from activities.ports.snapshots import Progress
    from activities.ports.store import ObjectInfo, ObjectStore
    from activities.snapshots.catalogue import Catalogue
    from activities.snapshots.sealing import Sealer


class Kept(NamedTuple):
    """What there is."""

    packs: tuple[RetainedPack, ...] = ()
    """Those that others need a part of."""
    idle: int = 0
    """Packs that nobody needs: the collection deletes them."""
    idle_bytes: int = 0
    unreadable: int = 0
    """Manifests of others that may need any of them."""


class Borrowers:
    """Looks at what all agents of a store name."""

    def __init__(self, store: ObjectStore, catalogue: Catalogue, sealer: Sealer) -> None:
        """Use this store."""
        self._store = store
        self._catalogue = catalogue
        self._sealer = sealer

    async def look(self, agent_uid: str, progress: Progress) -> Kept:
        """Find out who needs which of a deleted agent's packs; asks nobody when it has none."""
        prefix = layout.packs_prefix(agent_uid)
        packs = {info.key: info async for info in self._store.list(prefix)}
        if not packs:
            return Kept()
        needs: defaultdict[str, dict[str, dict[bytes, int]]] = defaultdict(lambda: defaultdict(dict))
        forks: set[str] = set()
        unreadable = 0
        others = [uid async for uid in agents(self._store) if uid != agent_uid]
        for at, uid in enumerate(others):
            progress(f"looking who needs what is left, agent {at + 1} of {len(others)}")
            unreadable += await self._needs(uid, agent_uid, needs, forks)
        kept = tuple(
            RetainedPack(
                pack=key.rpartition("/")[2],
                bytes=info.size,
                needed_by=tuple(
                    Borrower(agent_uid=uid, chunks=len(chunks), bytes=sum(chunks.values()), fork=uid in forks)
                    for uid, chunks in sorted(needs[key].items())
                ),
            )
            for key, info in sorted(packs.items())
            if key in needs
        )
        idle = [info.size for key, info in packs.items() if key not in needs]
        return Kept(kept, len(idle), sum(idle), unreadable)

    async def _needs(self, uid: str, owner: str, needs: dict[str, dict[str, dict[bytes, int]]], forks: set[str]) -> int:
        """Add what one agent needs; how many of its manifests cannot be read."""
        prefix = layout.packs_prefix(owner)
        infos: list[ObjectInfo] = [info async for info in self._store.list(layout.manifests_prefix(uid))]
        read = await self._catalogue.manifests(infos)
        unreadable = len(read.unreadable)
        for ref, card in read.cards.items():
            if card.parent is not None and card.parent.startswith(layout.manifests_prefix(owner)):
                forks.add(uid)
            if not any(pack.startswith(prefix) for pack in card.packs):
                continue
            try:
                found, _ = await ChainReader(self._store, sealer=self._sealer).manifest(ref)
            except SnapshotNotFound:
                continue
            except SnapshotError:
                unreadable += 1
                continue
            for digest, place in locations(found).items():
                if place.pack.startswith(prefix):
                    needs[place.pack][uid][digest] = place.length
        return unreadable
