"""Prunes: deletes manifests of an agent that no rule keeps. The collection deletes the packs.

What is to go is written into the head first, by compare-and-swap over the head that was seen before everything was
listed. So nothing that counts, has a name or is gone on from can have been missed: each of these writes the head too.
From then on writers see that nothing may build on it. Manifests that others build on go after those that do: whatever
happens in between, what is left are whole chains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from activities.errors import ObjectNotFound, SnapshotNotFound, SnapshotSealed, SnapshotTooNew, StoreUnavailable
from activities.ownership import SnapshotForeign
from activities.ports.upkeep import KeptSnapshot, PruneReport
from activities.snapshots import layout
from activities.snapshots.head import Heads
from activities.snapshots.retention import Candidate, Plan, needed_by, plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activities.ports.snapshots import Progress
    from activities.ports.store import ObjectInfo, ObjectStore
    from activities.ports.upkeep import Retention
    from activities.snapshots.catalogue import Catalogue
    from activities.snapshots.head import Head, Seen
    from activities.snapshots.timing import Timing

_TRIES = 10
_BATCH = 500
"""Snapshots that are written into the head at once."""


class Pruning:
    """Prunes agents of one store."""

    def __init__(self, store: ObjectStore, catalogue: Catalogue, timing: Timing) -> None:
        self._store = store
        self._catalogue = catalogue
        self._timing = timing
        self._heads = Heads(store)

    async def prune(self, agent_uid: str, keep: Retention, *, dry_run: bool, progress: Progress) -> PruneReport:
        """See `Upkeep.prune`."""
        removed: set[int] = set()
        tries = 0
        while True:
            progress("listing snapshots")
            seen = await self._heads.view(agent_uid)
            infos = [info async for info in self._store.list(layout.manifests_prefix(agent_uid))]
            if not infos and seen.head is None:
                msg = f"The agent {agent_uid} has no snapshots."
                raise SnapshotNotFound(msg)
            progress(f"reading {len(infos)} manifests")
            found, depths = await self._candidates(agent_uid, infos)
            decided = await self._plan(agent_uid, seen.head, found, keep)
            if dry_run:
                return _report(agent_uid, decided, set(decided.removed), dry_run=True)
            if seen.head is None or not decided.removed:
                await self._doom(agent_uid, seen, set(), found)
                return _report(agent_uid, decided, removed, dry_run=False)
            # From the top: what others build on goes after them.
            batch = set(decided.removed[-_BATCH:])
            if not await self._doom(agent_uid, seen, batch, found):
                tries += 1
                if tries >= _TRIES:
                    msg = f"The agent {agent_uid} takes snapshots faster than they can be listed; try again."
                    raise StoreUnavailable(msg)
                continue
            for depth in sorted({depths[number] for number in batch}, reverse=True):
                keys = [layout.manifest_key(agent_uid, number) for number in batch if depths[number] == depth]
                await self._store.delete(keys)
            await self._store.delete([layout.suspect_key(layout.manifest_key(agent_uid, number)) for number in batch])
            removed |= batch
            progress(f"{len(removed)} snapshots removed")

    async def _plan(self, agent_uid: str, head: Head | None, found: dict[int, Candidate], keep: Retention) -> Plan:
        """Decide what goes. What another pruning has begun to delete goes in any case."""
        now = self._timing.now()
        newest = head.number if head is not None else 0
        in_use = await self._in_use(agent_uid, head)
        named = {layout.parse_ref(ref)[1] for ref in (await names_of(self._store, agent_uid)).values()}
        doomed = needed_by(head.doomed if head is not None else (), found) & found.keys()
        left = {number: candidate for number, candidate in found.items() if number not in doomed}
        decided = plan(left, keep, newest=newest, in_use=in_use, named=named, now=now)
        return Plan(decided.rules, decided.bases, sorted({*decided.removed, *doomed}))

    async def _candidates(self, agent_uid: str, infos: list[ObjectInfo]) -> tuple[dict[int, Candidate], dict[int, int]]:
        """Read manifests; return them, and how far each is from its full one."""
        read = await self._catalogue.manifests(infos)
        found: dict[int, Candidate] = {}
        depths: dict[int, int] = {}
        for info in infos:
            _, number = layout.parse_ref(info.key)
            card = read.cards.get(info.key)
            error = read.unreadable.get(info.key)
            if isinstance(error, (SnapshotSealed, SnapshotTooNew, SnapshotForeign)):
                # Nobody can tell what it builds on, or it is not ours to judge.
                raise error
            if card is not None:
                uid, parent = _parsed(card.parent or "")
                found[number] = Candidate(
                    number,
                    card.created,
                    base=parent if card.base is not None else None,
                    parent=parent if uid == agent_uid else None,
                )
                depths[number] = card.depth
            elif error is not None:
                # Nothing that it builds on makes it whole again.
                found[number] = Candidate(number, info.modified, None)
                depths[number] = 0
        return found, depths

    async def _in_use(self, agent_uid: str, head: Head | None) -> set[int]:
        """Return the snapshots that the agent or a container of its goes on from."""
        refs = {head.current} if head is not None and head.current is not None else set[str]()
        async for info in self._store.list(layout.containers_prefix(agent_uid)):
            if info.key.endswith("/restore"):
                try:
                    refs.add((await self._store.get(info.key)).decode(errors="replace"))
                except ObjectNotFound:
                    continue
        return {number for uid, number in map(_parsed, refs) if uid == agent_uid}

    async def _doom(self, agent_uid: str, seen: Seen, batch: set[int], found: Mapping[int, Candidate]) -> bool:
        """Write into the head what is to go; what is gone leaves it, unless it is to be never."""
        head = seen.head
        if head is None:
            return False
        others = {number for number in head.doomed if number in found or number > head.number}
        doomed = tuple(sorted(batch | others))
        return doomed == head.doomed or await self._heads.swap(agent_uid, seen, head.edited(doomed=doomed))


async def names_of(store: ObjectStore, agent_uid: str) -> dict[str, str]:
    """Return what the names of an agent's snapshots stand for; names that stand for nothing are left out."""
    found: dict[str, str] = {}
    prefix = layout.names_prefix(agent_uid)
    async for info in store.list(prefix):
        try:
            ref = (await store.get(info.key)).decode(errors="replace")
        except ObjectNotFound:
            continue
        if _parsed(ref)[0] == agent_uid:
            found[info.key.removeprefix(prefix)] = ref
    return found


def _parsed(ref: str) -> tuple[str, int]:
    try:
        return layout.parse_ref(ref)
    except SnapshotNotFound:
        return "", 0


def _report(agent_uid: str, decided: Plan, removed: set[int], *, dry_run: bool) -> PruneReport:
    return PruneReport(
        agent_uid=agent_uid,
        dry_run=dry_run,
        kept=tuple(KeptSnapshot(number=number, rules=tuple(rules)) for number, rules in sorted(decided.rules.items())),
        kept_as_base=tuple(sorted(decided.bases)),
        removed=tuple(sorted(removed)),
    )
