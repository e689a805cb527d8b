"""What a writer does before it names packs of other agents, so that no collection deletes them under its hands.

It looks at the condemned list, stores anew what lies in condemned packs, sees that the others exist, and writes its
manifest within a limit that is shorter than the grace. A pack that is condemned after that look is deleted only once
the grace is over, after another look at all manifests, and this one is among them by then. A pack that was on its way
out before the look was on the list, or is gone.

What a deletion overwrites in packs waits for no grace (`rewriting.py`). So the list is looked at once more when the
manifest is written: who rewrites a pack is on it before he looks at manifests, so one of the two sees the other.

Packs of the agent's own need no look: those written for the very snapshot are too young to be condemned, and the others
are named by manifests that stand until the new one does (`head.py`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from activities.errors import ObjectNotFound, SnapshotConflict, SnapshotDamaged, SnapshotOvertaken
from activities.snapshots import layout
from activities.snapshots.chunking import digest_of
from activities.snapshots.packs import PackWriter, open_frame
from activities.snapshots.tables import locations
from activities.snapshots.threads import Uploads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from activities.ports.store import ObjectStore
    from activities.snapshots.capture import Control
    from activities.snapshots.condemned import Condemned, Sentence
    from activities.snapshots.manifest import Manifest
    from activities.snapshots.packs import Location
    from activities.snapshots.sealing import Sealer
    from activities.snapshots.timing import Stopwatch, Timing

_PARALLEL = 8


def _nobody(_: str) -> None:
    """Nobody is to know."""


class Anew(NamedTuple):
    """How chunks of condemned packs are stored anew, and who is to know of packs that are gone."""

    prefix: str
    """Of the keys of packs."""
    level: int
    salt: bytes
    control: Control
    ban: Callable[[str], None] = _nobody


class Admitted(NamedTuple):
    """Chunks that may be named for some time."""

    chunks: dict[bytes, Location]
    watch: Stopwatch
    """Since the look at the condemned list."""
    stored_bytes: int
    """Of packs that were written anew."""


class Guard:
    """Lets chunks of others into a manifest."""

    def __init__(self, store: ObjectStore, condemned: Condemned, timing: Timing, sealer: Sealer) -> None:
        self._store = store
        self._condemned = condemned
        self._timing = timing
        self._sealer = sealer

    async def admit(self, chunks: Mapping[bytes, Location], anew: Anew, *, look_for: bool = True) -> Admitted:
        """Return where the chunks lie in packs that may be named now.

        Args:
            chunks: Of others.
            anew: Where to store what lies in condemned packs.
            look_for: See that the packs exist; without it somebody else must prove that afterwards.

        Raises:
            SnapshotOvertaken: A pack is gone.
            SnapshotDamaged: A condemned pack holds something else.
        """
        found = dict(chunks)
        own: set[str] = set()
        stored_bytes = 0
        while True:
            watch = self._timing.start()
            listed = (await self._condemned.look()).packs
            doomed = {digest: place for digest, place in found.items() if place.pack in listed}
            if not doomed:
                break
            places, stored = await self._store_anew(doomed, anew, listed)
            found.update(places)
            own.update(place.pack for place in places.values())
            stored_bytes += stored
        if look_for:
            packs = {place.pack for place in found.values()} - own
            if gone := await self._missing(packs):
                for pack in gone:
                    anew.ban(pack)
                msg = f"The pack {gone[0]} is gone, which was to be named: take the snapshot again."
                raise SnapshotOvertaken(msg)
        return Admitted(found, watch, stored_bytes)

    async def confirm(self, manifest: Manifest, *, late: bool) -> None:
        """See, once the manifest is written, that what it names is there and stays.

        Args:
            manifest: That was written.
            late: It may have been written so late that packs are gone or condemned.

        Raises:
            SnapshotOvertaken: A pack is condemned, or just being rewritten: the manifest may have been seen, or not.
            SnapshotConflict: Something is gone, and the snapshot of this number never was whole.
        """
        ref = layout.manifest_key(manifest.agent_uid, manifest.number)
        now = self._timing.now()
        sentences = (await self._condemned.look()).packs
        named = {pack: sentences[pack] for pack in sorted(manifest.packs) if pack in sentences}
        for pack, sentence in named.items():
            if sentence.being_rewritten(now, self._timing.longest):
                msg = f"The snapshot {ref} names the pack {pack}, which is just being rewritten; try again."
                raise SnapshotOvertaken(msg)
            if late and not self._stays(sentence, now):
                msg = f"The snapshot {ref} names the pack {pack}, which may be deleted; try again later."
                raise SnapshotOvertaken(msg)
        if late and (gone := await self._missing(manifest.packs)):
            raise _never_whole(ref, gone[0], "deleted")
        # What was rewritten long before is on the list no more.
        suspects = {pack for pack, sentence in named.items() if sentence.rewritten is not None}
        if now - _created(manifest) > self._timing.longest:
            suspects |= {pack for pack in manifest.packs if layout.owner_of(pack) != manifest.agent_uid}
        await self._read(manifest, suspects, ref)

    def _stays(self, sentence: Sentence, now: datetime) -> bool:
        """Tell whether any pass that deletes it would see what is in the store by now."""
        if sentence.rewritten is None or sentence.sweeping:
            return False
        return sentence.since is None or now < sentence.since + self._timing.grace - self._timing.longest

    async def _read(self, manifest: Manifest, packs: set[str], ref: str) -> None:
        """Read what a manifest names in packs that were rewritten."""
        if not packs:
            return
        frames = _by_frame({digest: place for digest, place in locations(manifest).items() if place.pack in packs})
        for (pack, offset, stored, plain), wanted in sorted(frames.items()):
            try:
                data = await self._store.get_range(pack, offset, stored)
                content = await asyncio.to_thread(open_frame, data, plain, self._sealer)
            except (ObjectNotFound, SnapshotDamaged):
                raise _never_whole(ref, pack, "rewritten") from None
            if any(digest_of(_chunk(content, place)) != digest for digest, place in wanted):
                raise _never_whole(ref, pack, "rewritten")

    async def _missing(self, packs: Iterable[str]) -> list[str]:
        slots = asyncio.Semaphore(_PARALLEL)

        async def look(pack: str) -> str | None:
            async with slots:
                return pack if await self._store.head(pack) is None else None

        found = await asyncio.gather(*(look(pack) for pack in sorted(packs)))
        return [pack for pack in found if pack is not None]

    async def _store_anew(
        self, chunks: Mapping[bytes, Location], anew: Anew, listed: Mapping[str, Sentence]
    ) -> tuple[dict[bytes, Location], int]:
        uploads = Uploads(self._store, anew.control)
        writer = PackWriter((), anew.prefix, uploads.put, level=anew.level, sealer=self._sealer, salt=anew.salt)
        try:
            for (pack, offset, stored, plain), wanted in sorted(_by_frame(chunks).items()):
                try:
                    data = await self._store.get_range(pack, offset, stored)
                    await asyncio.to_thread(self._copy, writer, data, plain, wanted)
                except (ObjectNotFound, SnapshotDamaged) as error:
                    sentence = listed[pack]
                    if isinstance(error, SnapshotDamaged) and not (sentence.rewriters or sentence.rewritten):
                        raise
                    anew.ban(pack)
                    msg = f"The pack {pack} was deleted before its content was stored anew: take the snapshot again."
                    raise SnapshotOvertaken(msg) from None
            places = await asyncio.to_thread(writer.finish)
            await uploads.finish()
        except BaseException:
            uploads.abandon()
            await uploads.finish()
            raise
        finally:
            writer.close()
        return places, writer.stored_bytes

    def _copy(self, writer: PackWriter, stored: bytes, plain: int, wanted: list[tuple[bytes, Location]]) -> None:
        content = open_frame(stored, plain, self._sealer)
        chunks = [_chunk(content, place) for _, place in wanted]
        for chunk, (digest, place) in zip(chunks, wanted, strict=True):
            if digest_of(chunk) != digest:
                msg = f"A chunk in the pack {place.pack} does not match its digest."
                raise SnapshotDamaged(msg)
        for chunk in chunks:
            writer.add_chunk(chunk)


def _by_frame(
    chunks: Mapping[bytes, Location],
) -> dict[tuple[str, int, int, int], list[tuple[bytes, Location]]]:
    frames: defaultdict[tuple[str, int, int, int], list[tuple[bytes, Location]]] = defaultdict(list)
    for digest, place in chunks.items():
        frames[place.frame].append((digest, place))
    return frames


def _chunk(content: bytes, place: Location) -> bytes:
    return content[place.start : place.start + place.length]


def _created(manifest: Manifest) -> datetime:
    """When the writer looked at the list, about."""
    return datetime.fromisoformat(manifest.created)


def _never_whole(ref: str, pack: str, what: str) -> SnapshotConflict:
    msg = f"The snapshot {ref} took so long that the pack {pack} was {what} meanwhile: take it under the next number."
    return SnapshotConflict(msg)
