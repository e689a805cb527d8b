"""Takes and restores snapshots: what happens in which order, so that a crash at any point leaves a whole one behind.

Taking: read what changed and store it in packs, then write the manifest by conditional PUT; before that the snapshot
does not exist, and after it everything it names does. Restoring: read the chain, fetch and verify all content, and only
then touch the container.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING

from activities.errors import (
    ImageMismatch,
    ObjectExists,
    ObjectNotFound,
    SandboxNotFresh,
    SnapshotDamaged,
    SnapshotError,
    SnapshotFenced,
    SnapshotNotFound,
    StoreError,
)
from activities.ports.snapshots import DeletedSnapshots, Progress, RestoreInfo, SnapshotInfo
from activities.snapshots import commit, layout
from activities.snapshots.capture import Capture, CaptureFactory, Control
from activities.snapshots.chain import ChainReader
from activities.snapshots.entries import Kind
from activities.snapshots.fetch import Spool
from activities.snapshots.head import Heads
from activities.snapshots.packs import PackWriter
from activities.snapshots.reader import SnapshotReader
from activities.snapshots.state import EMPTY, Index, State, compare
from activities.snapshots.threads import Uploads, run_blocking, watched
from hibernaut.contracts import StoreKeys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from activities.ports.store import ObjectStore
    from hibernaut.models import FileEntry

_KEPT_INDEXES = 64


class Engine:
    """Implements `SnapshotEngine` over an object store and a way to reach containers' files."""

    def __init__(self, store: ObjectStore, captures: CaptureFactory, *, spool: Path | None = None) -> None:
        """Use this store; `spool` is the folder for a restore's temporary file, by default the system's."""
        self._store = store
        self._captures = captures
        self._spool = spool
        self._reader = SnapshotReader(store)
        self._heads = Heads(store)
        self._open: dict[str, Capture] = {}
        self._owners: dict[str, str] = {}
        self._indexes: OrderedDict[str, Index] = OrderedDict()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def claim(self, *, agent_uid: str, generation: int) -> None:
        """See `SnapshotEngine.claim`."""
        await self._heads.claim(agent_uid, generation)

    async def prepare(self, container_id: str, *, agent_uid: str, generation: int) -> None:  # noqa: ARG002 - the port's
        """See `SnapshotEngine.prepare`."""
        key = f"{layout.container_prefix(agent_uid, container_id)}base"
        async with self._locks[container_id]:
            capture = await asyncio.to_thread(self._captures.open, container_id, None)
            notes = await asyncio.to_thread(capture.prepare)
            if notes is not None:
                await self._store.put(key, notes)
            self._open[container_id] = capture
            self._owners[container_id] = agent_uid

    async def take(
        self,
        container_id: str,
        *,
        agent_uid: str,
        generation: int,
        number: int,
        parent: str | None,
        progress: Progress,
    ) -> SnapshotInfo:
        """See `SnapshotEngine.take`."""
        clock = time.monotonic()
        ref = layout.manifest_key(agent_uid, number)
        control = Control()
        chain = ChainReader(self._store)
        async with self._locks[container_id]:
            if not self._heads.knows(agent_uid):
                # Whoever is fenced off finds out before everything is read and stored.
                await self._heads.check(agent_uid, generation)
            capture = await self._capture(container_id, agent_uid)
            index = await self._index(container_id, ref, parent, chain, capture)
            if index.state.ref == ref:
                return await self._found(chain, generation, parent, ref, clock)
            uploads = Uploads(self._store, control)
            writer = PackWriter(index.state.chunks, layout.packs_prefix(agent_uid), uploads.put)
            try:
                scan = await run_blocking(lambda: capture.take(index, writer, control), control, progress)
                difference = compare(index.state.entries, scan.entries)
                if not difference and index.state.ref is not None:
                    await self._heads.check(agent_uid, generation)
                    self._keep(container_id, Index(index.state, scan.signatures))
                    return commit.unchanged(index.state, index.state.ref, scan, capture, clock, chain.requests)
                progress("storing")
                locations = await asyncio.to_thread(writer.finish)
                await uploads.finish()
            except BaseException:
                # An upload that fails ends the scan early: what failed is the one thing to tell.
                await self._fail(uploads)
                raise
            made = await asyncio.to_thread(
                commit.build, index.state, scan, difference, locations, writer.stored_bytes, capture,
                commit.Name(agent_uid, generation, number, parent),
            )  # fmt: skip
            try:
                await self._store.put(ref, made.data, if_none_match=True)
            except ObjectExists:
                self._indexes.pop(container_id, None)
                return await self._found(chain, generation, parent, ref, clock)
            await self._advance(agent_uid, generation, number, ref)
            self._keep(container_id, Index(made.state, scan.signatures))
            return made.info(clock, uploads.requests + chain.requests + 2)

    async def restore(
        self, container_id: str, *, agent_uid: str, generation: int, ref: str, progress: Progress
    ) -> RestoreInfo:
        """See `SnapshotEngine.restore`."""
        clock = time.monotonic()
        del generation
        chain = ChainReader(self._store)
        async with self._locks[container_id]:
            capture = await self._capture(container_id, agent_uid)
            self._indexes.pop(container_id, None)
            wanted, faults = ref, list[SnapshotError]()
            while True:
                try:
                    state, requests = await self._restore_one(container_id, agent_uid, wanted, capture, chain, progress)
                    break
                except (SnapshotDamaged, SnapshotNotFound) as error:
                    faults.append(error)
                    before = await chain.before(wanted)
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

    async def forget(self, container_id: str) -> None:
        """See `SnapshotEngine.forget`."""
        self._open.pop(container_id, None)
        self._indexes.pop(container_id, None)
        self._locks.pop(container_id, None)
        owner = self._owners.pop(container_id, None)
        if owner is not None:
            prefix = layout.container_prefix(owner, container_id)
            await self._store.delete([f"{prefix}base", f"{prefix}restore"])

    async def list_files(self, ref: str, path: str) -> list[FileEntry]:
        """See `SnapshotEngine.list_files`."""
        return await self._reader.list_files(ref, path)

    def open_file(self, ref: str, path: str) -> AsyncIterator[bytes]:
        """See `SnapshotEngine.open_file`."""
        return self._reader.open_file(ref, path)

    async def delete_agent(self, agent_uid: str) -> DeletedSnapshots:
        """See `SnapshotEngine.delete_agent`."""
        found = [info async for info in self._store.list(layout.snapshots_prefix(agent_uid))]
        manifests = [info.key for info in found if info.key.startswith(layout.manifests_prefix(agent_uid))]
        packs = [info.key for info in found if layout.is_pack_key(info.key)]
        # Manifests first: a reader that meets a deletion half-way finds no snapshot rather than a damaged one.
        await self._store.delete(manifests)
        others = [info.key for info in found if info.key not in set(manifests)]
        await self._store.delete([*others, StoreKeys.head(agent_uid)])
        self._reader.forget_agent(agent_uid)
        self._heads.forget(agent_uid)
        for container_id in [kept for kept, owner in self._owners.items() if owner == agent_uid]:
            self._indexes.pop(container_id, None)
        return DeletedSnapshots(manifests=len(manifests), packs=len(packs), bytes=sum(info.size for info in found))

    async def _found(
        self, chain: ChainReader, generation: int, parent: str | None, ref: str, clock: float
    ) -> SnapshotInfo:
        """Report on what an earlier attempt wrote, and finish it."""
        info = await commit.existing(chain, ref, generation, parent, clock)
        await self._advance(layout.parse_ref(ref)[0], generation, info.number, ref)
        return info

    async def _advance(self, agent_uid: str, generation: int, number: int, ref: str) -> None:
        """Make a written snapshot count; one that is fenced off is removed again."""
        try:
            await self._heads.advance(agent_uid, generation, number, ref)
        except SnapshotFenced:
            # Nobody builds on it, unless another attempt had made it count before: numbers are used once.
            if self._heads.newest(agent_uid) < number:
                with contextlib.suppress(StoreError):
                    await self._store.delete([ref])
            raise

    async def _restore_one(
        self,
        container_id: str,
        agent_uid: str,
        ref: str,
        capture: Capture,
        chain: ChainReader,
        progress: Progress,
    ) -> tuple[State, int]:
        state = await chain.state(ref)
        if state.image != capture.image_id:
            msg = (
                f"The snapshot {ref} is a delta of image {state.image}, and the container is of {capture.image_id}: "
                "restore into a container of the snapshot's image."
            )
            raise ImageMismatch(msg)
        control = Control()
        spool = Spool(state.chunks, self._spool)
        try:
            filling = asyncio.ensure_future(spool.fill(self._store, state.entries.values(), control))
            await watched(filling, control, progress)
            await self._claim(container_id, agent_uid, ref)
            signatures = await run_blocking(lambda: capture.restore(state.entries, spool, control), control, progress)
        finally:
            spool.close()
        self._keep(container_id, Index(state, signatures))
        return state, spool.requests + 1

    async def _claim(self, container_id: str, agent_uid: str, ref: str) -> None:
        """Note which snapshot is about to be written into the container: a later attempt must not mix in another."""
        key = f"{layout.container_prefix(agent_uid, container_id)}restore"
        try:
            await self._store.put(key, ref.encode(), if_none_match=True)
        except ObjectExists:
            begun = (await self._store.get(key)).decode(errors="replace")
            if begun != ref:
                msg = (
                    f"The restore of {begun} was begun in this container, and now {ref} is to be restored: "
                    "acquire a new container."
                )
                raise SandboxNotFresh(msg) from None

    async def _capture(self, container_id: str, agent_uid: str) -> Capture:
        self._owners[container_id] = agent_uid
        known = self._open.get(container_id)
        found = await asyncio.to_thread(self._captures.open, container_id, known)
        if found is not known:
            key = f"{layout.container_prefix(agent_uid, container_id)}base"
            notes: bytes | None = None
            with contextlib.suppress(ObjectNotFound):
                notes = await self._store.get(key) if found.needs_notes else None
            found.resume(notes)
            self._open[container_id] = found
        return found

    async def _index(
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

    def _keep(self, container_id: str, index: Index) -> None:
        self._indexes[container_id] = index
        self._indexes.move_to_end(container_id)
        while len(self._indexes) > _KEPT_INDEXES:
            self._indexes.popitem(last=False)

    async def _fail(self, uploads: Uploads) -> None:
        uploads.abandon()
        await uploads.finish()
