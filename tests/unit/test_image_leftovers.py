"""What no kept image needs goes, and nothing else, whoever is at work meanwhile."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest

from activities.errors import SnapshotDamaged, SnapshotSealed, StoreUnavailable
from activities.snapshots import image_known, image_packs, image_writing
from activities.snapshots.image_format import PACKS, dropped_key, manifest_key, pack_key, part_key
from activities.snapshots.image_known import LEFTOVER_AGE, Tables
from activities.snapshots.image_leftovers import Leftovers, collect_image_leftovers, drop_image
from tests.support.images import (
    RING,
    ArchiveEngine,
    BreakingStore,
    assert_loads,
    content,
    image_archive,
    image_id,
    keep,
    keep_as_format_1,
    kept,
    keys,
)

LONG_AGO = LEFTOVER_AGE + timedelta(hours=1)
SHARED = content(2_000_000, 1)
FIRST = image_archive(SHARED, content(600_000, 2))
SECOND = image_archive(SHARED, content(600_000, 3))


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_packs, "PACK_BYTES", 400_000)
    monkeypatch.setattr(image_writing, "BATCH_BYTES", 500_000)


@pytest.fixture
def store(tmp_path: Path) -> BreakingStore:
    return BreakingStore(tmp_path / "store")


async def _age_all(store: BreakingStore) -> None:
    for key in await keys(store):
        store.age(key, LONG_AGO)


async def _dead_attempt(store: BreakingStore, archive: bytes) -> set[str]:
    """The packs that it leaves."""
    before = await keys(store, PACKS)
    store.writes_left = 2
    with pytest.raises(StoreUnavailable):
        await keep(ArchiveEngine(archive), store, image_id(archive))
    await store.settled()
    store.writes_left = 1_000
    left = await keys(store, PACKS) - before
    assert len(left) == 2
    return left


async def test_old_leftovers_go_and_what_is_kept_stays(store: BreakingStore) -> None:
    await keep(ArchiveEngine(FIRST), store, image_id(FIRST))
    older = await keep_as_format_1(store, content(100_000, 9), 30_000)
    await store.put(part_key(older.image_id, "0" * 64), b"left by an attempt of an older release")
    needed = await keys(store)
    left = await _dead_attempt(store, image_archive(content(2_000_000, 5)))
    assert await collect_image_leftovers(store) == Leftovers(0, 0)
    await _age_all(store)
    size = sum([info.size async for info in store.list("images/") if info.key in left])
    gone = await collect_image_leftovers(store)
    assert gone == Leftovers(3, size + 38)
    assert await keys(store) == needed - {part_key(older.image_id, "0" * 64)}
    await assert_loads(store, FIRST)
    await assert_loads(store, content(100_000, 9))


async def test_young_leftovers_are_used_and_older_ones_are_not(store: BreakingStore) -> None:
    archive = image_archive(content(2_000_000, 5))
    left = await _dead_attempt(store, archive)
    young, old = sorted(left)
    store.age(old, image_known.BORROWED_FOR + timedelta(minutes=1))
    await keep(ArchiveEngine(archive), store, image_id(archive))
    named = {pack_key(pack) for pack in (await kept(store, image_id(archive))).packs}
    assert young in named
    assert old not in named
    await assert_loads(store, archive)


async def test_a_keeper_that_took_too_long_does_not_commit(
    store: BreakingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_known, "KEEPING_LIMIT", timedelta(seconds=-1))
    with pytest.raises(StoreUnavailable):
        await keep(ArchiveEngine(FIRST), store, image_id(FIRST))
    assert manifest_key(image_id(FIRST)) not in await keys(store)


def test_what_is_young_enough_to_be_used_is_never_old_enough_to_go() -> None:
    assert image_known.BORROWED_FOR + image_known.KEEPING_LIMIT < LEFTOVER_AGE


@pytest.mark.parametrize("age", [timedelta(0), LEFTOVER_AGE - timedelta(seconds=1)])
async def test_a_shorter_age_is_refused(store: BreakingStore, age: timedelta) -> None:
    with pytest.raises(ValueError, match="leftovers of images"):
        await collect_image_leftovers(store, age)


async def test_nothing_goes_while_a_manifest_cannot_be_read(store: BreakingStore) -> None:
    await keep(ArchiveEngine(FIRST), store, image_id(FIRST), RING)
    await _dead_attempt(store, image_archive(content(2_000_000, 5)))
    await _age_all(store)
    before = await keys(store)
    with pytest.raises(SnapshotSealed):
        await collect_image_leftovers(store)
    await store.put(manifest_key(image_id(SECOND)), b"{}")
    with pytest.raises(SnapshotDamaged):
        await collect_image_leftovers(store, sealer=RING)
    assert await keys(store) == before | {manifest_key(image_id(SECOND))}
    await store.delete([manifest_key(image_id(SECOND))])
    assert (await collect_image_leftovers(store, sealer=RING)).objects == 2


async def test_a_dropped_image_goes_a_day_later_but_for_what_it_shares(store: BreakingStore) -> None:
    for archive in (FIRST, SECOND):
        await keep(ArchiveEngine(archive), store, image_id(archive))
    await _age_all(store)
    needed = {pack_key(pack) for pack in (await kept(store, image_id(SECOND))).packs}
    assert await drop_image(store, image_id(FIRST))
    assert await drop_image(store, image_id(FIRST)), "a second time it is gone already"
    assert await collect_image_leftovers(store) == Leftovers(0, 0)
    store.age(dropped_key(image_id(FIRST)), LONG_AGO)
    assert (await collect_image_leftovers(store)).objects >= 2
    assert await keys(store) == needed | {manifest_key(image_id(SECOND))}
    await assert_loads(store, SECOND)


async def test_an_image_may_be_dropped_under_a_keeper_that_shares_with_it(store: BreakingStore) -> None:
    await keep(ArchiveEngine(FIRST), store, image_id(FIRST))
    await _age_all(store)

    class Meanwhile(ArchiveEngine):
        async def save(self, image_id: str) -> AsyncGenerator[bytes]:
            # It has looked at what is there by now.
            await drop_image(store, _FIRST_ID)
            await collect_image_leftovers(store)
            async for piece in super().save(image_id):
                yield piece

    result = await keep(Meanwhile(SECOND), store, image_id(SECOND))
    assert result.bytes_stored < len(SHARED)
    store.age(dropped_key(image_id(FIRST)), LONG_AGO)
    await collect_image_leftovers(store)
    await assert_loads(store, SECOND)


async def test_an_image_that_is_dropped_and_kept_and_dropped_within_a_day_stays(store: BreakingStore) -> None:
    await keep(ArchiveEngine(FIRST), store, image_id(FIRST))
    await _age_all(store)
    await drop_image(store, image_id(FIRST))
    await keep(ArchiveEngine(FIRST), store, image_id(FIRST))
    assert not await drop_image(store, image_id(FIRST))
    await assert_loads(store, FIRST)
    store.age(dropped_key(image_id(FIRST)), LONG_AGO)
    await collect_image_leftovers(store)
    assert await drop_image(store, image_id(FIRST))
    assert manifest_key(image_id(FIRST)) not in await keys(store)


async def test_tables_are_read_once(store: BreakingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await keep(ArchiveEngine(FIRST), store, image_id(FIRST))
    left = await _dead_attempt(store, image_archive(content(2_000_000, 5)))
    tables = Tables(store)
    first = await tables.look()
    assert {place.pack for place in first.places.values()} == {
        key.removeprefix(PACKS) for key in await keys(store, PACKS)
    }

    async def unread(*_: object) -> bytes:
        raise AssertionError("it was read a second time")

    monkeypatch.setattr(store, "get", unread)
    monkeypatch.setattr(store, "get_range", unread)
    assert (await tables.look()).places == first.places
    await store.delete(left)
    assert {pack_key(place.pack) for place in (await tables.look()).places.values()} == await keys(store, PACKS)


_FIRST_ID = image_id(FIRST)
