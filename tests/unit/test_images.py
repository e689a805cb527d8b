"""Base images in the store: kept once, whole or not at all, and never loaded damaged."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from activities.errors import ImageNotFound, SnapshotSealed, StoreUnavailable
from activities.snapshots import image_packs, image_reading, image_writing
from activities.snapshots.image_format import PACKS, manifest_key, pack_key
from activities.snapshots.image_packs import MAXIMUM_BYTES
from activities.snapshots.sealing import PLAIN, Sealer
from tests.support.images import (
    RING,
    ArchiveEngine,
    BreakingStore,
    assert_loads,
    chunks_stored,
    content,
    image_archive,
    image_id,
    keep,
    kept,
    keys,
    load,
)

SIZE = 4_000_000


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_packs, "PACK_BYTES", 1_000_000)
    monkeypatch.setattr(image_writing, "BATCH_BYTES", 500_000)
    monkeypatch.setattr(image_reading, "RANGE_BYTES", 400_000)


@pytest.fixture
def store(tmp_path: Path) -> BreakingStore:
    return BreakingStore(tmp_path / "store")


@pytest.fixture(scope="module")
def archive() -> bytes:
    return image_archive(content(SIZE, 7))


async def test_what_was_kept_is_loaded_elsewhere(store: BreakingStore, archive: bytes) -> None:
    wanted = image_id(archive)
    result = await keep(ArchiveEngine(archive), store, wanted)
    manifest = await kept(store, wanted)
    assert (manifest.format, manifest.name, result.ref) == ("hibernaut-image/2", "tools:1", manifest_key(wanted))
    assert manifest.size == len(archive)
    assert len(manifest.packs) > 3
    assert {pack_key(pack) for pack in manifest.packs} | {manifest_key(wanted)} == await keys(store)
    assert result.bytes_stored == sum([info.size async for info in store.list("images/")])
    other = ArchiveEngine()
    loaded = await load(other, store, wanted)
    assert other.archives == {wanted: archive}
    assert loaded.bytes == sum(stored for _, _, _, stored, _ in manifest.chunks)
    assert (await load(other, store, wanted)).bytes == 0


async def test_an_image_is_kept_once(store: BreakingStore, archive: bytes) -> None:
    engine = ArchiveEngine(archive)
    await keep(engine, store, image_id(archive))
    again = await keep(engine, store, image_id(archive))
    assert (again.bytes_stored, engine.saved) == (0, 1)


async def test_an_image_that_was_rebuilt_stores_what_is_new(store: BreakingStore) -> None:
    below, one, two = content(SIZE, 1), content(300_000, 2), content(300_000, 3)
    first, second = image_archive(below, one), image_archive(below, two)
    await keep(ArchiveEngine(first), store, image_id(first))
    result = await keep(ArchiveEngine(second), store, image_id(second))
    # At most one chunk more at either end of the new layer, and the manifest.
    assert len(two) < result.bytes_stored < len(two) + 2 * MAXIMUM_BYTES
    assert len(await chunks_stored(store)) == len(set(await chunks_stored(store)))
    for archive in (first, second):
        await assert_loads(store, archive)


async def test_repeated_content_is_stored_once(store: BreakingStore) -> None:
    archive = image_archive(bytes(20 * MAXIMUM_BYTES), content(100_000, 4))
    result = await keep(ArchiveEngine(archive), store, image_id(archive))
    assert result.bytes_stored < 800_000
    await assert_loads(store, archive)


@pytest.mark.parametrize("writes", range(6))
async def test_an_attempt_that_dies_is_invisible_and_the_next_goes_on(
    store: BreakingStore, archive: bytes, writes: int
) -> None:
    wanted = image_id(archive)
    store.writes_left = writes
    with pytest.raises(StoreUnavailable):
        await keep(ArchiveEngine(archive), store, wanted)
    await store.settled()
    with pytest.raises(ImageNotFound, match="nor kept"):
        await load(ArchiveEngine(), store, wanted)
    assert len(await keys(store)) == writes
    store.writes_left = 1_000
    await keep(ArchiveEngine(archive), store, wanted)
    stored = await chunks_stored(store)
    assert len(stored) == len(set(stored)) == len((await kept(store, wanted)).chunks)
    await assert_loads(store, archive)


@pytest.mark.parametrize("sealer", [PLAIN, RING], ids=["plain", "sealed"])
@pytest.mark.parametrize("upload", range(6))
async def test_an_attempt_that_is_cancelled_is_taken_up(
    store: BreakingStore, archive: bytes, upload: int, sealer: Sealer
) -> None:
    wanted = image_id(archive)
    store.hold_at = upload
    keeping = asyncio.create_task(keep(ArchiveEngine(archive), store, wanted, sealer))
    await store.held.wait()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    await store.settled()
    assert manifest_key(wanted) not in await keys(store)
    await keep(ArchiveEngine(archive), store, wanted, sealer)
    stored = await chunks_stored(store, sealer)
    assert len(stored) == len(set(stored))
    assert {pack_key(pack) for pack in (await kept(store, wanted, sealer)).packs} == await keys(store, PACKS)
    await assert_loads(store, archive, sealer)


async def test_of_two_hosts_that_keep_an_image_at_once_both_end_well(store: BreakingStore, archive: bytes) -> None:
    wanted = image_id(archive)
    first, second = await asyncio.gather(
        keep(ArchiveEngine(archive), store, wanted), keep(ArchiveEngine(archive), store, wanted)
    )
    assert first.ref == second.ref == manifest_key(wanted)
    await assert_loads(store, archive)


async def test_one_whose_manifest_comes_late_ends_well(store: BreakingStore, archive: bytes) -> None:
    wanted = image_id(archive)

    class Late(ArchiveEngine):
        """Its archive has other bytes than another host's."""

        async def save(self, image_id: str) -> AsyncGenerator[bytes]:
            await keep(ArchiveEngine(archive), store, image_id)
            yield b"the same image, " * 2_000

    assert (await keep(Late(archive), store, wanted)).ref == manifest_key(wanted)
    await assert_loads(store, archive)


