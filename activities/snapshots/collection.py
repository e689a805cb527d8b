"""The collection: packs that no manifest names are condemned, and deleted when nothing has named them for a grace.

A pass may run beside writers, forks, deletions and other passes. What it rests on:

- A pack is condemned only when it is older than any snapshot that may still come to name it as its own.
- Its time on the list begins when the list is known to be written. So a writer that did not find it there has its
  manifest in the store before the grace is over (`guard.py`).
- Everything is listed again after the grace, by this pass. What is unnamed then stays so: whoever looks finds it on the
  list, and keys are not written twice (`Timing.same_packs`).
- Before a pack is deleted the list says that it is being deleted; a pass that would release it finds that the list has
  changed. It leaves the list only after it is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from activities.errors import ObjectNotFound, PreconditionFailed
from activities.ports.upkeep import CollectReport
from activities.snapshots import offers
from activities.snapshots.condemned import Condemned, Sentence
from activities.snapshots.layout import INDEXES
from activities.snapshots.sealing import key_of
from activities.snapshots.survey import Surveyor

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from activities.ports.snapshots import Progress
    from activities.ports.store import ObjectInfo, ObjectStore
    from activities.snapshots.catalogue import Catalogue
    from activities.snapshots.sealing import Sealer
    from activities.snapshots.survey import Survey
    from activities.snapshots.timing import Timing

MOST_DELETED = 20_000
"""Packs that one pass deletes."""
MOST_CONDEMNED = 20_000
"""Packs on the list at once: writers read it whole."""
_BATCH = 500


class _Verdict(NamedTuple):
    """What a pass found about packs that are or come onto the list."""

    condemned: set[str]
    released: set[str]
    needed: set[str]
    """Not released, though something names them: what nobody needs in them was overwritten not long ago."""
    gone: set[str]
    due: set[str]
    more: bool


class Collection:
    """Makes passes over one store."""

    def __init__(self, store: ObjectStore, catalogue: Catalogue, sealer: Sealer, timing: Timing) -> None:
        self._store = store
        self._catalogue = catalogue
        self._sealer = sealer
        self._timing = timing
        self._condemned = Condemned(store)

    async def run(self, progress: Progress) -> CollectReport:
        """See `Upkeep.collect`."""
        # What is due is due before anything is listed: every manifest that may name it is in the store by now.
        now = self._timing.now()
        listed = (await self._condemned.look()).packs
        offered = {info.key: info async for info in self._store.list(INDEXES)}
        tables = await self._catalogue.offered(offered.values())
        asked = {*listed, *(pack for packs in tables.values() for pack in packs)}
        survey = await Surveyor(self._store, self._catalogue, progress).look(asked, now - self._timing.minimum_age)
        verdict = self._judge(listed, survey, now)
        on_list = ({*listed} | verdict.condemned) - verdict.released
        await self._withdraw(offered, tables, on_list, survey)
        after = await self._condemned.change(lambda packs: _apply(packs, verdict, listed, now))
        after = await self._condemned.change(self._stamp)
        doomed = sorted(key for key in verdict.due if key in after and after[key].sweeping)
        swept = await self._sweep(doomed, progress)
        await self._store.delete(survey.empty)
        return CollectReport(
            condemned=len(verdict.condemned),
            released=len(verdict.released),
            swept=swept,
            bytes_swept=sum(survey.unnamed[key].size for key in doomed),
            packs_seen=survey.packs,
            bytes_seen=survey.bytes,
            manifests_seen=survey.manifests,
            waiting=len(after) - swept,
            more=verdict.more,
            unreadable=tuple(sorted(survey.unreadable)),
        )

    def _judge(self, listed: dict[str, Sentence], survey: Survey, now: datetime) -> _Verdict:
        old = now - self._timing.minimum_age
        fresh = [key for key, pack in survey.unnamed.items() if key not in listed and pack.modified < old]
        fresh.sort(key=lambda key: survey.unnamed[key].modified)
        room = max(0, MOST_CONDEMNED - len(listed))
        due = [
            key
            for key, sentence in listed.items()
            if key in survey.unnamed
            and not sentence.being_rewritten(now, self._timing.longest)
            and (sentence.sweeping or (sentence.since is not None and sentence.since + self._timing.grace < now))
        ]
        # What is being deleted is not let go, even if something names it against all rules.
        named = {
            key
            for key, sentence in listed.items()
            if key in survey.present and key not in survey.unnamed and not sentence.sweeping
        }
        held = {key for key in named if self._is_held(listed[key], now)}
        return _Verdict(
            condemned=set(fresh[:room]),
            released=named - held,
            needed=held,
            gone={key for key in listed if key not in survey.present},
            due=set(sorted(due)[:MOST_DELETED]),
            more=len(fresh) > room or len(due) > MOST_DELETED,
        )

    def _is_held(self, sentence: Sentence, now: datetime) -> bool:
        """Tell whether somebody may yet come to name what was overwritten: whoever looked before it was listed."""
        if sentence.being_rewritten(now, self._timing.longest):
            return True
        return sentence.rewritten is not None and now <= sentence.rewritten + self._timing.grace

    async def _withdraw(
        self, infos: dict[str, ObjectInfo], tables: dict[str, list[str]], on_list: set[str], survey: Survey
    ) -> None:
        """Take packs that are condemned or gone out of what agents offer, so that nobody tries to borrow from them."""
        for key, packs in tables.items():
            dead = {pack for pack in packs if pack in on_list or pack not in survey.present}
            if not dead:
                continue
            try:
                data = await self._store.get(key)
                left = offers.without(offers.decode(data, key, self._sealer), dead)
                # Sealed anew it would seem to offer what is sealed with the key of today.
                if left is None or key_of(data) != self._sealer.key_id:
                    await self._store.delete([key])
                else:
                    await self._store.replace(key, offers.encode(left, self._sealer), if_match=infos[key].etag)
            except (ObjectNotFound, PreconditionFailed):
                # Its agent was deleted, or another pass was first.
                continue

    def _stamp(self, packs: dict[str, Sentence]) -> dict[str, Sentence]:
        """Begin the grace of what is on the list as it was read: everybody can see it there by now."""
        now = self._timing.now()
        return {key: found if found.since else found.model_copy(update={"since": now}) for key, found in packs.items()}

    async def _sweep(self, packs: list[str], progress: Progress) -> int:
        for start in range(0, len(packs), _BATCH):
            batch = packs[start : start + _BATCH]
            await self._store.delete(batch)
            await self._condemned.change(lambda found, gone=batch: _without(found, gone))
            progress(f"{start + len(batch)} of {len(packs)} packs deleted")
        return len(packs)


def _apply(
    packs: dict[str, Sentence], verdict: _Verdict, listed: dict[str, Sentence], now: datetime
) -> dict[str, Sentence]:
    """Write the verdict into the list as it is now: other passes may have changed it since it was read."""
    for key in verdict.condemned:
        packs.setdefault(key, Sentence())
    for key in verdict.released | verdict.gone:
        if packs.get(key) == listed[key]:
            del packs[key]
    for key in verdict.needed:
        # Its grace begins when nothing names it any more.
        if packs.get(key) == listed[key] and listed[key].since is not None:
            packs[key] = listed[key].model_copy(update={"since": now})
    for key in verdict.due:
        if packs.get(key) == listed[key]:
            packs[key] = listed[key].model_copy(update={"sweeping": True})
    return packs


def _without(packs: dict[str, Sentence], gone: Iterable[str]) -> dict[str, Sentence]:
    for key in gone:
        packs.pop(key, None)
    return packs
