"""Deletes everything that an agent has in the store, but for packs that others may use."""

from collections.abc import Callable

from activities.ports.snapshots import SnapshotEngine
from activities.ports.store import ObjectStore
from activities.snapshots.deleting import is_left
from hibernaut.contracts import StoreKeys

BATCH = 1_000


async def purge(
    store: ObjectStore, snapshots: SnapshotEngine, agent_uid: str, say: Callable[[str], None]
) -> tuple[int, bool]:
    """Delete; again is harmless.

    Returns:
        How many objects were deleted beside snapshots, and whether packs are left to the collection.
    """
    deleted = 0
    found = await snapshots.delete_agent(agent_uid)
    batch: list[str] = []
    async for info in store.list(StoreKeys.agent(agent_uid)):
        if found.shared and is_left(info.key, agent_uid):
            continue
        batch.append(info.key)
        if len(batch) >= BATCH:
            await store.delete(batch)
            deleted += len(batch)
            say(f"{deleted} objects deleted")
            batch.clear()
    await store.delete(batch)
    return deleted + len(batch), found.shared
