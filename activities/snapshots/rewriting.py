"""Rewrites what a deleted agent's packs hold: what nobody needs in them is overwritten, at once and without a grace.

Packs that others need a part of stay under their keys, cut down to that part (`cutting.py`); those that nobody needs
become empty, and the collection deletes them. What it rests on:

- Who rewrites a pack is on the condemned list before he looks at any manifest. A writer that looked at the list before
  looks again when its manifest is written: either he finds the manifest, or the writer finds him, waits until he is
  done, and reads what it named (`guard.py`). Who looks at the list later stores anew what lies in the pack.
- He gives up when it takes him longer than a writer waits, and writes a pack only over the one that he read.
- A pack stays on the list for a grace after that, so that everybody who had not looked again by then finds it.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, NamedTuple

from activities.errors import (
    ObjectNotFound,
    PreconditionFailed,
    SnapshotDamaged,
    SnapshotOvertaken,
    SnapshotSealed,
)
from activities.snapshots import layout
from activities.snapshots.condemned import Condemned, Sentence
from activities.snapshots.cutting import cut
from activities.snapshots.needs import Needing
from activities.snapshots.survey import listed
from activities.snapshots.timing import TIMING
from hibernaut.contracts import StoreKeys
from hibernaut.models.deletion import Amount, Borrower, RetainedPack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activities.ports.snapshots import Progress
    from activities.ports.store import ObjectStore
    from activities.snapshots.catalogue import Catalogue
    from activities.snapshots.needs import Needs
    from activities.snapshots.packs import Location
    from activities.snapshots.sealing import Sealer
    from activities.snapshots.timing import Stopwatch, Timing

_AT_ONCE = 5_000
"""Packs that are on the list together: writers read it whole."""
_TRIES = 10


class Kept(NamedTuple):
    """What there is of a deleted agent's packs."""

    packs: tuple[RetainedPack, ...] = ()
    """Those that others need a part of."""
    idle: int = 0
    """Packs that nobody needs: the collection deletes them."""
    idle_bytes: int = 0
    rewritten: Amount = Amount()
    """Packs in which something was overwritten; bytes as stored before, less those after."""
    whole: int = 0
    """Packs that could not be rewritten: what they hold is not known here, or what others need of them."""
    unreadable: int = 0
    """Manifests of others that may need any of them."""

    def plus(self, more: Kept) -> Kept:
        """Return both."""
        rewritten = Amount(
            objects=self.rewritten.objects + more.rewritten.objects, bytes=self.rewritten.bytes + more.rewritten.bytes
        )
        return Kept(
            (*self.packs, *more.packs),
            self.idle + more.idle,
            self.idle_bytes + more.idle_bytes,
            rewritten,
            self.whole + more.whole,
            max(self.unreadable, more.unreadable),
        )


class _Done(NamedTuple):
    """One pack."""

    before: int
    after: int
    rewritten: bool
    whole: bool = False


