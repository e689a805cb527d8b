"""What agents offer each other, in a local database that may be thrown away: it is made again from the store.

What is found here is a hint. Whoever acts on it sees that the pack is there and not condemned before it names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import struct
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from activities.errors import ObjectNotFound, SnapshotDamaged, SnapshotSealed
from activities.snapshots.layout import INDEXES
from activities.snapshots.offers import Offer, decode
from activities.snapshots.packs import Location
from activities.snapshots.scratch import Scratch
from activities.snapshots.sealing import key_of
from activities.snapshots.tables import locations
from activities.snapshots.timing import TIMING, Stopwatch, Timing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from activities.ports.store import ObjectInfo, ObjectStore
    from activities.snapshots.sealing import Sealer

_FRESH = timedelta(minutes=1)
_PARALLEL = 4
_MOST_BYTES = 512 << 20
"""Of offers in the store: of more, the newest are taken."""
_FILTER = struct.Struct("<II")
_FILTER_BYTES = 4 << 20
_SCHEMA = """
CREATE TABLE IF NOT EXISTS offers (id INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, etag TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS packs (id INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS chunks (
    digest BLOB NOT NULL, offer INTEGER NOT NULL, pack INTEGER NOT NULL, place INTEGER NOT NULL,
    stored INTEGER NOT NULL, plain INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (digest, offer)
) WITHOUT ROWID;
"""


class OfferCache:
    """The offers of one store, as this host knows them. `find` may be called from any thread."""

    def __init__(self, store: ObjectStore, sealer: Sealer, folder: Path | None = None, timing: Timing = TIMING) -> None:
        """Keep the database in a folder; None: in memory."""
        self._store = store
        self._sealer = sealer
        self._timing = timing
        # Of each key another one: what was found with one key is not for who seals with another.
        file = folder / f"chunks-{sealer.key_id or 'plain'}.sqlite" if folder is not None else None
        self._scratch = Scratch(file, _SCHEMA)
        self._lock = threading.Lock()
        self._syncing = asyncio.Lock()
        self._synced: Stopwatch | None = None
        self._banned: set[str] = set()
        self._maybe = _Filter()
        self._learnt: set[str] = set()

    async def sync(self) -> None:
        """Take up what is offered now, unless that was done a moment ago."""
        async with self._syncing:
            if self._synced is not None and self._synced.elapsed() < _FRESH:
                return
            begun = self._timing.start()
            infos = [info async for info in self._store.list(INDEXES)]
            there = {info.key: info.etag for info in _newest(infos)}
            known = await asyncio.to_thread(self._drop_others, there)
            await asyncio.to_thread(self._take_up, known)
            slots = asyncio.Semaphore(_PARALLEL)

            async def add(key: str) -> None:
                async with slots:
                    # One that is sealed with a key not known here is asked for again.
                    with contextlib.suppress(SnapshotSealed):
                        offer = await self._read(key)
                        await asyncio.to_thread(self._add, key, there[key], offer)

            await asyncio.gather(*(add(key) for key in there if key not in known))
            self._synced = begun

    def find(self, digest: bytes, length: int) -> Location | None:
        """Return where somebody stored a chunk."""
        if digest not in self._maybe:
            return None
        with self._lock, contextlib.suppress(sqlite3.DatabaseError):
            rows = self._scratch.open().execute(
                "SELECT packs.key, place, stored, plain, start, length FROM chunks JOIN packs ON packs.id = pack "
                "WHERE digest = ?",
                (digest,),
            )
            for row in rows:
                found = Location(*row)
                if found.length == length and found.pack not in self._banned:
                    return found
        return None

    def ban(self, pack: str) -> None:
        """Do not find chunks in this pack any more: it is gone."""
        self._banned.add(pack)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._scratch.close()

    async def _read(self, key: str) -> Offer | None:
        try:
            data = await self._store.get(key)
            if key_of(data) != self._sealer.key_id:
                # Whoever seals stores nothing new as plain text, nor under a key that was given up.
                return None
            return await asyncio.to_thread(decode, data, key, self._sealer)
        except (ObjectNotFound, SnapshotDamaged):
            return None

    def _drop_others(self, there: dict[str, str]) -> set[str]:
        """Drop what is no longer offered as it was; return the keys of what is known."""
        with self._lock:
            try:
                return self._drop(self._scratch.open(), there)
            except sqlite3.DatabaseError:
                self._scratch.throw_away()
                return self._drop(self._scratch.open(), there)

    def _drop(self, database: sqlite3.Connection, there: dict[str, str]) -> set[str]:
        known: set[str] = set()
        with database:
            for number, key, etag in database.execute("SELECT id, key, etag FROM offers").fetchall():
                if there.get(key) == etag:
                    known.add(key)
                else:
                    database.execute("DELETE FROM chunks WHERE offer = ?", (number,))
                    database.execute("DELETE FROM offers WHERE id = ?", (number,))
        return known

    def _take_up(self, known: set[str]) -> None:
        """Learn what is in the database and was not written by this worker."""
        if known <= self._learnt:
            return
        with self._lock, contextlib.suppress(sqlite3.DatabaseError):
            self._maybe.add(digest for (digest,) in self._scratch.open().execute("SELECT digest FROM chunks"))
            self._learnt |= known

    def _add(self, key: str, etag: str, offer: Offer | None) -> None:
        with self._lock, contextlib.suppress(sqlite3.DatabaseError), self._scratch.open() as database:
            # Another worker of this host may have been first.
            database.execute("INSERT OR IGNORE INTO offers (key, etag) VALUES (?, ?)", (key, etag))
            if offer is None:
                return
            (number,) = database.execute("SELECT id FROM offers WHERE key = ?", (key,)).fetchone()
            packs: dict[str, int] = {}
            for pack in offer.packs:
                database.execute("INSERT OR IGNORE INTO packs (key) VALUES (?)", (pack,))
                (packs[pack],) = database.execute("SELECT id FROM packs WHERE key = ?", (pack,)).fetchone()
            chunks = locations(offer)
            database.executemany(
                "INSERT OR IGNORE INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                ((digest, number, packs[place.pack], *place[1:]) for digest, place in chunks.items()),
            )
            self._maybe.add(chunks)
            self._learnt.add(key)


class _Filter:
    """Tells of most digests that are not known that they are not, without a look into the database.

    Two bits of a bit field stand for a digest, which is as good as random: of a million, a third of a percent of others
    are taken for known.
    """

    def __init__(self) -> None:
        self._bits = bytearray(_FILTER_BYTES)

    def __contains__(self, digest: bytes) -> bool:
        one, two = _FILTER.unpack_from(digest)
        return self._has(one) and self._has(two)

    def add(self, digests: Iterable[bytes]) -> None:
        bits = self._bits
        for digest in digests:
            for number in _FILTER.unpack_from(digest):
                bits[(number >> 3) % _FILTER_BYTES] |= 1 << (number & 7)

    def _has(self, number: int) -> bool:
        return bool(self._bits[(number >> 3) % _FILTER_BYTES] & (1 << (number & 7)))


def _newest(infos: Iterable[ObjectInfo]) -> list[ObjectInfo]:
    taken: list[ObjectInfo] = []
    room = _MOST_BYTES
    for info in sorted(infos, key=lambda info: info.modified, reverse=True):
        room -= info.size
        if room < 0:
            break
        taken.append(info)
    return taken
