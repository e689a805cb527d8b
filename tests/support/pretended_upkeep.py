"""An `Upkeep` that pretends: numbers of snapshots by agent, and what is to go wrong."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from activities.errors import InvalidSnapshotName, SnapshotNameTaken, SnapshotNotFound
from activities.images_upkeep import ImageUpkeepActivities
from activities.ports.snapshots import Progress
from activities.ports.store import ObjectStore
from activities.ports.upkeep import (
    CollectReport,
    Damage,
    KeptSnapshot,
    PruneReport,
    Retention,
    Upkeep,
    VerifyProgress,
    VerifyReport,
)
from activities.upkeep import UpkeepActivities
from activities.verification import VerifyActivities

NOTHING = CollectReport(
    condemned=0,
    released=0,
    swept=0,
    bytes_swept=0,
    packs_seen=0,
    bytes_seen=0,
    manifests_seen=0,
    waiting=0,
    more=False,
)


def upkeep_activities(upkeep: Upkeep, store: ObjectStore, keep: Retention) -> list[Callable[..., Any]]:
    """The real activities over it."""
    active, images = UpkeepActivities(upkeep, store, keep), ImageUpkeepActivities(store)
    return [
        *(active.agents, active.prune, active.prune_agents, active.collect, active.name),
        *(VerifyActivities(upkeep, store).verify, images.verify, images.collect),
    ]


def ref(uid: str, number: int) -> str:
    return f"agents/{uid}/snapshots/manifests/{number:08d}"


@dataclass
class PretendedUpkeep:
    """Keeps the newest `last` of each agent; verification reads one pack per snapshot."""

    snapshots: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    names: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    damage: dict[str, tuple[Damage, ...]] = field(default_factory=dict[str, tuple[Damage, ...]])
    failures: dict[str, list[BaseException]] = field(default_factory=dict[str, list[BaseException]])
    """Raised in the middle of what is done for an agent, one each time; those of `collect` under that name."""
    passes: list[CollectReport] = field(default_factory=list[CollectReport])
    resumed: list[VerifyProgress | None] = field(default_factory=list[VerifyProgress | None])
    packs_read: list[str] = field(default_factory=list[str])
    keeps: list[Retention] = field(default_factory=list[Retention])
    """Of prunings that were no dry run."""
    slowness: float = 0.01
    """Seconds that reading a pack takes."""
    running: int = 0
    most_running: int = 0
    on_remove: Callable[[], None] = lambda: None

    async def agents(self) -> tuple[str, ...]:
        return tuple(self.snapshots)

    async def prune(
        self, agent_uid: str, keep: Retention, *, dry_run: bool = False, progress: Progress | None = None
    ) -> PruneReport:
        if progress is not None:
            progress("looking")
        numbers = self.snapshots.get(agent_uid)
        if not numbers:
            raise SnapshotNotFound(f"Agent {agent_uid} has no snapshot.")
        kept, removed = numbers[-keep.last :], numbers[: -keep.last]
        if not dry_run:
            self.keeps.append(keep)
            for number in list(removed):
                self.on_remove()
                numbers.remove(number)
                self._fail(agent_uid)
            self._fail(agent_uid)
        return PruneReport(
            agent_uid=agent_uid,
            dry_run=dry_run,
            kept=tuple(KeptSnapshot(number=number, rules=("last",)) for number in kept),
            kept_as_base=(),
            removed=tuple(removed),
        )

    async def collect(self, *, progress: Progress | None = None) -> CollectReport:
        if progress is not None:
            progress("listing")
        self._fail("collect")
        return self.passes.pop(0) if self.passes else NOTHING

    async def verify(
        self,
        agent_uid: str,
        *,
        progress: Callable[[VerifyProgress], None] | None = None,
        resume: VerifyProgress | None = None,
    ) -> VerifyReport:
        self.resumed.append(resume)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self._verify(agent_uid, progress, resume)
        finally:
            self.running -= 1

    async def name_snapshot(self, agent_uid: str, number: int, name: str, *, move: bool = False) -> None:
        if not name.isalnum():
            raise InvalidSnapshotName(f"{name!r} is no name.")
        if number not in self.snapshots.get(agent_uid, []):
            raise SnapshotNotFound(f"There is no snapshot {number}.")
        if self.names.get((agent_uid, name), number) != number and not move:
            raise SnapshotNameTaken(f"{name} is another's.")
        self.names[agent_uid, name] = number

    async def unname(self, agent_uid: str, name: str) -> bool:
        return self.names.pop((agent_uid, name), None) is not None

    async def list_names(self, agent_uid: str) -> dict[str, str]:
        return {name: ref(uid, number) for (uid, name), number in self.names.items() if uid == agent_uid}

    async def _verify(
        self, uid: str, progress: Callable[[VerifyProgress], None] | None, resume: VerifyProgress | None
    ) -> VerifyReport:
        numbers = self.snapshots.get(uid, [])
        if not numbers:
            raise SnapshotNotFound(f"Agent {uid} has no snapshot.")
        before = resume or VerifyProgress(text="beginning", newest=numbers[-1])
        for number in numbers:
            pack = f"{uid}-pack-{number:08d}"
            if pack <= before.after:
                continue
            self.packs_read.append(pack)
            before = before.model_copy(update={"after": pack, "packs": before.packs + 1, "text": f"pack {number}"})
            if progress is not None:
                progress(before)
            await asyncio.sleep(self.slowness)
            self._fail(uid)
        damage = self.damage.get(uid, ())
        lost = sorted({one for wrong in damage for one in wrong.snapshots})
        return VerifyReport(
            agent_uid=uid,
            snapshots=len(numbers),
            packs=before.packs,
            chunks=10 * before.packs,
            bytes=100 * before.packs,
            damage=damage,
            lost=tuple(lost),
        )

    def _fail(self, key: str) -> None:
        if failures := self.failures.get(key):
            raise failures.pop(0)
