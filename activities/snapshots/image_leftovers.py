"""Removes what no kept image needs: packs of attempts that died, and of images that are no longer kept.

Safe beside writers, without any word between them. A writer names packs that were written, or named by a manifest that
it saw, or younger than `BORROWED_FOR`, when it began, and gives up after `KEEPING_LIMIT`. So whatever has been named by
nobody for `LEFTOVER_AGE`, nobody will name. Packs never bear a name a second time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from activities.errors import ObjectExists, ObjectNotFound
from activities.snapshots.image_format import (
    IMAGES,
    decode_manifest,
    dropped_key,
    keys_named,
    manifest_key,
    pack_of,
    parse_key,
)
from activities.snapshots.image_known import LEFTOVER_AGE
from activities.snapshots.sealing import PLAIN, Sealer

if TYPE_CHECKING:
    from activities.ports.store import ObjectInfo, ObjectStore


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What was removed."""

    objects: int
    bytes: int


async def drop_image(store: ObjectStore, image_id: str) -> bool:
    """Keep an image no longer; what it shares with no other is removed by `collect_image_leftovers` a day later.

    For who knows that no agent needs it. It may be called again after a crash.

    Returns:
        Whether the image is dropped. One that was dropped and kept again within a day is not.
    """
    try:
        manifest = await store.get(manifest_key(image_id))
    except ObjectNotFound:
        return True
    # First what holds its packs a while longer: somebody may have begun to use them for another image.
    try:
        await store.put(dropped_key(image_id), manifest, if_none_match=True)
    except ObjectExists:
        if await store.get(dropped_key(image_id)) != manifest:
            return False
    await store.delete([manifest_key(image_id)])
    return True


async def collect_image_leftovers(
    store: ObjectStore, older_than: timedelta = LEFTOVER_AGE, *, sealer: Sealer = PLAIN
) -> Leftovers:
    """Remove objects of images that are older than this and that no manifest names.

    Raises:
        ValueError: `older_than` is less than `LEFTOVER_AGE`.
        SnapshotDamaged: A manifest cannot be read; nothing was removed.
        SnapshotSealed: A manifest is sealed with a key that is not known here; nothing was removed.
    """
    if older_than < LEFTOVER_AGE:
        raise ValueError(f"leftovers of images are removed after {LEFTOVER_AGE}, not after {older_than}")
    since = datetime.now(UTC) - older_than
    old = {info.key: info async for info in store.list(IMAGES) if info.modified < since and _may_go(info)}
    if not old:
        return Leftovers(0, 0)
    # Only now, after the listing: a manifest that was written meanwhile counts.
    named = await _named(store, since, sealer)
    gone = [info for key, info in old.items() if key not in named]
    await store.delete([info.key for info in gone])
    return Leftovers(len(gone), sum(info.size for info in gone))


async def _named(store: ObjectStore, since: datetime, sealer: Sealer) -> set[str]:
    named: set[str] = set()
    async for info in store.list(IMAGES):
        found = parse_key(info.key)
        if found is None or found.kind == "part" or (found.kind == "dropped" and info.modified < since):
            continue
        try:
            data = await store.get(info.key)
        except ObjectNotFound:
            # Dropped meanwhile.
            data = await store.get(dropped_key(found.image_id))
        named |= keys_named(await asyncio.to_thread(decode_manifest, data, found.image_id, sealer))
    return named


def _may_go(info: ObjectInfo) -> bool:
    """Whether it is what a manifest names, or what remains of one."""
    found = parse_key(info.key)
    return pack_of(info.key) is not None or (found is not None and found.kind != "manifest")
