"""Base images in the store: kept once, whole or not at all, and never loaded damaged."""

import hashlib
import random
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities import images
from activities.adapters.local_store import LocalStore
from activities.errors import ImageNotFound, StoreUnavailable
from activities.images import ImageActivities, ImageManifest, manifest_key, part_key
from activities.ports.images import ImageInfo
from hibernaut.contracts import KeepImageRequest, KeepImageResult, LoadImageRequest, LoadImageResult, StoreKeys

PART = 10_000
SIZE = 35_000


class Engine:
    """A container engine whose image id is the digest of the archive."""

    def __init__(self, *archives: bytes) -> None:
        self.archives = {f"sha256:{hashlib.sha256(archive).hexdigest()}": archive for archive in archives}
        self.saved = 0

    async def inspect(self, image_id: str) -> ImageInfo | None:
        return ImageInfo(image_id, ()) if image_id in self.archives else None

    async def save(self, image_id: str) -> AsyncGenerator[bytes]:
        self.saved += 1
        archive = self.archives[image_id]
        for start in range(0, len(archive), 3_000):
            yield archive[start : start + 3_000]

    async def load(self, archive: AsyncIterator[bytes]) -> None:
        content = b"".join([piece async for piece in archive])
        self.archives[f"sha256:{hashlib.sha256(content).hexdigest()}"] = content


class Flaky(LocalStore):
    """A store that stops working after some writes."""

    writes_left = 1_000
    written: int = 0

    async def put(self, key: str, data: bytes, *, if_none_match: bool = False) -> None:
        if self.writes_left == 0:
            raise StoreUnavailable("the store is away")
        self.writes_left -= 1
        self.written += 1
        await super().put(key, data, if_none_match=if_none_match)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "PART", PART)


@pytest.fixture
def store(tmp_path: Path) -> Flaky:
    return Flaky(tmp_path / "store")


@pytest.fixture
def archive() -> bytes:
    return random.Random(7).randbytes(SIZE)


def _id(archive: bytes) -> str:
    return f"sha256:{hashlib.sha256(archive).hexdigest()}"


async def _keep(engine: Engine, store: LocalStore, image_id: str) -> KeepImageResult:
    request = KeepImageRequest(image_id=image_id, image="tools:1")
    return await ActivityEnvironment().run(ImageActivities("h", engine, store).keep, request)


async def _load(engine: Engine, store: LocalStore, image_id: str) -> LoadImageResult:
    return await ActivityEnvironment().run(
        ImageActivities("h", engine, store).load, LoadImageRequest(image_id=image_id)
    )


async def _keys(store: LocalStore, image_id: str) -> set[str]:
    return {info.key async for info in store.list(StoreKeys.image(image_id, ""))}


async def _manifest(store: LocalStore, image_id: str) -> ImageManifest:
    return ImageManifest.model_validate_json(await store.get(manifest_key(image_id)))


async def test_what_was_kept_is_loaded_elsewhere(store: Flaky, archive: bytes) -> None:
    image_id = _id(archive)
    kept = await _keep(Engine(archive), store, image_id)
    manifest = await _manifest(store, image_id)
    assert [part.plain for part in manifest.parts] == [PART, PART, PART, SIZE - 3 * PART]
    assert (manifest.format, manifest.name, kept.ref) == ("hibernaut-image/1", "tools:1", manifest_key(image_id))
    assert kept.bytes_stored == sum([info.size async for info in store.list("images/")])
    other = Engine()
    loaded = await _load(other, store, image_id)
    assert other.archives == {image_id: archive}
    assert loaded.bytes == sum(part.stored for part in manifest.parts)
    assert (await _load(other, store, image_id)).bytes == 0


async def test_an_image_is_kept_once(store: Flaky, archive: bytes) -> None:
    engine = Engine(archive)
    await _keep(engine, store, _id(archive))
    again = await _keep(engine, store, _id(archive))
    assert (again.bytes_stored, engine.saved) == (0, 1)