async def test_a_pack_that_vanishes_before_the_manifest(store: BreakingStore) -> None:
    below = content(SIZE, 1)
    first, second = image_archive(below), image_archive(below, content(10_000, 2))
    await keep(ArchiveEngine(first), store, image_id(first))
    pack = pack_key((await kept(store, image_id(first))).packs[0])

    class Meanwhile(ArchiveEngine):
        async def save(self, image_id: str) -> AsyncGenerator[bytes]:
            async for piece in super().save(image_id):
                yield piece
            await store.delete([pack])

    with pytest.raises(StoreUnavailable, match="no longer in the store") as caught:
        await keep(Meanwhile(second), store, image_id(second))
    assert caught.value.retryable
    await keep(ArchiveEngine(second), store, image_id(second))
    await assert_loads(store, second)


async def test_what_is_sealed_is_read_with_the_key_alone(store: BreakingStore, archive: bytes) -> None:
    wanted, sealer = image_id(archive), RING
    await keep(ArchiveEngine(archive), store, wanted, sealer)
    await assert_loads(store, archive, sealer)
    with pytest.raises(SnapshotSealed, match=manifest_key(wanted)):
        await load(ArchiveEngine(), store, wanted)
    manifest = await kept(store, wanted, sealer)
    for pack in manifest.packs:
        data = await store.get(pack_key(pack))
        assert not any(bytes.fromhex(digest) in data for digest, *_ in manifest.chunks)
    other = image_archive(content(SIZE, 7), content(10_000, 5))
    plain = await keep(ArchiveEngine(other), store, image_id(other), sealer)
    assert plain.bytes_stored < 2 * MAXIMUM_BYTES


async def test_an_engine_that_makes_another_image_of_it(store: BreakingStore, archive: bytes) -> None:
    class Strange(ArchiveEngine):
        async def load(self, archive: AsyncIterator[bytes]) -> None:
            async for _ in archive:
                pass

    await keep(ArchiveEngine(archive), store, image_id(archive))
    with pytest.raises(ImageNotFound, match="made another image"):
        await load(Strange(), store, image_id(archive))


async def test_an_image_that_is_not_there_cannot_be_kept(store: BreakingStore, archive: bytes) -> None:
    with pytest.raises(ImageNotFound, match="tools:1"):
        await keep(ArchiveEngine(), store, image_id(archive))
    assert await keys(store) == set()


async def test_what_is_no_image_id_never_becomes_a_key(store: BreakingStore) -> None:
    for bad in ("tools:1", "sha256:../../agents", ""):
        with pytest.raises(ImageNotFound, match="no image id"):
            await keep(ArchiveEngine(), store, bad)
        with pytest.raises(ImageNotFound, match="no image id"):
            await load(ArchiveEngine(), store, bad)


class Crowded(BreakingStore):
    """Lets requests for packs go on once so many are under way at once, and notes whether it were ever more."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.wanted = self.at_once = self.most = self.requests = 0
        self.enough = asyncio.Event()

    def want(self, requests: int) -> None:
        self.wanted, self.most, self.requests = requests, 0, 0
        self.enough.clear()

    async def put(self, key: str, data: bytes, *, if_none_match: bool = False) -> None:
        async with self._one(key):
            await super().put(key, data, if_none_match=if_none_match)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        async with self._one(key):
            return await super().get_range(key, start, length)

    @asynccontextmanager
    async def _one(self, key: str) -> AsyncGenerator[None]:
        packs = int(key.startswith(PACKS))
        self.at_once += packs
        self.requests += packs
        self.most = max(self.most, self.at_once)
        if self.at_once >= self.wanted:
            self.enough.set()
        if packs:
            await self.enough.wait()
        yield
        self.at_once -= packs


async def test_packs_are_stored_a_few_at_once_and_ranges_fetched_so(tmp_path: Path) -> None:
    archive = image_archive(content(3 * SIZE, 7))
    store = Crowded(tmp_path)
    store.want(image_writing.UPLOADS)
    await keep(ArchiveEngine(archive), store, image_id(archive))
    packs = len((await kept(store, image_id(archive))).packs)
    assert (store.most, store.requests) == (image_writing.UPLOADS, packs)
    assert packs > 2 * image_writing.UPLOADS
    store.want(image_reading.PARALLEL)
    await assert_loads(store, archive)
    assert store.most == image_reading.PARALLEL
    # Chunks that lie side by side come in one request: a chunk alone may be longer than what is asked for otherwise.
    assert store.requests < 1.7 * len(archive) / image_reading.RANGE_BYTES
