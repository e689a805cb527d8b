"""The fence: which generation of an agent's sandbox may write snapshots, in one object changed by compare-and-swap.

A sandbox claims the head when it is acquired, and moves it with every snapshot. One that was cut off and replaced
finds the next generation's claim there, and what it has still to say is refused: its manifest may be in the store for
a moment, but no caller was ever told of it.

The head is also where writers and pruning meet. A pruning writes into it which snapshots it is about to delete, and a
writer that builds on another snapshot than the newest looks there before its own counts: whichever of the two comes
second is refused by the store, reads the head anew, and sees what the other did.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from activities.errors import (
    ObjectNotFound,
    PreconditionFailed,
    SnapshotConflict,
    SnapshotDamaged,
    SnapshotFenced,
    StoreUnavailable,
)
from activities.snapshots import layout
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
    current: str | None = None
    """The snapshot that the agent goes on from; None: the newest."""
    doomed: tuple[int, ...] = ()
    """Snapshots that are being deleted: nothing may build on them any more."""
    edits: int = 0
    """Grows whenever anything but a newer snapshot is written: a head is never the same as an earlier one, not even
    where the store makes the ETag from the bytes."""

    def write(self) -> bytes:
        """Return the object's bytes; what is at its default since format 1 is left out."""
        unset = {name for name in ("current", "doomed", "edits") if not getattr(self, name)}
        return self.model_dump_json(exclude=unset).encode()

    def edited(self, **fields: object) -> Head:
        """Return the head with other fields, told apart from every earlier one."""
        return self.model_copy(update={**fields, "edits": self.edits + 1})


class Seen(NamedTuple):
    """A head as it was seen."""

    etag: str | None
    """None: there was no head."""
    head: Head | None