async def test_an_attempt_that_dies_is_invisible_and_the_next_goes_on(store: Flaky, archive: bytes) -> None:
    image_id = _id(archive)
    store.writes_left = 2
    with pytest.raises(StoreUnavailable):
        await _keep(Engine(archive), store, image_id)
    with pytest.raises(ImageNotFound, match="nor kept"):
        await _load(Engine(), store, image_id)
    store.writes_left, store.written = 1_000, 0
    await _keep(Engine(archive), store, image_id)
    assert store.written == 3, "two parts and the manifest"
    other = Engine()
    await _load(other, store, image_id)
    assert other.archives == {image_id: archive}


async def test_parts_of_another_archive_of_the_image_are_removed(store: Flaky, archive: bytes) -> None:
    image_id = _id(archive)
    stale = part_key(image_id, "0" * 64)
    await store.put(stale, b"left by an attempt that died")
    await _keep(Engine(archive), store, image_id)
    named = {part_key(image_id, part.digest) for part in (await _manifest(store, image_id)).parts}
    assert await _keys(store, image_id) == named | {manifest_key(image_id)}


async def test_of_two_hosts_that_keep_an_image_at_once_one_wins(store: Flaky, archive: bytes) -> None:
    image_id = _id(archive)

    class Late(Engine):
        """Its manifest comes after another host's, and its archive is cut into other bytes."""

        async def save(self, image_id: str) -> AsyncGenerator[bytes]:
            await _keep(Engine(archive), store, image_id)
            yield b"the same image, " * 2_000

    await _keep(Late(archive), store, image_id)
    named = {part_key(image_id, part.digest) for part in (await _manifest(store, image_id)).parts}
    assert await _keys(store, image_id) == named | {manifest_key(image_id)}
    other = Engine()
    await _load(other, store, image_id)
    assert other.archives == {image_id: archive}


@pytest.mark.parametrize("harm", ["flip", "cut", "grow", "missing"])
async def test_a_damaged_part_is_refused(store: Flaky, archive: bytes, harm: str) -> None:
    image_id = _id(archive)
    await _keep(Engine(archive), store, image_id)
    key = part_key(image_id, (await _manifest(store, image_id)).parts[1].digest)
    data = await store.get(key)
    if harm == "missing":
        await store.delete([key])
    else:
        harmed = {"flip": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "cut": data[:-1], "grow": data + b"x"}
        await store.put(key, harmed[harm])
    other = Engine()
    with pytest.raises(ImageNotFound, match="part 2 of 4") as caught:
        await _load(other, store, image_id)
    assert not caught.value.retryable
    assert other.archives == {}


@pytest.mark.parametrize("text", ["", "{}", '{"format": "hibernaut-image/9"}', "not json"])
async def test_a_damaged_manifest_is_refused(store: Flaky, archive: bytes, text: str) -> None:
    await store.put(manifest_key(_id(archive)), text.encode())
    with pytest.raises(ImageNotFound, match="manifest cannot be read"):
        await _load(Engine(), store, _id(archive))


async def test_a_manifest_of_another_image_is_refused(store: Flaky, archive: bytes) -> None:
    image_id, other_id = _id(archive), _id(b"other")
    await _keep(Engine(archive), store, image_id)
    await store.put(manifest_key(other_id), await store.get(manifest_key(image_id)))
    with pytest.raises(ImageNotFound, match="manifest is that of"):
        await _load(Engine(), store, other_id)


async def test_an_engine_that_makes_another_image_of_it(store: Flaky, archive: bytes) -> None:
    class Strange(Engine):
        async def load(self, archive: AsyncIterator[bytes]) -> None:
            async for _ in archive:
                pass

    await _keep(Engine(archive), store, _id(archive))
    with pytest.raises(ImageNotFound, match="made another image"):
        await _load(Strange(), store, _id(archive))


async def test_an_image_that_is_not_there_cannot_be_kept(store: Flaky, archive: bytes) -> None:
    with pytest.raises(ImageNotFound, match="tools:1"):
        await _keep(Engine(), store, _id(archive))
    assert await _keys(store, _id(archive)) == set()


async def test_what_is_no_image_id_never_becomes_a_key(store: Flaky) -> None:
    for bad in ("tools:1", "sha256:../../agents", ""):
        with pytest.raises(ImageNotFound, match="no image id"):
            await _keep(Engine(), store, bad)
        with pytest.raises(ImageNotFound, match="no image id"):
            await _load(Engine(), store, bad)
