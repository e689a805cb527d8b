"""Names of snapshots: small objects that hold a reference, and keep what they stand for from being pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activities.errors import (
    ObjectExists,
    ObjectNotFound,
    PreconditionFailed,
    SnapshotNameTaken,
    SnapshotNotFound,
    StoreUnavailable,
)
from activities.snapshots import layout
from activities.snapshots.head import Heads

if TYPE_CHECKING:
    from activities.ports.store import ObjectStore

_TRIES = 10


async def name_snapshot(store: ObjectStore, agent_uid: str, number: int, name: str, *, move: bool) -> None:
    """See `Upkeep.name_snapshot`."""
    key = layout.name_key(agent_uid, name)
    ref = layout.manifest_key(agent_uid, number)
    if await store.head(ref) is None:
        msg = f"The agent {agent_uid} has no snapshot {number}."
        raise SnapshotNotFound(msg)
    before = await _write(store, key, ref, move=move)
    if not await _secure(store, agent_uid, number, ref):
        # As it was, as far as that is still there.
        if before is None:
            await store.delete([key])
        else:
            await store.put(key, before)
        msg = f"Snapshot {number} of agent {agent_uid} was pruned just now."
        raise SnapshotNotFound(msg)


async def _write(store: ObjectStore, key: str, ref: str, *, move: bool) -> bytes | None:
    """Write a name; return what it stood for before, if for something else."""
    for _ in range(_TRIES):
        info = await store.head(key)
        try:
            if info is None:
                await store.put(key, ref.encode(), if_none_match=True)
                return None
            before = await store.get(key)
            if before == ref.encode():
                return None
            if not move:
                name = key.rpartition("/")[2]
                msg = f"The name {name!r} is that of the snapshot {before.decode(errors='replace')} already."
                raise SnapshotNameTaken(msg)
            await store.replace(key, ref.encode(), if_match=info.etag)
        except (ObjectExists, ObjectNotFound, PreconditionFailed):
            continue
        return before
    msg = f"The object {key} changes each time it is to be written; try again."
    raise StoreUnavailable(msg)


async def _secure(store: ObjectStore, agent_uid: str, number: int, ref: str) -> bool:
    """Make every pruning that did not see the name begin anew; False when one is deleting the snapshot."""
    heads = Heads(store)
    for _ in range(_TRIES):
        seen = await heads.view(agent_uid)
        if (seen.head is not None and number in seen.head.doomed) or await store.head(ref) is None:
            return False
        if seen.head is None or await heads.swap(agent_uid, seen, seen.head.edited()):
            return True
    msg = f"The head of agent {agent_uid} changes each time it is to be written; try again."
    raise StoreUnavailable(msg)
