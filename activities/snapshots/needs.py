"""Who needs which chunks of some packs, by all manifests of a store."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from activities.errors import SnapshotError, SnapshotNotFound, StoreUnavailable
from activities.snapshots import layout
from activities.snapshots.chain import ChainReader
from activities.snapshots.packs import Location
from activities.snapshots.survey import agents, listed
from activities.snapshots.tables import locations

if TYPE_CHECKING:
    from collections.abc import Collection

    from activities.ports.snapshots import Progress
    from activities.ports.store import ObjectStore
    from activities.snapshots.catalogue import Catalogue
    from activities.snapshots.sealing import Sealer

_TRIES = 10


def _nobody() -> defaultdict[str, set[Location]]:
    return defaultdict(set)


@dataclass(slots=True)
class Needs:
    """What was found."""

    places: defaultdict[str, defaultdict[str, set[Location]]] = field(default_factory=lambda: defaultdict(_nobody))
    """By pack, by agent: where the chunks lie."""
    forks: set[str] = field(default_factory=set[str])
    """Agents whose snapshots go on from one of the agent that was asked for."""
    unreadable: int = 0
    """Manifests that may need any of the packs."""

    def of(self, pack: str) -> set[Location]:
        """Return every place in a pack that somebody needs."""
        return set[Location]().union(*self.places[pack].values())


class Needing:
    """Looks at the manifests of one store."""

    def __init__(self, store: ObjectStore, catalogue: Catalogue, sealer: Sealer) -> None:
        self._store = store
        self._catalogue = catalogue
        self._sealer = sealer

    async def look(self, packs: Collection[str], agent_uid: str, progress: Progress) -> Needs:
        """Find out who needs what; `agent_uid` is whose forks are told.

        Raises:
            StoreUnavailable: Manifests come and go all the time.
        """
        found = Needs()
        uids = [uid async for uid in agents(self._store)]
        for at, uid in enumerate(uids):
            progress(f"looking who needs what is left, agent {at + 1} of {len(uids)}")
            for _ in range(_TRIES):
                if await self._add(uid, packs, agent_uid, found):
                    break
            else:
                msg = f"The snapshots of agent {uid} change each time they are to be read; try again."
                raise StoreUnavailable(msg)
        return found

    async def _add(self, uid: str, packs: Collection[str], owner: str, found: Needs) -> bool:
        """Add what one agent needs; False when a manifest was gone before it was read (see `listed`)."""
        _, read = await listed(self._store, self._catalogue, uid, layout.manifests_prefix(uid))
        unreadable = len(read.unreadable)
        for ref, card in read.cards.items():
            if uid != owner and card.parent is not None and card.parent.startswith(layout.manifests_prefix(owner)):
                found.forks.add(uid)
            if not any(pack in packs for pack in card.packs):
                continue
            try:
                manifest, _ = await ChainReader(self._store, sealer=self._sealer).manifest(ref)
                places = locations(manifest)
            except SnapshotNotFound:
                return False
            except SnapshotError:
                unreadable += 1
                continue
            for place in places.values():
                if place.pack in packs:
                    found.places[place.pack][uid].add(place)
        found.unreadable += unreadable
        return True
