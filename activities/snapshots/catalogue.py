"""What upkeep has to know of manifests and offers, kept in a local database that may be thrown away.

Both are written once: what was read under a key and an ETag holds for as long as the store shows that ETag.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import threading
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from activities.errors import ObjectNotFound, SnapshotDamaged, SnapshotError, SnapshotNotFound
from activities.snapshots import layout, offers
from activities.snapshots.chain import ChainReader
from activities.snapshots.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path
    from typing import Any

    from activities.ports.store import ObjectInfo, ObjectStore
    from activities.snapshots.sealing import Sealer

_PARALLEL = 8
_SCHEMA = "CREATE TABLE IF NOT EXISTS said (key TEXT PRIMARY KEY, etag TEXT NOT NULL, said BLOB NOT NULL)"


class Card(NamedTuple):
    """What a manifest says, but for its files."""

    number: int
    created: datetime
    depth: int
    base: str | None
    """The manifest it applies to; None: it is full."""
    packs: tuple[str, ...]
    parent: str | None
    """The snapshot before it."""


class Read(NamedTuple):
    """Manifests that were there."""

    cards: dict[str, Card]
    unreadable: dict[str, SnapshotError]


class Catalogue:
    """Reads manifests and offers of one store, each once."""

    def __init__(self, store: ObjectStore, sealer: Sealer, folder: Path | None = None) -> None:
        """Keep the database in a folder; None: in memory."""
        self._store = store
        self._sealer = sealer
        file = folder / "catalogue.sqlite" if folder is not None else None
        self._scratch = Scratch(file, _SCHEMA)
        self._lock = threading.Lock()

    async def manifests(self, infos: Iterable[ObjectInfo]) -> Read:
        """Return what manifests say; those that vanish meanwhile are left out."""
        read = Read({}, {})

        async def one(info: ObjectInfo) -> None:
            try:
                said = await self._said(info, self._read_manifest)
            except SnapshotError as error:
                read.unreadable[info.key] = error
                return
            if said is not None:
                number, created, depth, is_full, parent, packs = said
                base = None if is_full else parent
                read.cards[info.key] = Card(number, datetime.fromisoformat(created), depth, base, tuple(packs), parent)

        await _each(infos, one)
        return read

    async def offered(self, infos: Iterable[ObjectInfo]) -> dict[str, list[str]]:
        """Return the packs that offers name, by the offers' keys; those that cannot be read are left out."""
        found: dict[str, list[str]] = {}

        async def one(info: ObjectInfo) -> None:
            with contextlib.suppress(SnapshotError):
                said = await self._said(info, self._read_offer)
                if said is not None:
                    found[info.key] = said

        await _each(infos, one)
        return found

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._scratch.close()

    async def _said(self, info: ObjectInfo, read: Callable[[str], Awaitable[Any]]) -> Any | None:  # noqa: ANN401 - JSON
        known = await asyncio.to_thread(self._look_up, info)
        if known is not None:
            return known
        try:
            said = await read(info.key)
        except (ObjectNotFound, SnapshotNotFound):
            return None
        await asyncio.to_thread(self._write_down, info, said)
        return said

    async def _read_manifest(self, ref: str) -> list[Any]:
        found, _ = await ChainReader(self._store, sealer=self._sealer).manifest(ref)
        if not all(layout.is_pack_key(pack) for pack in found.packs):
            msg = f"The manifest {ref} names a pack that is none."
            raise SnapshotDamaged(msg)
        created = _moment(found.created, ref).isoformat()
        return [found.number, created, found.depth, found.kind == "full", found.parent, found.packs]

    async def _read_offer(self, key: str) -> list[str]:
        data = await self._store.get(key)
        return (await asyncio.to_thread(offers.decode, data, key, self._sealer)).packs

    def _look_up(self, info: ObjectInfo) -> Any | None:  # noqa: ANN401 - JSON
        with self._lock, contextlib.suppress(sqlite3.DatabaseError, ValueError, zstandard.ZstdError):
            row = self._scratch.open().execute("SELECT etag, said FROM said WHERE key = ?", (info.key,)).fetchone()
            if row is not None and row[0] == info.etag:
                key, etag, said = json.loads(zstandard.ZstdDecompressor().decompress(row[1]))
                # What is deleted depends on it: a database that was mixed up is not believed.
                return said if (key, etag) == (info.key, info.etag) else None
        return None

    def _write_down(self, info: ObjectInfo, said: Any) -> None:  # noqa: ANN401 - JSON
        text = json.dumps([info.key, info.etag, said])
        packed = zstandard.ZstdCompressor(write_checksum=True).compress(text.encode())
        with self._lock:
            try:
                with self._scratch.open() as database:
                    database.execute("INSERT OR REPLACE INTO said VALUES (?, ?, ?)", (info.key, info.etag, packed))
            except sqlite3.DatabaseError:
                self._scratch.throw_away()


async def _each(infos: Iterable[ObjectInfo], work: Callable[[ObjectInfo], Awaitable[None]]) -> None:
    slots = asyncio.Semaphore(_PARALLEL)

    async def one(info: ObjectInfo) -> None:
        async with slots:
            await work(info)

    await asyncio.gather(*(one(info) for info in infos))


def _moment(text: str, ref: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        msg = f"The manifest {ref} has no time of creation that can be read."
        raise SnapshotDamaged(msg)
    return found
