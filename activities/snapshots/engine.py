"""The snapshot engine: takes, restores, reads and deletes snapshots of one host's containers, over one store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activities.errors import SnapshotNotFound
from activities.ports.snapshots import WHOLE_LIFE, BranchStart, TakeOptions
from activities.snapshots.commit import Name
from activities.snapshots.containers import Containers
from activities.snapshots.counting import Counted
from activities.snapshots.deleting import delete_snapshots
from activities.snapshots.forking import Forking
from activities.snapshots.head import Heads
from activities.snapshots.reader import SnapshotReader
from activities.snapshots.restoring import Restoring
from activities.snapshots.sealing import PLAIN
from activities.snapshots.sharing import Sharing
from activities.snapshots.taking import Taking
from activities.snapshots.timing import TIMING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from activities.ports.snapshots import DeletedSnapshots, Progress, RestoreInfo, SnapshotInfo
    from activities.ports.store import ObjectStore
    from activities.snapshots.capture import CaptureFactory
    from activities.snapshots.sealing import Sealer
    from activities.snapshots.sharing import Bounds
    from activities.snapshots.timing import Timing
    from hibernaut.models import FileEntry


class Engine:
    """Implements `SnapshotEngine` over an object store and a way to reach containers' files."""

    def __init__(
        self,
        store: ObjectStore,
        captures: CaptureFactory,
        *,
        spool: Path | None = None,
        sealer: Sealer = PLAIN,
        cache: Path | None = None,
        timing: Timing = TIMING,
        bounds: Bounds | None = None,
    ) -> None:
        """Use this store.

        Args:
            store: Where snapshots are kept.
            captures: Reaches the containers of this host.
            spool: The folder for a restore's temporary file, by default the system's.
            sealer: Seals what is stored, and opens it again.
            cache: The folder for what is known of other agents' chunks; it may be deleted. None: in memory.
            timing: What the collection of this store goes by too.
            bounds: How much makes it worth while to share with other agents.
        """
        self._store = store = Counted(store)
        self._reader = SnapshotReader(store, sealer=sealer)
        self._heads = Heads(store)
        self._containers = Containers(store, captures, sealer=sealer)
        sharing = Sharing(store, self._heads, sealer, cache=cache, timing=timing, bounds=bounds)
        self._taking = Taking(store, self._containers, self._heads, sealer=sealer, sharing=sharing)
        self._forking = Forking(store, self._heads, sealer=sealer, sharing=sharing)
        self._restoring = Restoring(store, self._containers, spool, sealer=sealer)

    async def claim(self, *, agent_uid: str, generation: int) -> None:
        """See `SnapshotEngine.claim`."""
        await self._heads.claim(agent_uid, generation)

    async def prepare(self, container_id: str, *, agent_uid: str, generation: int) -> None:  # noqa: ARG002 - the port's
        """See `SnapshotEngine.prepare`."""
        async with self._containers.lock(container_id):
            await self._containers.prepare(container_id, agent_uid)

    async def take(
        self,
        container_id: str,
        *,
        agent_uid: str,
        generation: int,
        number: int,
        parent: str | None,
        progress: Progress,
        options: TakeOptions | None = None,
    ) -> SnapshotInfo:
        """See `SnapshotEngine.take`."""
        name = Name(agent_uid, generation, number, parent)
        async with self._containers.lock(container_id):
            return await self._taking.take(container_id, name, options or TakeOptions(), progress)

    def prefetch(self, ref: str) -> None:
        """See `SnapshotEngine.prefetch`."""
        self._restoring.prefetch(ref)

    def drop_prefetched(self, ref: str) -> None:
        """See `SnapshotEngine.drop_prefetched`."""
        self._restoring.drop_prefetched(ref)

    async def restore(
        self,
        container_id: str,
        *,
        agent_uid: str,
        generation: int,
        ref: str,
        progress: Progress,
        branch: BranchStart = WHOLE_LIFE,
    ) -> RestoreInfo:
        """See `SnapshotEngine.restore`."""
        del generation
        async with self._containers.lock(container_id):
            return await self._restoring.restore(container_id, agent_uid, ref, progress, branch)

    async def fork(self, ref: str, *, agent_uid: str, generation: int) -> SnapshotInfo:
        """See `SnapshotEngine.fork`."""
        return await self._forking.fork(ref, Name(agent_uid, generation, 1, ref))

    async def rest(self, ref: str, *, agent_uid: str, generation: int) -> None:
        """See `SnapshotEngine.rest`."""
        if not await self._heads.rest(agent_uid, generation, ref):
            msg = f"The snapshot {ref} was pruned."
            raise SnapshotNotFound(msg)

    async def forget(self, container_id: str) -> None:
        """See `SnapshotEngine.forget`."""
        await self._containers.forget(container_id)

    async def list_files(self, ref: str, path: str) -> list[FileEntry]:
        """See `SnapshotEngine.list_files`."""
        return await self._reader.list_files(ref, path)

    def open_file(self, ref: str, path: str) -> AsyncIterator[bytes]:
        """See `SnapshotEngine.open_file`."""
        return self._reader.open_file(ref, path)

    async def delete_agent(self, agent_uid: str) -> DeletedSnapshots:
        """See `SnapshotEngine.delete_agent`."""
        deleted = await delete_snapshots(self._store, agent_uid)
        self._reader.forget_agent(agent_uid)
        self._heads.forget(agent_uid)
        self._containers.drop_agent(agent_uid)
        return deleted