class Rewriting:
    """Rewrites packs of one store."""

    def __init__(self, store: ObjectStore, catalogue: Catalogue, sealer: Sealer, timing: Timing = TIMING) -> None:
        """Use this store; `timing` is what its writers go by."""
        self._store = store
        self._catalogue = catalogue
        self._sealer = sealer
        self._timing = timing
        self._condemned = Condemned(store)
        self._needing = Needing(store, catalogue, sealer)

    async def inherited(self, agent_uid: str) -> tuple[str, ...]:
        """Return the packs of agents that are gone which an agent's snapshots name; ask before it is deleted."""
        _, read = await listed(self._store, self._catalogue, agent_uid, layout.manifests_prefix(agent_uid))
        named = {pack for card in read.cards.values() for pack in card.packs}
        owners = {layout.owner_of(pack) for pack in named} - {agent_uid}
        gone = {uid for uid in owners if await self._store.head(StoreKeys.head(uid)) is None}
        return tuple(sorted(pack for pack in named if layout.owner_of(pack) in gone))

    async def rewrite(self, agent_uid: str, inherited: Sequence[str], progress: Progress) -> Kept:
        """Overwrite what nobody needs any more; again is harmless.

        Args:
            agent_uid: Of an agent whose manifests are deleted.
            inherited: See there.
            progress: Told what is going on.

        Raises:
            SnapshotOvertaken: It takes too long.
            StoreUnavailable: The store changes all the time.
        """
        prefix = layout.packs_prefix(agent_uid)
        own = [info.key async for info in self._store.list(prefix)]
        others = [key for key in inherited if layout.is_pack_key(key) and not key.startswith(prefix)]
        packs, kept = [*own, *others], Kept()
        for start in range(0, len(packs), _AT_ONCE):
            kept = kept.plus(await self._batch(packs[start : start + _AT_ONCE], agent_uid, progress))
        return kept

    async def _batch(self, packs: Sequence[str], agent_uid: str, progress: Progress) -> Kept:
        token, watch = uuid.uuid4().hex, self._timing.start()
        await self._condemned.change(lambda found: self._begun(found, packs, token))
        done: dict[str, _Done] = {}
        try:
            needs = await self._needing.look(set(packs), agent_uid, progress)
            for at, pack in enumerate(packs):
                progress(f"rewriting what is left, pack {at + 1} of {len(packs)}")
                # Nobody knows what a manifest needs that cannot be read.
                needed = None if needs.unreadable else needs.of(pack)
                if (found := await self._pack(pack, needed, watch)) is not None:
                    done[pack] = found
        finally:
            await self._condemned.change(lambda found: self._ended(found, packs, token, done))
        return _told({key: one for key, one in done.items() if layout.owner_of(key) == agent_uid}, done, needs)

    def _begun(self, found: dict[str, Sentence], packs: Sequence[str], token: str) -> dict[str, Sentence]:
        now = self._timing.now()
        for pack in packs:
            sentence = found.get(pack, Sentence())
            live = {who: since for who, since in sentence.rewriters.items() if now - since < self._timing.longest}
            found[pack] = sentence.model_copy(update={"rewriters": {**live, token: now}})
        return found

    def _ended(
        self, found: dict[str, Sentence], packs: Sequence[str], token: str, done: dict[str, _Done]
    ) -> dict[str, Sentence]:
        now = self._timing.now()
        for pack in packs:
            sentence = found.get(pack)
            if sentence is None:
                continue
            left = {who: since for who, since in sentence.rewriters.items() if who != token}
            one = done.get(pack)
            rewritten = now if one is not None and one.rewritten else sentence.rewritten
            after = sentence.model_copy(update={"rewriters": left, "rewritten": rewritten})
            if after == Sentence():
                del found[pack]
            else:
                found[pack] = after
        return found

    async def _pack(self, pack: str, needed: set[Location] | None, watch: Stopwatch) -> _Done | None:
        """Rewrite one pack; None when it is gone."""
        for _ in range(_TRIES):
            info = await self._store.head(pack)
            if info is None:
                return None
            if needed is None:
                return _Done(info.size, info.size, rewritten=False, whole=True)
            try:
                data = await self._store.get(pack)
                after = await asyncio.to_thread(cut, data, needed, self._sealer)
            except ObjectNotFound:
                return None
            except (SnapshotDamaged, SnapshotSealed):
                return _Done(info.size, info.size, rewritten=False, whole=True)
            if after == data:
                return _Done(len(data), len(data), rewritten=False)
            if 2 * watch.elapsed() > self._timing.longest:
                msg = "Rewriting what is left of an agent takes too long: what others need has to be looked at again."
                raise SnapshotOvertaken(msg)
            try:
                await self._store.replace(pack, after, if_match=info.etag)
            except PreconditionFailed:
                continue
            return _Done(len(data), len(after), rewritten=True)
        msg = f"The pack {pack} changes each time it is to be rewritten; try again."
        raise SnapshotOvertaken(msg)


def _told(own: dict[str, _Done], done: dict[str, _Done], needs: Needs) -> Kept:
    needed = {pack: one for pack, one in own.items() if one.whole or needs.of(pack)}
    idle = [one for pack, one in own.items() if pack not in needed]
    rewritten = [one for one in done.values() if one.rewritten]
    return Kept(
        packs=tuple(
            RetainedPack(
                pack=pack.rpartition("/")[2],
                bytes=one.after,
                whole=one.whole,
                needed_by=tuple(
                    Borrower(
                        agent_uid=uid,
                        chunks=len(places),
                        bytes=sum(place.length for place in places),
                        fork=uid in needs.forks,
                    )
                    for uid, places in sorted(needs.places[pack].items())
                ),
            )
            for pack, one in sorted(needed.items())
        ),
        idle=len(idle),
        idle_bytes=sum(one.after for one in idle),
        rewritten=Amount(objects=len(rewritten), bytes=sum(one.before - one.after for one in rewritten)),
        whole=sum(one.whole for one in done.values()),
        unreadable=needs.unreadable,
    )
