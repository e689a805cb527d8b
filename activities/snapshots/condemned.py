"""The condemned list: packs that nothing named when the collection looked, and that it will delete.

Who is about to name a pack of others looks here first. A pack goes onto the list without a time; only a list that is
known to be written is given times, so that the grace never begins before everybody can see the entry.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from activities.errors import ObjectNotFound, PreconditionFailed, SnapshotDamaged, StoreUnavailable
from activities.snapshots.layout import CONDEMNED

if TYPE_CHECKING:
    from collections.abc import Callable

    from activities.ports.store import ObjectStore

_TRIES = 20


class Sentence(BaseModel):
    """What is to become of a pack."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    since: datetime | None = None
    """When it was certain that the entry could be seen; None: not yet."""
    sweeping: bool = False
    """It is being deleted, which nothing stops any more."""
    rewriters: dict[str, datetime] = {}
    """Who may be overwriting what nobody needs in it, since when (`rewriting.py`)."""
    rewritten: datetime | None = None
    """When it was last overwritten in this way."""

    def being_rewritten(self, now: datetime, longest: timedelta) -> bool:
        """Tell whether somebody may be at it yet: who takes longer gives up."""
        return any(now - since < longest for since in self.rewriters.values())


class CondemnedList(BaseModel):
    """The object."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal["hibernaut-condemned/1"] = "hibernaut-condemned/1"
    version: int = 0
    """Grows with every change: no version is the same as an earlier one."""
    packs: dict[str, Sentence] = {}
    """By the keys of packs."""


class _Seen(NamedTuple):
    etag: str | None
    found: CondemnedList


class Condemned:
    """The list of one store; what was read of it last is kept, so that a look costs one small request."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._seen = _Seen(None, CondemnedList())

    async def look(self) -> CondemnedList:
        """Return the list as it is now, or newer.

        Raises:
            SnapshotDamaged: This release cannot read it.
        """
        return (await self._look()).found

    async def change(self, decide: Callable[[dict[str, Sentence]], dict[str, Sentence]]) -> dict[str, Sentence]:
        """Change the list by compare-and-swap; return what it holds then.

        Args:
            decide: Returns what the list is to hold instead of what it holds; called again when another was first.

        Raises:
            StoreUnavailable: Others change it all the time.
        """
        for _ in range(_TRIES):
            seen = await self._look()
            wanted = decide(dict(seen.found.packs))
            if wanted == seen.found.packs:
                return wanted
            after = CondemnedList(version=seen.found.version + 1, packs=wanted)
            data = (await asyncio.to_thread(after.model_dump_json)).encode()
            try:
                etag = await self._store.replace(CONDEMNED, data, if_match=seen.etag)
            except PreconditionFailed:
                continue
            self._seen = _Seen(etag, after)
            return wanted
        msg = f"The object {CONDEMNED} changes each time it is to be written; try again."
        raise StoreUnavailable(msg)

    async def _look(self) -> _Seen:
        for _ in range(_TRIES):
            kept = self._seen
            info = await self._store.head(CONDEMNED)
            if info is not None and info.etag == kept.etag:
                return kept
            seen = _Seen(None, CondemnedList())
            if info is not None:
                try:
                    data = await self._store.get(CONDEMNED)
                    found = await asyncio.to_thread(CondemnedList.model_validate_json, data)
                except ObjectNotFound:
                    continue
                except ValidationError:
                    msg = f"The object {CONDEMNED} in the store is no list this release can read."
                    raise SnapshotDamaged(msg) from None
                seen = _Seen(info.etag, found)
            self._seen = seen
            return seen
        msg = f"The object {CONDEMNED} comes and goes; try again."
        raise StoreUnavailable(msg)
