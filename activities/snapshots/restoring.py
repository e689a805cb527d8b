"""Restores a snapshot, or the one before it where it is damaged."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from activities.errors import (
    SnapshotDamaged,
    SnapshotError,
    SnapshotNotFound,
)
from activities.ports.snapshots import WHOLE_LIFE, BranchStart, RestoreInfo
from activities.snapshots import layout
from activities.snapshots.applying import Applying, Target
from activities.snapshots.chain import ChainReader
from activities.snapshots.entries import Kind
from activities.snapshots.prefetch import Fetcher
from activities.snapshots.sealing import PLAIN
from activities.snapshots.state import Index

if TYPE_CHECKING:
    from pathlib import Path

    from activities.ports.snapshots import Progress
    from activities.ports.store import ObjectStore
    from activities.snapshots.containers import Containers
    from activities.snapshots.sealing import Sealer
    from activities.snapshots.state import State


class Restoring:
    """Brings one host's containers to snapshots of one store."""

    def __init__(
        self, store: ObjectStore, containers: Containers, spool: Path | None, *, sealer: Sealer = PLAIN
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._containers = containers
        self._fetcher = Fetcher(store, sealer=sealer)
        self._applying = Applying(store, self._fetcher, spool, sealer=sealer)

    def prefetch(self, ref: str) -> None:
        """See `SnapshotEngine.prefetch`."""
        self._fetcher.begin(ref)

    def drop_prefetched(self, ref: str) -> None:
        """See `SnapshotEngine.drop_prefetched`."""
        self._fetcher.drop(ref)

    async def restore(
        self, container_id: str, agent_uid: str, ref: str, progress: Progress, branch: BranchStart = WHOLE_LIFE
    ) -> RestoreInfo:
        """See `SnapshotEngine.restore`; call it under the container's lock."""
        clock = time.monotonic()
        chain = ChainReader(self._store, sealer=self._sealer)
        capture = await self._containers.capture(container_id, agent_uid)
        self._containers.drop_index(container_id)
        target = Target(container_id, agent_uid, capture)
        wanted, faults = ref, list[SnapshotError]()
        while True:
            try:
                state, requests = await self._restore_one(target, wanted, progress, after_a_fault=bool(faults))
                break
            except (SnapshotDamaged, SnapshotNotFound) as error:
                faults.append(error)
                before = _within(branch, wanted, await chain.before(wanted))
                if before is None:
                    # What is wrong with the one that was asked for says most.
                    raise faults[0] from None
                wanted = before
        files = [entry for entry in state.entries.values() if entry.kind is Kind.FILE and not entry.leader]
        return RestoreInfo(
            requested=ref,
            restored=wanted,
            number=state.number,
            reason=" ".join(str(fault) for fault in faults) or None,
            files=sum(1 for entry in state.entries.values() if entry.kind not in (Kind.DIRECTORY, Kind.WHITEOUT)),
            bytes=sum(entry.size for entry in files),
            requests=chain.requests + requests,
            duration_ms=round((time.monotonic() - clock) * 1000),
            capture=capture.kind,
        )

    async def _restore_one(
        self, target: Target, ref: str, progress: Progress, *, after_a_fault: bool
    ) -> tuple[State, int]:
        # An older snapshot names the same packs: it would cost a new container for each step back.
        applied = await self._applying.apply(target, ref, progress, verify_first=after_a_fault)
        self._containers.keep(target.container_id, Index(applied.state, applied.signatures))
        return applied.state, applied.requests


def _within(branch: BranchStart, damaged: str, before: str | None) -> str | None:
    """What to restore instead of a damaged snapshot: never one of a branch that was left, whatever number it bears."""
    if layout.parse_ref(damaged)[1] < branch.first:
        return before
    if before is not None and layout.parse_ref(before)[1] >= branch.first:
        return before
    return branch.base if branch.first else before
