"""Deletes what was written for an agent after its deletion was certified.

A worker that is cut off from Temporal, and not from the store, ends what it was at: it hears of nothing.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from activities.ports.store import ObjectStore
from activities.snapshots import layout
from activities.snapshots.deleting import delete_snapshots, is_left
from hibernaut.contracts import StoreKeys
from hibernaut.models.deletion import NAMELESS

REMEMBERED = timedelta(days=30)
"""How long after its certificate it is looked whether an agent has something again."""
SUFFIX = ".json"


async def delete_late(store: ObjectStore, say: Callable[[str], None]) -> int:
    """Look at the agents that were deleted lately; how many objects were deleted."""
    since = datetime.now(UTC) - REMEMBERED
    ends = StoreKeys.certificate_draft("")
    ends = ends[ends.rindex("/") + 1 :]
    begins = StoreKeys.certificate("").removesuffix(SUFFIX)
    uids: list[str] = []
    async for info in store.list(begins):
        name = info.key.removeprefix(begins)
        # What is not certified is still being deleted, by the deletion itself; what never ran has nothing.
        certified = "/" not in name and name.endswith(SUFFIX) and not name.endswith(ends)
        if certified and info.modified >= since and not name.startswith(NAMELESS):
            uids.append(name.removesuffix(SUFFIX))
    deleted = 0
    for uid in uids:
        keys = await _late(store, uid)
        if keys:
            say(f"deleting what came in late for {uid[:8]}, {len(keys)} objects")
            await delete_snapshots(store, uid)
            # What is left of packs, another look says: those that others may name are the collection's.
            await store.delete(await _late(store, uid))
            deleted += len(keys)
    return deleted


async def _late(store: ObjectStore, uid: str) -> list[str]:
    shared = await store.head(layout.shared_key(uid)) is not None
    prefixes = (StoreKeys.agent(uid), layout.indexes_prefix(uid))
    found = [info.key for prefix in prefixes async for info in store.list(prefix)]
    return [key for key in found if not (shared and is_left(key, uid))]