class Heads:
    """Heads of agents, each remembered as it was last seen, so that moving it costs one request."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._seen: OrderedDict[str, Seen] = OrderedDict()

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
            claimed = head.model_copy(update={"generation": generation}) if head else Head(generation=generation)
            if await self.swap(uid, seen, claimed):
                return
        raise _contended(uid)

    def known(self, uid: str) -> Head | None:
        """Return the head as it was seen last."""
        seen = self._seen.get(uid)
        return seen.head if seen is not None else None

    async def check(self, uid: str, generation: int) -> None:
        """Refuse a generation that was superseded, at the price of one small request.

        Raises:
            SnapshotFenced: A later generation has taken over, or the agent was deleted.
        """
        head = (await self._look(uid)).head
        if head is not None:
            _refuse_older(uid, generation, head)

    async def advance(self, uid: str, generation: int, number: int, ref: str, *, base: str | None = None) -> None:
        """Make a snapshot whose manifest is written count; again is harmless.

        Args:
            uid: Of the agent.
            generation: That wrote it.
            number: Of the snapshot.
            ref: Of the snapshot.
            base: The agent's snapshot whose manifests or packs it relies on; None: none.

        Raises:
            SnapshotFenced: A later generation has taken over, or the agent was deleted.
            SnapshotConflict: What it builds on was pruned meanwhile, or it was given up: its number cannot be used.
        """
        for _ in range(_TRIES):
            seen = self._seen.get(uid) or await self._look(uid)
            head = seen.head
            if head is not None:
                _refuse_older(uid, generation, head)
                if head.ref == ref:
                    return
                # The newest snapshot is never pruned, and all it needs is kept with it. Whether any other is still
                # there is asked after the head was seen: a pruning that begins later changes the head.
                if number in head.doomed or not await self._is_whole(head, number, ref, base):
                    msg = f"Snapshot {ref}, or what it builds on, was pruned meanwhile: take it under the next number."
                    raise SnapshotConflict(msg)
            if head is None:
                moved = Head(generation=generation, number=number, ref=ref)
            elif head.generation == generation and head.number > number:
                moved = head.edited()
            else:
                moved = head.model_copy(
                    update={"generation": generation, "number": number, "ref": ref, "current": None}
                )
            if await self.swap(uid, seen, moved):
                return
            await self._look(uid)
        raise _contended(uid)

    async def rest(self, uid: str, generation: int, ref: str) -> bool:
        """Note that an agent goes on from this snapshot without a newer one; False when it was pruned.

        It costs one small request when it is the newest.

        Raises:
            SnapshotFenced: A later generation has taken over, or the agent was deleted.
        """
        for _ in range(_TRIES):
            seen = await self._look(uid)
            head = seen.head
            if head is None:
                return True
            _refuse_older(uid, generation, head)
            if ref == (head.current or head.ref):
                return True
            if not await self._stands(head, ref):
                return False
            if await self.swap(uid, seen, head.edited(current=ref)):
                return True
        raise _contended(uid)

    async def stands(self, uid: str, ref: str) -> bool:
        """Tell whether a snapshot of the agent may be built on, at the price of a look at the head."""
        head = (await self._look(uid)).head
        return head is None or ref == head.ref or await self._stands(head, ref)

    async def retract(self, uid: str, number: int) -> bool:
        """Make sure that a snapshot never counts from now on; False when it does already."""
        for _ in range(_TRIES):
            seen = await self._look(uid)
            if seen.head is None or number in seen.head.doomed:
                return True
            if seen.head.number >= number:
                return False
            if await self.swap(uid, seen, seen.head.edited(doomed=(*seen.head.doomed, number))):
                return True
        raise _contended(uid)

    async def is_as_seen(self, uid: str) -> bool:
        """Tell whether the head is still what was written or seen last: so the agent was not deleted."""
        seen = self._seen.get(uid)
        info = await self._store.head(StoreKeys.head(uid))
        return seen is not None and info is not None and info.etag == seen.etag

    async def view(self, uid: str) -> Seen:
        """Look at the head, whatever is remembered of it: of a deleted agent there is none."""
        self.forget(uid)
        return await self._look(uid)

    def newest(self, uid: str) -> int:
        """Return the number of the newest snapshot that was seen to count; 0 when none was."""
        seen = self._seen.get(uid)
        return seen.head.number if seen is not None and seen.head is not None else 0

    def forget(self, uid: str) -> None:
        """Drop what is remembered of an agent."""
        self._seen.pop(uid, None)

    async def _is_whole(self, head: Head, number: int, ref: str, base: str | None) -> bool:
        """Tell whether a written snapshot is still there, and what it relies on."""
        if head.number > number and await self._store.head(ref) is None:
            return False
        return base is None or base in (head.ref, head.current) or await self._stands(head, base)

    async def _stands(self, head: Head, ref: str) -> bool:
        _, number = layout.parse_ref(ref)
        if number in head.doomed:
            return False
        return await self._store.head(ref) is not None

    async def _look(self, uid: str) -> Seen:
        """See the head as it is; what is remembered spares reading it again."""
        before = self._seen.get(uid)
        key = StoreKeys.head(uid)
        info = await self._store.head(key)
        if info is None:
            if before is not None and before.head is not None:
                msg = f"The head of agent {uid} is gone: the agent was deleted, and takes no more snapshots."
                raise SnapshotFenced(msg)
            return self._remember(uid, Seen(None, None))
        if before is not None and before.etag == info.etag:
            return before
        try:
            head = Head.model_validate_json(await self._store.get(key))
        except ObjectNotFound:
            return self._remember(uid, Seen(None, None))
        except ValidationError:
            msg = f"The object {key} in the store is no head this release can read."
            raise SnapshotDamaged(msg) from None
        return self._remember(uid, Seen(info.etag, head))

    async def swap(self, uid: str, seen: Seen, head: Head) -> bool:
        """Write a head over the one that was seen; False when it is no longer that."""
        try:
            etag = await self._store.replace(StoreKeys.head(uid), head.write(), if_match=seen.etag)
        except PreconditionFailed:
            return False
        self._remember(uid, Seen(etag, head))
        return True

    def _remember(self, uid: str, seen: Seen) -> Seen:
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
