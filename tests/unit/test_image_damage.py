"""Base images in the store that are damaged, or older than this release."""

import json
from pathlib import Path

import pytest

from activities.errors import ImageNotFound
from activities.snapshots import image_packs, image_reading, image_writing
from activities.snapshots.image_format import manifest_key, pack_key, part_key
from tests.support.images import (
    ArchiveEngine,
    BreakingStore,
    assert_loads,
    content,
    image_archive,
    image_id,
    keep,
    keep_as_format_1,
    kept,
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


async def test_an_image_kept_by_an_older_release_is_loaded(store: BreakingStore, archive: bytes) -> None:
    manifest = await keep_as_format_1(store, archive, 1_000_000)
    assert len(manifest.parts) == 5
    await assert_loads(store, archive)
    assert (await keep(ArchiveEngine(archive), store, image_id(archive))).bytes_stored == 0
    # Its neighbours are stored in the newer format.
    other = image_archive(content(SIZE, 7), content(10_000, 5))
    await keep(ArchiveEngine(other), store, image_id(other))
    await assert_loads(store, other)


@pytest.mark.parametrize("harm", ["flip", "cut", "grow", "missing"])
async def test_a_damaged_part_of_an_older_release_is_refused(store: BreakingStore, archive: bytes, harm: str) -> None:
    manifest = await keep_as_format_1(store, archive, 1_000_000)
    key = part_key(manifest.image_id, manifest.parts[1].digest)
    data = await store.get(key)
    harmed = {"flip": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "cut": data[:-1], "grow": data + b"x"}
    await store.delete([key])
    if harm != "missing":
        await store.put(key, harmed[harm])
    other = ArchiveEngine()
    with pytest.raises(ImageNotFound, match="part 2 of 5"):
        await load(other, store, manifest.image_id)
    assert other.archives == {}


@pytest.mark.parametrize("harm", ["flip", "cut", "missing"])
async def test_a_damaged_pack_is_refused_and_can_be_mended(store: BreakingStore, archive: bytes, harm: str) -> None:
    wanted = image_id(archive)
    await keep(ArchiveEngine(archive), store, wanted)
    manifest = await kept(store, wanted)
    key = pack_key(manifest.packs[2])
    place = next(place for place in manifest.places().values() if place.pack == manifest.packs[2])
    data = await store.get(key)
    middle = place.offset + place.stored // 2
    harmed = {"flip": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :], "cut": data[:middle]}
    await store.delete([key])
    if harm != "missing":
        await store.put(key, harmed[harm])
    other = ArchiveEngine()
    with pytest.raises(ImageNotFound, match=key) as caught:
        await load(other, store, wanted)
    assert not caught.value.retryable
    assert other.archives == {}
    # As the error says.
    assert manifest_key(wanted) in str(caught.value)
    await store.delete([manifest_key(wanted), key])
    store.written.clear()
    again = await keep(ArchiveEngine(archive), store, wanted)
    assert len(store.written) == 2, "one pack and the manifest"
    assert again.bytes_stored < 1_100_000
    await assert_loads(store, archive)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"format": "hibernaut-image/9"}', "not json", "[]", '{"format": "hibernaut-image/2"}']
)
async def test_a_damaged_manifest_is_refused(store: BreakingStore, archive: bytes, text: str) -> None:
    await store.put(manifest_key(image_id(archive)), text.encode())
    with pytest.raises(ImageNotFound, match="manifest cannot be read"):
        await load(ArchiveEngine(), store, image_id(archive))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("archive", [0, 10_000]),
        ("archive", [-1]),
        ("archive", []),
        ("size", 1),
        ("packs", []),
        ("packs", ["../../agents/x"]),
        ("chunks", [["0" * 64, 0, 0, 1, 1 << 40]]),
    ],
)
async def test_a_manifest_that_leads_astray_is_refused(
    store: BreakingStore, archive: bytes, field: str, value: object
) -> None:
    wanted = image_id(archive)
    await keep(ArchiveEngine(archive), store, wanted)
    document = json.loads(await store.get(manifest_key(wanted))) | {field: value}
    await store.put(manifest_key(wanted), json.dumps(document).encode())
    with pytest.raises(ImageNotFound, match="manifest cannot be read"):
        await load(ArchiveEngine(), store, wanted)


async def test_a_manifest_of_another_image_is_refused(store: BreakingStore, archive: bytes) -> None:
    wanted, other = image_id(archive), image_id(b"other")
    await keep(ArchiveEngine(archive), store, wanted)
    await store.put(manifest_key(other), await store.get(manifest_key(wanted)))
    with pytest.raises(ImageNotFound, match="manifest is that of"):
        await load(ArchiveEngine(), store, other)
