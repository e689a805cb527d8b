"""Base images between a real daemon and a real store: kept, lost, loaded, the same image again."""

import asyncio
import contextlib
import io
import os
import tarfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from uuid import uuid4

import pytest
from docker.errors import APIError
from docker.errors import ImageNotFound as NoSuchImage
from temporalio.testing import ActivityEnvironment

from activities import images
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_images import DockerImages
from activities.errors import ImageNotFound, SandboxRefused, StoreUnavailable
from activities.images import ImageActivities, ImageManifest, manifest_key, part_key
from activities.ports.store import ObjectStore
from hibernaut.contracts import KeepImageRequest, LoadImageRequest, LoadImageResult, StoreKeys

MEBIBYTE = 1 << 20


class Shelf:
    """Small images of a test's own, removed at the end."""

    def __init__(self) -> None:
        self.daemon = Daemon()
        self.images = DockerImages(self.daemon)
        self._made: list[str] = []

    def make(self, name: str, size: int = 3 * MEBIBYTE) -> str:
        """Import a file system of one file; the image's id."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            member = tarfile.TarInfo("data")
            member.size = size
            archive.addfile(member, io.BytesIO(os.urandom(size)))
        self.daemon.api.import_image_from_data(buffer.getvalue(), repository=name, tag="1")
        self._made.append(f"{name}:1")
        return str(self.daemon.api.inspect_image(f"{name}:1")["Id"])

    def remove(self, image_id: str) -> None:
        """What `docker rmi -f` does."""
        self.daemon.api.remove_image(image_id, force=True)
        self._made.append(image_id)

    def named(self, name: str) -> str | None:
        """The id that a name points to."""
        try:
            return str(self.daemon.api.inspect_image(name)["Id"])
        except NoSuchImage:
            return None

    def close(self) -> None:
        for made in self._made:
            with contextlib.suppress(APIError):
                self.daemon.api.remove_image(made, force=True)
        self.daemon.close()


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    made = Shelf()
    yield made
    made.close()


@pytest.fixture
def name() -> str:
    return f"hibernaut-test-{uuid4().hex[:8]}"


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "PART", MEBIBYTE)


async def _keep(shelf: Shelf, store: ObjectStore, image_id: str, name: str) -> ImageManifest:
    request = KeepImageRequest(image_id=image_id, image=f"{name}:1")
    result = await ActivityEnvironment().run(ImageActivities("h", shelf.images, store).keep, request)
    assert result.ref == manifest_key(image_id)
    return ImageManifest.model_validate_json(await store.get(result.ref))


async def _load(shelf: Shelf, store: ObjectStore, image_id: str) -> LoadImageResult:
    return await ActivityEnvironment().run(
        ImageActivities("h", shelf.images, store).load, LoadImageRequest(image_id=image_id)
    )


async def test_an_image_comes_back_as_the_same_image(shelf: Shelf, store: ObjectStore, name: str) -> None:
    image_id = shelf.make(name)
    manifest = await _keep(shelf, store, image_id, name)
    assert len(manifest.parts) > 3
    shelf.remove(image_id)
    assert await shelf.images.inspect(image_id) is None
    result = await _load(shelf, store, image_id)
    assert result.bytes == sum(part.stored for part in manifest.parts)
    found = await shelf.images.inspect(image_id)
    assert found is not None
    assert found.image_id == image_id
    created = shelf.daemon.api.create_container(image_id, command=["/data"])
    shelf.daemon.api.remove_container(created["Id"])


async def test_a_keep_that_dies_is_taken_up_by_the_next(
    shelf: Shelf, store: ObjectStore, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = shelf.make(name)
    put, written = store.put, list[str]()

    async def dying(key: str, data: bytes, *, if_none_match: bool = False) -> None:
        if len(written) == 2:
            raise StoreUnavailable("the worker is killed here")
        await put(key, data, if_none_match=if_none_match)
        written.append(key)

    with monkeypatch.context() as patch:
        patch.setattr(store, "put", dying)
        with pytest.raises(StoreUnavailable):
            await _keep(shelf, store, image_id, name)
    assert not await images.is_kept(store, image_id)
    manifest = await _keep(shelf, store, image_id, name)
    assert written == [part_key(image_id, part.digest) for part in manifest.parts[:2]], "docker save repeats itself"
    shelf.remove(image_id)
    await _load(shelf, store, image_id)
    assert await shelf.images.inspect(image_id) is not None


async def test_no_name_moves(shelf: Shelf, store: ObjectStore, name: str) -> None:
    old = shelf.make(name)
    await _keep(shelf, store, old, name)
    shelf.remove(old)
    new = shelf.make(name)
    assert new != old
    await _load(shelf, store, old)
    assert shelf.named(f"{name}:1") == new
    assert shelf.named(old) == old


async def test_a_damaged_part_leaves_no_image(shelf: Shelf, store: ObjectStore, name: str) -> None:
    image_id = shelf.make(name)
    manifest = await _keep(shelf, store, image_id, name)
    shelf.remove(image_id)
    key = part_key(image_id, manifest.parts[-1].digest)
    data = await store.get(key)
    await store.put(key, bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(ImageNotFound, match="damaged") as caught:
        await _load(shelf, store, image_id)
    assert not caught.value.retryable
    assert StoreKeys.image(image_id, "") in str(caught.value)
    assert await shelf.images.inspect(image_id) is None
    await store.put(key, data)
    await _load(shelf, store, image_id)
    assert await shelf.images.inspect(image_id) is not None


async def test_a_load_that_is_cancelled_leaves_no_image(shelf: Shelf, name: str) -> None:
    image_id = shelf.make(name)
    async with aclosing(shelf.images.save(image_id)) as pieces:
        archive = b"".join([piece async for piece in pieces])
    shelf.remove(image_id)
    begun = asyncio.Event()

    async def stalled() -> AsyncGenerator[bytes]:
        yield archive[:MEBIBYTE]
        begun.set()
        await asyncio.sleep(0.2)
        yield archive[MEBIBYTE : 2 * MEBIBYTE]
        yield archive[2 * MEBIBYTE :]

    source = stalled()
    loading = asyncio.create_task(shelf.images.load(source))
    await begun.wait()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    await source.aclose()
    assert await shelf.images.inspect(image_id) is None


async def test_a_save_that_is_given_up_frees_the_daemon(shelf: Shelf, name: str) -> None:
    image_id = shelf.make(name)
    async with aclosing(shelf.images.save(image_id)) as pieces:
        assert await anext(pieces)
    shelf.remove(image_id)
    assert await shelf.images.inspect(image_id) is None


async def test_what_is_no_image_is_refused(shelf: Shelf) -> None:
    async def rubbish() -> AsyncGenerator[bytes]:
        yield b"rubbish" * 1000

    with pytest.raises(SandboxRefused):
        await shelf.images.load(rubbish())
