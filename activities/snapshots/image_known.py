"""What the store holds of images already: chunks that need no storing again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from activities.errors import ObjectNotFound, SnapshotError
from activities.snapshots.image_format import IMAGES, PACKS, ImageManifest, decode_manifest, pack_of, parse_key
from activities.snapshots.image_packs import read_table
from activities.snapshots.sealing import PLAIN, Sealer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activities.ports.store import ObjectInfo, ObjectStore
    from activities.snapshots.image_format import Place

BORROWED_FOR = timedelta(hours=12)
"""A pack that no manifest names is used while it is younger: an attempt that died has left it, or one that lives."""
KEEPING_LIMIT = timedelta(hours=6)
"""Between the look at the store and the manifest."""
LEFTOVER_AGE = timedelta(hours=24)
"""Packs that nobody names are removed when they are older; longer than both of the above together."""
MOST_CHUNKS = 100_000
"""Of other images, looked at and remembered: some 35 MB, and some 25 GB of images."""


@dataclass(frozen=True, slots=True)
class Known:
    """What one look at the store has found."""

    at: datetime
    places: Mapping[bytes, Place]

    @property
    def is_stale(self) -> bool:
        """Whether packs that were found may be gone meanwhile."""
        return datetime.now(UTC) - self.at > KEEPING_LIMIT


class Tables:
    """Looks at the store, and remembers the tables it has read: they never change. It may be thrown away any time."""

    def __init__(self, store: ObjectStore, sealer: Sealer = PLAIN) -> None:
        self._store = store
        self._sealer = sealer
        self._tables: dict[tuple[str, str], dict[bytes, Place]] = {}

    async def look(self) -> Known:
        """Find every chunk that lies in a pack of images: of the newest images first, up to `MOST_CHUNKS`."""
        at = datetime.now(UTC)
        manifests: list[ObjectInfo] = []
        packs: dict[str, ObjectInfo] = {}
        async for info in self._store.list(IMAGES):
            found = parse_key(info.key)
            digest = pack_of(info.key)
            if digest is not None:
                packs[digest] = info
            elif found is not None and found.kind == "manifest":
                manifests.append(info)
        manifests.sort(key=lambda info: info.modified, reverse=True)
        used: dict[tuple[str, str], dict[bytes, Place]] = {}
        places: dict[bytes, Place] = {}
        named: set[str] = set()
        for info in [*manifests, *_young(packs, at)]:
            digest = pack_of(info.key)
            # Half of the room is for what an attempt that died has left.
            if digest in named or len(places) >= (MOST_CHUNKS // 2 if digest is None else MOST_CHUNKS):
                continue
            table = used[info.key, info.etag] = await self._table(info)
            named |= {place.pack for place in table.values()}
            # What a manifest names may be gone: somebody has removed a damaged pack.
            places |= {digest: place for digest, place in table.items() if place.pack in packs}
        self._tables = used
        return Known(at, places)

    async def _table(self, info: ObjectInfo) -> dict[bytes, Place]:
        remembered = self._tables.get((info.key, info.etag))
        if remembered is not None:
            return remembered
        try:
            if info.key.startswith(PACKS):
                return await read_table(self._store, info, self._sealer)
            found = parse_key(info.key)
            data = await self._store.get(info.key)
            manifest = await asyncio.to_thread(decode_manifest, data, found.image_id if found else "", self._sealer)
        except (SnapshotError, ObjectNotFound):
            # It is of no use to us; who needs it will say what is wrong with it.
            return {}
        return manifest.places() if isinstance(manifest, ImageManifest) else {}


async def packs_present(store: ObjectStore) -> set[str]:
    """The names of all packs of images that the store holds."""
    return {digest async for info in store.list(PACKS) if (digest := pack_of(info.key)) is not None}


def _young(packs: Mapping[str, ObjectInfo], at: datetime) -> list[ObjectInfo]:
    """Packs that may be used though no manifest names them."""
    return [info for info in packs.values() if at - info.modified < BORROWED_FOR]
