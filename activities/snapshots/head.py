"""The fence: which generation of an agent's sandbox may write snapshots, in one object changed by compare-and-swap.

A sandbox claims the head when it is acquired, and moves it with every snapshot. One that was cut off and replaced
finds the next generation's claim there, and what it has still to say is refused: its manifest may be in the store for
a moment, but no caller was ever told of it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from activities.errors import ObjectNotFound, PreconditionFailed, SnapshotDamaged, SnapshotFenced, StoreUnavailable
from hibernaut.contracts import StoreKeys

if TYPE_CHECKING:
    from activities.ports.store import ObjectStore

_KEPT = 1024
_TRIES = 10


class Head(BaseModel):
    """The object `head.json` of an agent."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal["hibernaut-head/1"] = "hibernaut-head/1"
    generation: int
    """The sandbox that may write."""
    number: int = 0
    """Of the newest snapshot; 0 when there is none."""
    ref: str | None = None
    """The newest snapshot."""


class _Seen(NamedTuple):
    etag: str | None
    """None: there was no head."""
    head: Head | None


class Heads:
    """Heads of agents, each remembered as it was last seen, so that moving it costs one request."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self.requests = 0
        """Made so far."""

    def knows(self, uid: str) -> bool:
        """Tell whether the head was seen before."""
        return uid in self._seen

    async def claim(self, uid: str, generation: int) -> None:
        """Make a generation the one that may write; again is harmless.

        Raises:
            SnapshotFenced: A later generation has taken over.
        """
        for _ in range(_TRIES):
            seen = await self._look(uid)
            head = seen.head
            if head is not None and head.generation >= generation:
                _refuse_older(uid, generation, head)
                return
            claimed = Head(generation=generation, number=head.number if head else 0, ref=head.ref if head else None)
            if await self._swap(uid, seen, claimed):
                return
        raise _contended(uid)

    async def check(self, uid: str, generation: int) -> None:
        """Refuse a generation that was superseded, at the price of one small request.

        Raises:
            SnapshotFenced: A later generation has taken over, or the agent was deleted.
        """
        head = (await self._look(uid)).head
        if head is not None:
            _refuse_older(uid, generation, head)

    async def advance(self, uid: str, generation: int, number: int, ref: str) -> None:
        """Make a snapshot whose manifest is written the newest; again is harmless.

        Raises:
            SnapshotFenced: A later generation has taken over, or the agent was deleted.
        """
        for _ in range(_TRIES):
            seen = self._seen.get(uid) or await self._look(uid)
            head = seen.head
            if head is not None:
                _refuse_older(uid, generation, head)
                if head.generation == generation and head.number >= number:
                    return
            if await self._swap(uid, seen, Head(generation=generation, number=number, ref=ref)):
                return
            await self._look(uid)
        raise _contended(uid)

    def newest(self, uid: str) -> int:
        """Return the number of the newest snapshot that was seen to count; 0 when none was."""
        seen = self._seen.get(uid)
        return seen.head.number if seen is not None and seen.head is not None else 0

    def forget(self, uid: str) -> None:
        """Drop what is remembered of an agent."""
        self._seen.pop(uid, None)

    async def _look(self, uid: str) -> _Seen:
        """See the head as it is; what is remembered spares reading it again."""
        before = self._seen.get(uid)
        key = StoreKeys.head(uid)
        self.requests += 1
        info = await self._store.head(key)
        if info is None:
            if before is not None and before.head is not None:
                msg = f"The head of agent {uid} is gone: the agent was deleted, and takes no more snapshots."
                raise SnapshotFenced(msg)
            return self._remember(uid, _Seen(None, None))
        if before is not None and before.etag == info.etag:
            return before
        self.requests += 1
        try:
            head = Head.model_validate_json(await self._store.get(key))
        except ObjectNotFound:
            return self._remember(uid, _Seen(None, None))
        except ValidationError:
            msg = f"The object {key} in the store is no head this release can read."
            raise SnapshotDamaged(msg) from None
        return self._remember(uid, _Seen(info.etag, head))

    async def _swap(self, uid: str, seen: _Seen, head: Head) -> bool:
        self.requests += 1
        try:
            etag = await self._store.replace(StoreKeys.head(uid), head.model_dump_json().encode(), if_match=seen.etag)
        except PreconditionFailed:
            return False
        self._remember(uid, _Seen(etag, head))
        return True

    def _remember(self, uid: str, seen: _Seen) -> _Seen:
        self._seen[uid] = seen
        self._seen.move_to_end(uid)
        while len(self._seen) > _KEPT:
            self._seen.popitem(last=False)
        return seen


def _refuse_older(uid: str, generation: int, head: Head) -> None:
    if head.generation > generation:
        msg = (
            f"Generation {head.generation} of agent {uid} has taken over: generation {generation} writes no more, and "
            "what it changed since its last snapshot is given up."
        )
        raise SnapshotFenced(msg)


def _contended(uid: str) -> StoreUnavailable:
    return StoreUnavailable(f"The head of agent {uid} changes each time it is to be written; try again.")
