"""Deletes all snapshots of an agent, but for packs that manifests of other agents may name.

The order makes it safe beside writers. Without the head the agent's own writers are fenced off, and offer nothing any
more. Without its manifests and offers nobody begins to rely on its packs: a fork that read a manifest before writes its
marker, then its own manifest, and then looks for the one it read. So a marker that is not there after all that never
comes to mean anything, and the packs are the agent's alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from activities.ports.snapshots import DeletedSnapshots
from activities.snapshots import layout
from hibernaut.contracts import StoreKeys

if TYPE_CHECKING:
    from activities.ports.store import ObjectStore


async def delete_snapshots(store: ObjectStore, agent_uid: str) -> DeletedSnapshots:
    """Delete an agent's snapshots; again is harmless."""
    await store.delete([StoreKeys.head(agent_uid)])
    # Manifests first: a reader that meets a deletion half-way finds no snapshot rather than a damaged one.
    manifests = [info async for info in store.list(layout.manifests_prefix(agent_uid))]
    await store.delete([info.key for info in manifests])
    await store.delete([info.key async for info in store.list(layout.indexes_prefix(agent_uid))])
    shared = await store.head(layout.shared_key(agent_uid)) is not None
    found = [info async for info in store.list(layout.snapshots_prefix(agent_uid))]
    gone = [info for info in found if not (shared and is_left(info.key, agent_uid))]
    await store.delete([info.key for info in gone])
    packs = [info.key for info in gone if layout.is_pack_key(info.key)]
    return DeletedSnapshots(
        manifests=len(manifests),
        packs=len(packs),
        bytes=sum(info.size for info in [*manifests, *gone]),
        shared=shared,
    )


def is_left(key: str, agent_uid: str) -> bool:
    """Tell whether an object of a deleted agent that shared its packs is the collection's to delete."""
    return layout.is_pack_key(key) or key == layout.shared_key(agent_uid)
