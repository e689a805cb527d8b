"""The snapshots that an agent has, read from the store alone: listed, shown, and one compared with another."""

from __future__ import annotations

import asyncio
import heapq
import re
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from activities.errors import ImageMismatch, ObjectNotFound, SnapshotError, SnapshotNotFound
from activities.snapshots import differences, layout
from activities.snapshots.chain import ChainReader
from activities.snapshots.entries import Kind
from activities.snapshots.reader import described
from activities.snapshots.sealing import PLAIN
from hibernaut.models import SnapshotDetail, SnapshotLink, SnapshotPack, SnapshotPage, SnapshotSummary

if TYPE_CHECKING:
    from activities.ports.store import ObjectInfo, ObjectStore
    from activities.snapshots.manifest import Manifest
    from activities.snapshots.sealing import Sealer
    from activities.snapshots.state import State
    from hibernaut.models import SnapshotChange, SnapshotPath

LATEST = "latest"
"""Stands for the snapshot that an agent goes on from."""
IMAGE = "image"
"""Stands for what every snapshot differs from."""
_PARALLEL = 8
"""Manifests read at once."""
_ROWS_KEPT = 4_096
_BIGGEST = 10
_BATCH = 500
_NUMBER = re.compile(r"[0-9]{1,12}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_Item = TypeVar("_Item")


class History:
    """Reads the snapshots of agents; keeps in memory what lists say of them, since a manifest never changes."""

    def __init__(self, store: ObjectStore, *, sealer: Sealer = PLAIN) -> None:
        """Use this store; `sealer` opens what is sealed in it."""
        self._store = store
        self._sealer = sealer
        self._rows: OrderedDict[tuple[str, str], SnapshotSummary] = OrderedDict()

    async def page(
        self, agent_uid: str, *, newest: str | None, before: int | None = None, limit: int = 20
    ) -> SnapshotPage:
        """List the snapshots below the number `before`, the newest first; a damaged one says so.

        Reads no manifest beyond the page, and none a second time.
        """
        found = await self._manifests(agent_uid)
        names = await self._names(agent_uid)
        wanted = [number for number in found if before is None or number < before]
        slots = asyncio.Semaphore(_PARALLEL)

        async def row(number: int) -> SnapshotSummary | None:
            async with slots:
                return await self._row(found[number], newest, names)

        rows = await asyncio.gather(*(row(number) for number in wanted[:limit]))
        return SnapshotPage(
            snapshots=tuple(row for row in rows if row is not None),
            total=len(found),
            before=wanted[limit - 1] if limit < len(wanted) else None,
        )

    async def resolve(self, agent_uid: str, which: str, *, newest: str | None) -> str | None:
        """Return the reference of a snapshot called by its number, by `latest`, by a name, or by its reference.

        None is what `image` stands for.

        Raises:
            SnapshotNotFound: There is no such snapshot.
        """
        if which == IMAGE:
            return None
        if which == LATEST:
            if newest is None:
                msg = "The agent has no snapshot yet."
                raise SnapshotNotFound(msg)
            return newest
        if _NUMBER.fullmatch(which):
            return layout.manifest_key(agent_uid, int(which))
        if "/" in which:
            layout.parse_ref(which)
            return which
        try:
            if _NAME.fullmatch(which):
                ref = (await self._store.get(layout.names_prefix(agent_uid) + which)).decode("ascii", "replace")
                layout.parse_ref(ref)
                return ref
        except ObjectNotFound:
            pass
        msg = f"No snapshot is called {which[:140]!a}: say its number, `{LATEST}` or a name it was given."
        raise SnapshotNotFound(msg)

    async def parent(self, ref: str) -> str | None:
        """Return the reference of the snapshot before one; None: it was the first."""
        manifest, _ = await self._chain().manifest(ref)
        return manifest.parent

    async def show(self, ref: str, *, newest: str | None) -> SnapshotDetail:
        """Say all there is to say of one snapshot.

        Raises:
            SnapshotNotFound: There is none.
            SnapshotDamaged: Its own manifest cannot be read.
        """
        uid, number = layout.parse_ref(ref)
        known = await self._manifests(uid)
        info = known.get(number)
        if info is None:
            msg = f"There is no snapshot {number} in the store."
            raise SnapshotNotFound(msg)
        chain = self._chain()
        top, _ = await chain.manifest(ref)
        summary = _summary(info, top, newest, await self._names(uid))
        try:
            links, state = await self._links(chain, ref, top, known), await chain.state(ref)
        except SnapshotError as error:
            return SnapshotDetail(snapshot=summary, damage=str(error))
        files = [entry for entry in state.entries.values() if entry.kind is Kind.FILE and not entry.leader]
        return SnapshotDetail(
            snapshot=summary,
            chain=tuple(links),
            packs=await self._packs(state, set(top.packs)),
            biggest=tuple(
                described(entry, state.entries)
                for entry in heapq.nlargest(_BIGGEST, files, key=lambda entry: (entry.size, entry.path))
            ),
        )

    async def paths(self, ref: str) -> AsyncIterator[list[SnapshotPath]]:
        """Yield every path in which a snapshot differs from its image, some at a time."""
        state = await self._chain().state(ref)
        async for batch in _batches(differences.paths(state)):
            yield batch

    async def changes(self, before: str | None, after: str) -> AsyncIterator[list[SnapshotChange]]:
        """Yield every path in which two snapshots differ, some at a time; before None is the image.

        Raises:
            SnapshotNotFound: There is no such snapshot.
            SnapshotDamaged: One of them cannot be read.
            ImageMismatch: They are differences from different images.
        """
        old, new = await self._chain().state(before), await self._chain().state(after)
        if old.image not in (None, new.image):
            msg = f"The snapshots {before} and {after} differ from different images, {old.image} and {new.image}."
            raise ImageMismatch(msg)
        async for batch in _batches(differences.changes(old, new)):
            yield batch

    def _chain(self) -> ChainReader:
        return ChainReader(self._store, sealer=self._sealer)

    async def _manifests(self, agent_uid: str) -> dict[int, ObjectInfo]:
        """The manifests there are, the one with the highest number first."""
        prefix = layout.manifests_prefix(agent_uid)
        found = {layout.parse_ref(info.key)[1]: info async for info in self._store.list(prefix)}
        return dict(sorted(found.items(), reverse=True))

    async def _names(self, agent_uid: str) -> dict[str, list[str]]:
        """The names given to snapshots, by reference."""
        prefix = layout.names_prefix(agent_uid)
        slots = asyncio.Semaphore(_PARALLEL)
        names: defaultdict[str, list[str]] = defaultdict(list)

        async def read(key: str) -> None:
            async with slots:
                try:
                    ref = (await self._store.get(key)).decode("ascii", "replace")
                except ObjectNotFound:
                    return
            names[ref].append(key.removeprefix(prefix))

        await asyncio.gather(*[read(info.key) async for info in self._store.list(prefix)])
        return {ref: sorted(given) for ref, given in names.items()}

    async def _row(self, info: ObjectInfo, newest: str | None, names: dict[str, list[str]]) -> SnapshotSummary | None:
        mark = {"newest": info.key == newest, "names": tuple(names.get(info.key, ()))}
        kept = self._rows.get((info.key, info.etag))
        if kept is None:
            try:
                manifest, _ = await self._chain().manifest(info.key)
            except SnapshotNotFound:
                # Pruned since it was listed.
                return None
            except SnapshotError as error:
                number = layout.parse_ref(info.key)[1]
                damaged = SnapshotSummary(number=number, ref=info.key, manifest_bytes=info.size, damage=str(error))
                return damaged.model_copy(update=mark)
            kept = self._rows[info.key, info.etag] = _summary(info, manifest, None, {})
            if len(self._rows) > _ROWS_KEPT:
                self._rows.popitem(last=False)
        return kept.model_copy(update=mark)

    async def _links(
        self, chain: ChainReader, ref: str, top: Manifest, known: dict[int, ObjectInfo]
    ) -> list[SnapshotLink]:
        """The manifests that a snapshot is read from, itself first."""
        uid, _ = layout.parse_ref(ref)
        links: list[SnapshotLink] = []
        manifest = top
        while True:
            own = manifest.agent_uid == uid and manifest.number in known
            info = known[manifest.number] if own else await self._store.head(ref)
            size = info.size if info is not None else 0
            links.append(SnapshotLink(ref=ref, number=manifest.number, kind=manifest.kind, manifest_bytes=size))
            # A chain that does not end is refused where the state is read.
            if manifest.kind == "full" or manifest.parent is None or len(links) > top.depth:
                return links
            ref = manifest.parent
            manifest, _ = await chain.manifest(ref)

    async def _packs(self, state: State, new: set[str]) -> tuple[SnapshotPack, ...]:
        live = {digest for entry in state.entries.values() for digest in entry.chunks}
        used: defaultdict[str, int] = defaultdict(int)
        for pack, _, stored, _ in {state.chunks[digest].frame for digest in live}:
            used[pack] += stored
        sizes: dict[str, int] = {}
        for prefix in {pack.rpartition("/")[0] + "/" for pack in used}:
            sizes |= {info.key: info.size async for info in self._store.list(prefix) if info.key in used}
        packs = [SnapshotPack(key=key, size=sizes.get(key), used=used[key], new=key in new) for key in used]
        return tuple(sorted(packs, key=lambda pack: (-pack.used, pack.key)))


def _summary(info: ObjectInfo, found: Manifest, newest: str | None, names: dict[str, list[str]]) -> SnapshotSummary:
    told = found.statistics
    return SnapshotSummary(
        number=found.number,
        ref=info.key,
        newest=info.key == newest,
        names=tuple(names.get(info.key, ())),
        manifest_bytes=info.size,
        created=_moment(found.created),
        generation=found.generation,
        parent=found.parent,
        kind=found.kind,
        depth=found.depth,
        capture=found.capture,
        image=found.image,
        added=told.added,
        changed=told.changed,
        deleted=told.deleted,
        skipped=told.skipped,
        files=told.files_total,
        bytes_new=told.packs_stored + info.size,
        bytes_total=told.bytes_total,
        duration_ms=told.duration_ms,
    )


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


async def _batches(items: Iterator[_Item]) -> AsyncIterator[list[_Item]]:
    """Some items at a time, made in a thread: a snapshot may have a million paths."""
    while batch := await asyncio.to_thread(_some, items):
        yield batch


def _some(items: Iterator[_Item]) -> list[_Item]:
    return list(islice(items, _BATCH))
