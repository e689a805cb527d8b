"""Upkeep of one store: prunes, collects, verifies and names snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activities.snapshots import layout, naming
from activities.snapshots.catalogue import Catalogue
from activities.snapshots.collection import Collection
from activities.snapshots.pruning import Pruning, names_of
from activities.snapshots.sealing import PLAIN
from activities.snapshots.survey import agents
from activities.snapshots.timing import TIMING
from activities.snapshots.verifying import Verifying

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from activities.ports.snapshots import Progress
    from activities.ports.store import ObjectStore
    from activities.ports.upkeep import CollectReport, PruneReport, Retention, VerifyProgress, VerifyReport
    from activities.snapshots.sealing import Sealer
    from activities.snapshots.timing import Timing


class StoreUpkeep:
    """Implements `Upkeep`."""

    def __init__(
        self, store: ObjectStore, *, sealer: Sealer = PLAIN, timing: Timing = TIMING, cache: Path | None = None
    ) -> None:
        """Use this store.

        Args:
            store: Where snapshots are kept.
            sealer: Opens what is sealed in it.
            timing: What the writers of this store go by too; its grace may differ from theirs.
            cache: The folder for what was read of manifests; it may be deleted. None: in memory.
        """
        catalogue = Catalogue(store, sealer, cache)
        self._store = store
        self._pruning = Pruning(store, catalogue, timing)
        self._collection = Collection(store, catalogue, sealer, timing)
        self._verifying = Verifying(store, sealer)

    async def agents(self) -> tuple[str, ...]:
        """See `Upkeep.agents`."""
        return tuple(sorted([uid async for uid in agents(self._store)]))

    async def prune(
        self, agent_uid: str, keep: Retention, *, dry_run: bool = False, progress: Progress | None = None
    ) -> PruneReport:
        """See `Upkeep.prune`."""
        return await self._pruning.prune(agent_uid, keep, dry_run=dry_run, progress=progress or _nobody)

    async def collect(self, *, progress: Progress | None = None) -> CollectReport:
        """See `Upkeep.collect`."""
        return await self._collection.run(progress or _nobody)

    async def verify(
        self,
        agent_uid: str,
        *,
        progress: Callable[[VerifyProgress], None] | None = None,
        resume: VerifyProgress | None = None,
    ) -> VerifyReport:
        """See `Upkeep.verify`."""
        return await self._verifying.verify(agent_uid, progress or _nobody, resume)

    async def name_snapshot(self, agent_uid: str, number: int, name: str, *, move: bool = False) -> None:
        """See `Upkeep.name_snapshot`."""
        await naming.name_snapshot(self._store, agent_uid, number, name, move=move)

    async def unname(self, agent_uid: str, name: str) -> bool:
        """See `Upkeep.unname`."""
        key = layout.name_key(agent_uid, name)
        if await self._store.head(key) is None:
            return False
        await self._store.delete([key])
        return True

    async def list_names(self, agent_uid: str) -> dict[str, str]:
        """See `Upkeep.list_names`."""
        return await names_of(self._store, agent_uid)


def _nobody(_: object) -> None:
    """Nobody is told."""
