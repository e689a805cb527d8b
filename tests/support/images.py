"""Images for tests that need no daemon: an engine that holds archives, and stores that break."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random
import tarfile
import time
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from pathlib import Path

import zstandard
from blake3 import blake3
from temporalio.testing import ActivityEnvironment

from activities.adapters.local_store import LocalStore
from activities.errors import StoreUnavailable
from activities.images import ImageActivities
from activities.ports.images import ImageInfo
from activities.ports.store import ObjectStore
from activities.snapshots.image_format import (
    PACKS,
    ImageManifest,
    Part,
    PartsManifest,
    encode_manifest,
    manifest_key,
    part_key,
)
from activities.snapshots.image_packs import read_table
from activities.snapshots.image_reading import read_manifest
from activities.snapshots.sealing import PLAIN, Key, KeyRing, Sealer
from hibernaut.contracts import KeepImageRequest, KeepImageResult, LoadImageRequest, LoadImageResult

RING = KeyRing([Key("test", bytes(range(32)))])


class ArchiveEngine:
    """A container engine whose image id is the digest of the archive."""

    def __init__(self, *archives: bytes) -> None:
        self.archives = {image_id(archive): archive for archive in archives}
        self.saved = 0

    async def inspect(self, image_id: str) -> ImageInfo | None:
        return ImageInfo(image_id, ()) if image_id in self.archives else None

    async def save(self, image_id: str) -> AsyncGenerator[bytes]:
        self.saved += 1
        archive = self.archives[image_id]
        for start in range(0, len(archive), 30_000):
            yield archive[start : start + 30_000]

    async def load(self, archive: AsyncIterator[bytes]) -> None:
        content = b"".join([piece async for piece in archive])
        self.archives[image_id(content)] = content


class BreakingStore(LocalStore):
    """A folder that counts writes, and stops taking them after some."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.writes_left = 1_000
        self.written: list[str] = []
        self.hold_at = -1
        self.held = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    async def put(self, key: str, data: bytes, *, if_none_match: bool = False) -> None:
        if self.writes_left == 0:
            raise StoreUnavailable("the store is away")
        self.writes_left -= 1
        if self.hold_at == 0:
            self.hold_at = -1
            self.held.set()
            await asyncio.Event().wait()
        self.hold_at -= 1
        self.written.append(key)
        # A thread that writes is not stopped by a cancellation: `settled` waits for it.
        writing = asyncio.create_task(super().put(key, data, if_none_match=if_none_match))
        self._running.add(writing)
        await asyncio.shield(writing)

    async def settled(self) -> None:
        """Wait for writes that were given up by those who began them."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def age(self, key: str, by: timedelta) -> None:
        """Let an object have been written earlier."""
        [path] = [path for path in self.folder.rglob("*") if path.is_file() and str(path).endswith(key)]
        then = time.time() - by.total_seconds()
        os.utime(path, (then, then))


async def keep(engine: ArchiveEngine, store: ObjectStore, wanted: str, sealer: Sealer = PLAIN) -> KeepImageResult:
    """What the activity does, on a host with this engine."""
    request = KeepImageRequest(image_id=wanted, image="tools:1")
    return await ActivityEnvironment().run(ImageActivities("h", engine, store, sealer).keep, request)


async def load(engine: ArchiveEngine, store: ObjectStore, wanted: str, sealer: Sealer = PLAIN) -> LoadImageResult:
    """The same."""
    activities = ImageActivities("h", engine, store, sealer)
    return await ActivityEnvironment().run(activities.load, LoadImageRequest(image_id=wanted))


async def assert_loads(store: ObjectStore, archive: bytes, sealer: Sealer = PLAIN) -> None:
    """Fail unless a host that has nothing comes to have this image, and no other."""
    other = ArchiveEngine()
    await load(other, store, image_id(archive), sealer)
    assert other.archives == {image_id(archive): archive}


def image_id(archive: bytes) -> str:
    return f"sha256:{hashlib.sha256(archive).hexdigest()}"


def image_archive(*layers: bytes) -> bytes:
    """An archive as `docker save` makes them, of layers with these contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for layer in sorted(layers, key=lambda layer: hashlib.sha256(layer).hexdigest()):
            member = tarfile.TarInfo(f"{hashlib.sha256(layer).hexdigest()}/layer.tar")
            member.size = len(layer)
            archive.addfile(member, io.BytesIO(layer))
    return buffer.getvalue()


def content(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


async def kept(store: ObjectStore, image_id: str, sealer: Sealer = PLAIN) -> ImageManifest:
    """The manifest of an image in format 2."""
    manifest = await read_manifest(store, image_id, sealer)
    assert isinstance(manifest, ImageManifest)
    return manifest


async def keep_as_format_1(store: ObjectStore, archive: bytes, part: int, image: str | None = None) -> PartsManifest:
    """What an older release would have written, in parts of this size."""
    wanted = image or image_id(archive)
    parts: list[Part] = []
    for start in range(0, len(archive), part):
        plain = archive[start : start + part]
        frame = zstandard.ZstdCompressor(level=3).compress(plain)
        parts.append(Part(digest=blake3(frame).hexdigest(), stored=len(frame), plain=len(plain)))
        await store.put(part_key(wanted, parts[-1].digest), frame)
    manifest = PartsManifest(image_id=wanted, name="old:1", parts=tuple(parts))
    await store.put(manifest_key(manifest.image_id), encode_manifest(manifest))
    return manifest


async def chunks_stored(store: ObjectStore, sealer: Sealer = PLAIN) -> list[bytes]:
    """The digest of every chunk in every pack: one that is stored twice is there twice."""
    return [digest async for info in store.list(PACKS) for digest in await read_table(store, info, sealer)]


async def keys(store: ObjectStore, prefix: str = "images/") -> set[str]:
    return {info.key async for info in store.list(prefix)}
