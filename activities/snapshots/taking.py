"""Takes a snapshot: read what changed and store it in packs, then write the manifest by conditional PUT, then the head.

Before its manifest is there a snapshot does not exist, and after it everything it names does; it counts once the head
names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

from activities.errors import (
    ObjectExists,
    SnapshotConflict,
    SnapshotFenced,
    SnapshotNotFound,
    SnapshotOvertaken,
    StoreError,
)
from activities.snapshots import commit, layout
from activities.snapshots.borrowing import Borrower
from activities.snapshots.capture import Control
from activities.snapshots.chain import ChainReader
from activities.snapshots.counting import tally
from activities.snapshots.guard import Anew
from activities.snapshots.packs import PackWriter
from activities.snapshots.scope import Scope
from activities.snapshots.state import EMPTY, Index, compare
from activities.snapshots.threads import Uploads, run_blocking

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from activities.ports.snapshots import Progress, SnapshotInfo, TakeOptions
    from activities.ports.store import ObjectStore
    from activities.snapshots.capture import Capture
    from activities.snapshots.commit import Name
    from activities.snapshots.containers import Containers
    from activities.snapshots.counting import Tally
    from activities.snapshots.guard import Admitted
    from activities.snapshots.head import Heads
    from activities.snapshots.manifest import Manifest
    from activities.snapshots.packs import Location
    from activities.snapshots.sealing import Sealer
    from activities.snapshots.sharing import Sharing
    from activities.snapshots.state import Difference, Scan


class _Read(NamedTuple):
    """What was read of a container, and stored."""

    scan: Scan
    difference: Difference
    locations: dict[bytes, Location] | None
    """Of chunks that the parent does not have; None: nothing changed."""
    writer: PackWriter


class Taking:
    """Snapshots of one host's containers, into one store."""

    def __init__(
        self, store: ObjectStore, containers: Containers, heads: Heads, *, sealer: Sealer, sharing: Sharing
    ) -> None:
        self._store = store
        self._containers = containers
        self._heads = heads
        self._sealer = sealer
        self._sharing = sharing

    async def take(self, container_id: str, name: Name, options: TakeOptions, progress: Progress) -> SnapshotInfo:
        """See `SnapshotEngine.take`; call it under the container's lock."""
        clock, requests = time.monotonic(), tally()
        watch = self._sharing.timing.start()
        uid, ref = name.agent_uid, name.ref
        control = Control()
        chain = ChainReader(self._store, sealer=self._sealer)
        if not self._heads.knows(uid):
            # Whoever is fenced off finds out before everything is read and stored.
            await self._heads.check(uid, name.generation)
        capture = await self._containers.capture(container_id, uid)
        index = await self._containers.index(container_id, ref, name.parent, chain, capture)
        if index.state.ref == ref:
            return await self._found(chain, name, clock, requests)
        index = await self._standing(index, uid)
        if index.exclude != options.exclude:
            index = Index(index.state, index.signatures, exclude=options.exclude)
        anew = Anew(
            layout.packs_prefix(uid), options.compression, self._sharing.salt(name), control, self._sharing.offered.ban
        )
        read = await self._read(capture, index, options, anew, progress)
        scan = read.scan
        if read.locations is None and index.state.ref is not None:
            if not await self._heads.rest(uid, name.generation, index.state.ref):
                self._containers.drop_index(container_id)
                msg = f"The snapshot {index.state.ref} was pruned just now: take the snapshot again."
                raise SnapshotOvertaken(msg)
            self._containers.keep(container_id, Index(index.state, scan.signatures, scan.gate, options.exclude))
            return commit.unchanged(index.state, index.state.ref, scan, capture, clock, requests.count)
        stored, admitted = await self._admitted(read, anew)
        made = await asyncio.to_thread(commit.build, index.state, scan, read.difference, stored, capture, name, clock)
        self._sharing.check(watch, ref)
        try:
            await self._store.put(ref, made.data, if_none_match=True)
        except ObjectExists:
            self._containers.drop_index(container_id)
            return await self._found(chain, name, clock, requests)
        late = self._sharing.is_late(watch, admitted)
        await self._count(name, index.state.ref, made.manifest if late or admitted is not None else None, late=late)
        self._containers.keep(container_id, Index(made.state, scan.signatures, scan.gate, options.exclude))
        await self._sharing.offer(name, stored, read.writer.borrowed)
        return made.info(clock, requests.count)

    async def _read(
        self, capture: Capture, index: Index, options: TakeOptions, anew: Anew, progress: Progress
    ) -> _Read:
        """Read what changed, and store what nobody has stored before."""
        control = anew.control
        borrower = Borrower(self._sharing.offered, control, self._sharing.borrow_bytes)
        await borrower.prepare()
        uploads = Uploads(self._store, control)
        writer = PackWriter(
            index.state.chunks,
            anew.prefix,
            uploads.put,
            level=anew.level,
            sealer=self._sealer,
            borrow=borrower,
            salt=anew.salt,
        )
        scope = Scope.of(options)
        locations: dict[bytes, Location] | None = None
        try:
            scan = await run_blocking(
                lambda: capture.take(index, writer, control, thorough=options.thorough, scope=scope), control, progress
            )
            difference = compare(index.state.entries, scan.entries)
            if difference or index.state.ref is None:
                control.text = "storing"
                locations = await run_blocking(writer.finish, control, progress)
                await uploads.finish()
        except BaseException:
            # An upload that fails ends the scan early: what failed is the one thing to tell.
            control.stop()
            uploads.abandon()
            await uploads.finish()
            raise
        finally:
            writer.close()
        return _Read(scan, difference, locations, writer)

    async def _admitted(self, read: _Read, anew: Anew) -> tuple[commit.Stored, Admitted | None]:
        """Make sure of what is borrowed; return what the manifest may name."""
        writer, now = read.writer, self._sharing.timing.now()
        chunks = read.locations or {}
        if not writer.borrowed:
            return commit.Stored(chunks, writer.stored_bytes, self._sealer, now), None
        admitted = await self._sharing.guard.admit(writer.borrowed, anew)
        stored_bytes = writer.stored_bytes + admitted.stored_bytes
        return commit.Stored(chunks | admitted.chunks, stored_bytes, self._sealer, now), admitted

    async def _standing(self, index: Index, uid: str) -> Index:
        """Return the index if its snapshot may be built on, else an empty one: all is read and stored anew then."""
        base, head = index.state.ref, self._heads.known(uid)
        if base is None:
            return index
        if layout.parse_ref(base)[0] == uid and (
            # What the head names is never pruned; whether any other is there costs a look.
            head is None or base in (head.ref, head.current) or await self._heads.stands(uid, base)
        ):
            return index
        return Index(EMPTY)

    async def _found(self, chain: ChainReader, name: Name, clock: float, requests: Tally) -> SnapshotInfo:
        """Report on what an earlier attempt wrote, and finish it."""
        try:
            found = await commit.existing(chain, name)
        except SnapshotNotFound:
            msg = f"The snapshot {name.ref} was there a moment ago and was removed: take the snapshot again."
            raise SnapshotOvertaken(msg) from None
        async with self._removed_when_fenced(name):
            await self._heads.check(name.agent_uid, name.generation)
        head = self._heads.known(name.agent_uid)
        if head is None or head.ref != name.ref:
            # Nobody knows how long the attempt took that wrote it.
            await self._count(name, found.parent if found.kind == "delta" else None, found, late=True)
        return commit.found_info(found, name.ref, clock, requests.count)

    async def _count(self, name: Name, base: str | None, doubtful: Manifest | None, *, late: bool) -> None:
        """Make a written snapshot count.

        Args:
            name: Of the snapshot.
            base: The snapshot it relies on.
            doubtful: Its manifest, if that names what may be gone.
            late: See `Guard.confirm`.
        """
        try:
            if doubtful is not None:
                await self._sharing.guard.confirm(doubtful, late=late)
            async with self._removed_when_fenced(name):
                await self._heads.advance(name.agent_uid, name.generation, name.number, name.ref, base=base)
        except SnapshotConflict:
            # It is not whole and will never count: nobody is to find it.
            if await self._heads.retract(name.agent_uid, name.number):
                await self._store.delete([name.ref])
            raise

    @contextlib.asynccontextmanager
    async def _removed_when_fenced(self, name: Name) -> AsyncGenerator[None]:
        """Remove a written snapshot that is fenced off."""
        try:
            yield
        except SnapshotFenced:
            # Nobody builds on it, unless another attempt had made it count before: numbers are used once.
            if self._heads.newest(name.agent_uid) < name.number:
                with contextlib.suppress(StoreError):
                    await self._store.delete([name.ref])
            raise
