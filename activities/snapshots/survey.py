"""Looks at everything in a store that names packs, and at all packs: what a collection decides by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from activities.errors import StoreUnavailable
from activities.snapshots import layout
from activities.snapshots.layout import AGENTS
from hibernaut.contracts import StoreKeys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Container, Iterable, Mapping
    from datetime import datetime

    from activities.ports.snapshots import Progress
    from activities.ports.store import ObjectInfo, ObjectStore
    from activities.snapshots.catalogue import Catalogue, Read


_TRIES = 10


class Pack(NamedTuple):
    """A pack that nothing names."""

    size: int
    modified: datetime


@dataclass(slots=True)
class Survey:
    """What was found."""

    manifests: int = 0
    packs: int = 0
    bytes: int = 0
    unnamed: dict[str, Pack] = field(default_factory=dict[str, Pack])
    """Packs that nothing names."""
    present: set[str] = field(default_factory=set[str])
    """Of the packs that were asked for, those that exist."""
    unreadable: list[str] = field(default_factory=list[str])
    """Manifests that may name anything."""
    empty: list[str] = field(default_factory=list[str])
    """Markers of agents that have no packs, no manifests and no head any more."""


class Surveyor:
    """Walks over all agents twice: for what others name of each, then for what each has."""

    def __init__(self, store: ObjectStore, catalogue: Catalogue, progress: Progress) -> None:
        self._store = store
        self._catalogue = catalogue
        self._progress = progress
        self._survey = Survey()
        self._borrowed: set[str] = set()

    async def look(self, asked: Container[str], before: datetime) -> Survey:
        """Look at everything.

        Args:
            asked: Packs whose existence is of interest.
            before: A marker must be older to be called left over.
        """
        uids = [uid async for uid in agents(self._store)]
        for at, uid in enumerate(uids):
            self._progress(f"reading manifests, agent {at + 1} of {len(uids)}")
            await self._read(uid)
        for at, uid in enumerate(uids):
            self._progress(f"looking for packs, agent {at + 1} of {len(uids)}")
            await self._match(uid, asked, before)
        return self._survey

    async def _read(self, uid: str) -> None:
        """Find out what an agent names of others."""
        own = layout.packs_prefix(uid)
        _, read = await listed(self._store, self._catalogue, uid, layout.manifests_prefix(uid))
        self._borrowed.update(pack for card in read.cards.values() for pack in card.packs if not pack.startswith(own))
        self._survey.unreadable.extend(read.unreadable)

    async def _match(self, uid: str, asked: Container[str], before: datetime) -> None:
        """Find an agent's packs that neither it nor others name."""
        found, read = await listed(self._store, self._catalogue, uid, layout.snapshots_prefix(uid))
        manifests = len(read.cards) + len(read.unreadable)
        packs = [info for info in found if layout.is_pack_key(info.key)]
        marker = {info.key: info for info in found}.get(layout.shared_key(uid))
        named = {pack for card in read.cards.values() for pack in card.packs}
        survey = self._survey
        survey.manifests += manifests
        survey.packs += len(packs)
        survey.bytes += sum(info.size for info in packs)
        survey.present.update(info.key for info in packs if info.key in asked)
        survey.unreadable.extend(ref for ref in read.unreadable if ref not in survey.unreadable)
        # What cannot be read may name any pack of its own agent, and any that is shared.
        if not (read.unreadable or (marker is not None and survey.unreadable)):
            survey.unnamed |= _unnamed(packs, named, self._borrowed)
        left_over = marker is not None and not packs and not manifests and marker.modified < before
        if left_over and await self._store.head(StoreKeys.head(uid)) is None:
            survey.empty.append(layout.shared_key(uid))


async def listed(store: ObjectStore, catalogue: Catalogue, uid: str, prefix: str) -> tuple[list[ObjectInfo], Read]:
    """List what an agent has under a prefix, and read the manifests in it.

    One that is pruned in between may have been followed by one that was not there yet, and names the same packs: then
    everything is listed again.

    Raises:
        StoreUnavailable: They come and go all the time.
    """
    for _ in range(_TRIES):
        infos = [info async for info in store.list(prefix)]
        manifests = [info for info in infos if info.key.startswith(layout.manifests_prefix(uid))]
        read = await catalogue.manifests(manifests)
        if len(read.cards) + len(read.unreadable) == len(manifests):
            return infos, read
    msg = f"The snapshots of agent {uid} change each time they are to be read; try again."
    raise StoreUnavailable(msg)


def _unnamed(packs: Iterable[ObjectInfo], named: Container[str], borrowed: Container[str]) -> Mapping[str, Pack]:
    return {
        info.key: Pack(info.size, info.modified) for info in packs if info.key not in named and info.key not in borrowed
    }


async def agents(store: ObjectStore) -> AsyncIterator[str]:
    """Yield the uids of all agents that have something in a store."""
    async for folder in store.list_folders(AGENTS):
        uid = folder.removeprefix(AGENTS).rstrip("/")
        if layout.is_uid(uid):
            yield uid
