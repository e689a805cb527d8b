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
from docker.errors import APIError, ImageNotFound as NoSuchImage
from temporalio.testing import ActivityEnvironment

from activities.adapters.docker_client import Daemon
from activities.adapters.docker_images import DockerImages
from activities.errors import ImageNotFound, SandboxRefused, StoreUnavailable
from activities.images import ImageActivities, is_kept
from activities.ports.store import ObjectStore
from activities.snapshots import image_packs
from activities.snapshots.image_format import PACKS, ImageManifest, manifest_key, pack_key
from activities.snapshots.image_leftovers import Leftovers, collect_image_leftovers
from activities.snapshots.image_packs import MAXIMUM_BYTES
from hibernaut.contracts import KeepImageRequest, KeepImageResult, LoadImageRequest, LoadImageResult
from tests.support.images import keep_as_format_1, kept

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

    def build_on(self, image_id: str, name: str, size: int) -> str:
        """Make an image of another one and a layer of one more file; its id."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            member = tarfile.TarInfo("more")
            member.size = size
            archive.addfile(member, io.BytesIO(os.urandom(size)))
        container = self.daemon.api.create_container(image_id, command=["/data"])["Id"]
        try:
            self.daemon.api.put_archive(container, "/", buffer.getvalue())
            made = self.daemon.api.commit(container, repository=name, tag="1")
        finally:
            self.daemon.api.remove_container(container)
        self._made.append(f"{name}:1")
        return str(made["Id"])

    async def archive(self, image_id: str) -> bytes:
        """What `docker save` writes."""
        async with aclosing(self.images.save(image_id)) as pieces:
            return b"".join([piece async for piece in pieces])

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
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_packs, "PACK_BYTES", MEBIBYTE)


async def _keep(shelf: Shelf, store: ObjectStore, image_id: str, name: str) -> KeepImageResult:
    request = KeepImageRequest(image_id=image_id, image=f"{name}:1")
    return await ActivityEnvironment().run(ImageActivities("h", shelf.images, store).keep, request)


async def _pieces(archive: bytes) -> AsyncGenerator[bytes]:
    for start in range(0, len(archive), MEBIBYTE):
        yield archive[start : start + MEBIBYTE]


async def _load(shelf: Shelf, store: ObjectStore, image_id: str) -> LoadImageResult:
    return await ActivityEnvironment().run(
        ImageActivities("h", shelf.images, store).load, LoadImageRequest(image_id=image_id)
    )


async def test_an_image_comes_back_as_the_same_image(shelf: Shelf, store: ObjectStore, name: str) -> None:
    image_id = shelf.make(name)
    await _keep(shelf, store, image_id, name)
    manifest = await kept(store, image_id)
    assert len(manifest.packs) > 2
    shelf.remove(image_id)
    assert await shelf.images.inspect(image_id) is None
    result = await _load(shelf, store, image_id)
    assert result.bytes == sum(stored for _, _, _, stored, _ in manifest.chunks)
    found = await shelf.images.inspect(image_id)
    assert found is not None
    assert found.image_id == image_id
    created = shelf.daemon.api.create_container(image_id, command=["/data"])
    shelf.daemon.api.remove_container(created["Id"])


async def test_the_daemon_writes_an_image_the_same_way_every_time(shelf: Shelf, name: str) -> None:
    image_id = shelf.build_on(shelf.make(name), f"{name}-b", MEBIBYTE)
    archive = await shelf.archive(image_id)
    assert await shelf.archive(image_id) == archive
    shelf.remove(image_id)
    await shelf.images.load(_pieces(archive))
    assert await shelf.archive(image_id) == archive, "one that was loaded too"


async def test_an_image_with_another_layer_stores_that_layer(shelf: Shelf, store: ObjectStore, name: str) -> None:
    below = shelf.make(name, 12 * MEBIBYTE)
    one, two = (shelf.build_on(below, f"{name}-{number}", 2 * MEBIBYTE) for number in (1, 2))
    whole = await _keep(shelf, store, one, f"{name}-1")
    assert whole.bytes_stored > 14 * MEBIBYTE
    more = await _keep(shelf, store, two, f"{name}-2")
    assert 2 * MEBIBYTE < more.bytes_stored < 2 * MEBIBYTE + 3 * MAXIMUM_BYTES
    assert await collect_image_leftovers(store) == Leftovers(0, 0), "nothing is a day old"
    for image_id in (one, two):
        shelf.remove(image_id)
        await _load(shelf, store, image_id)
        assert await shelf.images.inspect(image_id) is not None


async def test_an_image_that_an_older_release_kept_is_loaded(shelf: Shelf, store: ObjectStore, name: str) -> None:
    image_id = shelf.make(name)
    await keep_as_format_1(store, await shelf.archive(image_id), MEBIBYTE, image_id)
    assert await is_kept(store, image_id)
    shelf.remove(image_id)
    await _load(shelf, store, image_id)
    assert await shelf.images.inspect(image_id) is not None


async def test_a_keep_that_dies_is_taken_up_by_the_next(
    shelf: Shelf, store: ObjectStore, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = shelf.make(name)
    put, begun, written = store.put, list[str](), list[str]()

    async def dying(key: str, data: bytes, *, if_none_match: bool = False) -> None:
        begun.append(key)
        if len(begun) > 2:
            while len(written) < 2:
                await asyncio.sleep(0.01)
            raise StoreUnavailable("the worker is killed here")
        await put(key, data, if_none_match=if_none_match)
        written.append(key)

    with monkeypatch.context() as patch:
        patch.setattr(store, "put", dying)
        with pytest.raises(StoreUnavailable):
            await _keep(shelf, store, image_id, name)
    assert not await is_kept(store, image_id)
    before = {info.key async for info in store.list(PACKS)}
    await _keep(shelf, store, image_id, name)
    named = {pack_key(pack) for pack in (await kept(store, image_id)).packs}
    assert set(written) <= named
    assert {info.key async for info in store.list(PACKS)} - before <= named
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


async def test_a_damaged_pack_leaves_no_image(shelf: Shelf, store: ObjectStore, name: str) -> None:
    image_id = shelf.make(name)
    await _keep(shelf, store, image_id, name)
    manifest: ImageManifest = await kept(store, image_id)
    shelf.remove(image_id)
    # The last that comes: the daemon has nearly all of it by then.
    _, pack, offset, *_ = manifest.chunks[manifest.archive[-1]]
    key = pack_key(manifest.packs[pack])
    data = await store.get(key)
    await store.put(key, data[: offset + 5] + bytes([data[offset + 5] ^ 1]) + data[offset + 6 :])
    with pytest.raises(ImageNotFound, match="damaged") as caught:
        await _load(shelf, store, image_id)
    assert not caught.value.retryable
    assert key in str(caught.value)
    assert manifest_key(image_id) in str(caught.value)
    assert await shelf.images.inspect(image_id) is None
    await store.put(key, data)
    await _load(shelf, store, image_id)
    assert await shelf.images.inspect(image_id) is not None


async def test_a_load_that_is_cancelled_leaves_no_image(shelf: Shelf, name: str) -> None:
    image_id = shelf.make(name)
    archive = await shelf.archive(image_id)
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


async def test_a_save_that_is_cancelled_while_it_reads_frees_the_daemon(shelf: Shelf, name: str) -> None:
    image_id = shelf.make(name, 40 * MEBIBYTE)

    async def read() -> None:
        async with aclosing(shelf.images.save(image_id)) as pieces:
            async for _ in pieces:
                begun.set()

    begun = asyncio.Event()
    reading = asyncio.create_task(read())
    await begun.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    shelf.remove(image_id)
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
