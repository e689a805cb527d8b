"""Puts the archive of an image into the store: cut, without what is there, compressed, packed, and named by a manifest.

At most about 120 MiB at once, however large the image is: some 25 of the archive, a pack being filled, three on their
way, and what the allocator holds back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING

from activities.errors import ObjectExists, StoreUnavailable
from activities.snapshots.chunking import digest_of
from activities.snapshots.image_format import ImageManifest, Place, encode_manifest, manifest_key, pack_key
from activities.snapshots.image_known import Tables, packs_present
from activities.snapshots.image_packs import MAXIMUM_BYTES, PackBuilder, cut, frame_of
from activities.snapshots.sealing import PLAIN, Sealer

if TYPE_CHECKING:
    from activities.ports.store import ObjectStore
    from activities.snapshots.image_known import Known

THREADS = 2
UPLOADS = 3
BATCH_BYTES = 4 << 20
"""Of the archive, cut and compressed at once while the next are being read."""


class ImageWriter:
    """Keeps images in a store; remembers what it knows of those that are there."""

    def __init__(self, store: ObjectStore, sealer: Sealer = PLAIN) -> None:
        self._store = store
        self._sealer = sealer
        self._tables = Tables(store, sealer)

    async def write(self, image_id: str, name: str, archive: AsyncGenerator[bytes], say: Callable[[str], None]) -> int:
        """Store what the store has not, then the manifest, unless another host was first; return the bytes stored.

        Raises:
            StoreUnavailable: What was to be used of other images has vanished meanwhile; the next attempt sees it.
        """
        known = await self._tables.look()
        with ThreadPoolExecutor(THREADS, thread_name_prefix="image") as pool:
            work = _Work(self._store, self._sealer, known, pool)
            async with aclosing(_ahead(_batches(archive))) as batches:
                try:
                    async for chunks in batches:
                        await work.add(chunks)
                        say(f"{work.size >> 20} MiB of {name} looked at, {work.stored >> 20} MiB stored")
                    await work.finish()
                finally:
                    await work.close()
        manifest = work.manifest(image_id, name)
        # Packs that nobody names are removed after a day, and those of a damaged image by hand.
        if known.is_stale or not set(manifest.packs) <= await packs_present(self._store):
            raise StoreUnavailable(f"packs that image {image_id} was to share are no longer in the store; try again")
        data = encode_manifest(manifest, self._sealer)
        try:
            await self._store.put(manifest_key(image_id), data, if_none_match=True)
        except ObjectExists:
            # Another host was first. What is ours alone others may be using already: age will tell.
            return work.stored
        return work.stored + len(data)


class _Work:
    """One archive on its way into the store."""

    def __init__(self, store: ObjectStore, sealer: Sealer, known: Known, pool: ThreadPoolExecutor) -> None:
        self._store = store
        self._sealer = sealer
        self._known = known.places
        self._pool = pool
        self._pack = PackBuilder(sealer)
        self._places: dict[bytes, Place] = {}
        self._numbers: dict[bytes, int] = {}
        self._archive: list[int] = []
        self._room = asyncio.Semaphore(UPLOADS)
        self._uploads: set[asyncio.Task[None]] = set()
        self.size = 0
        self.stored = 0

    async def add(self, chunks: list[bytes]) -> None:
        """Take the next chunks of the archive."""
        new: dict[bytes, bytes] = {}
        for chunk in chunks:
            digest = digest_of(chunk)
            self.size += len(chunk)
            if digest not in self._numbers:
                self._numbers[digest] = len(self._numbers)
                if digest in self._known:
                    self._places[digest] = self._known[digest]
                else:
                    new[digest] = chunk
            self._archive.append(self._numbers[digest])
        run = asyncio.get_running_loop().run_in_executor
        frames = await asyncio.gather(*(run(self._pool, frame_of, chunk, self._sealer) for chunk in new.values()))
        for (digest, chunk), frame in zip(new.items(), frames, strict=True):
            if not self._pack.fits(frame):
                await self._send()
            self._pack.add(digest, frame, len(chunk))

    async def finish(self) -> None:
        """Store the last pack, and wait until all are stored."""
        if not self._pack.is_empty:
            await self._send()
        await asyncio.gather(*self._uploads)

    async def close(self) -> None:
        """Stop what is on its way."""
        for upload in self._uploads:
            upload.cancel()
        await asyncio.gather(*self._uploads, return_exceptions=True)

    def manifest(self, image_id: str, name: str) -> ImageManifest:
        """The manifest of the whole archive."""
        packs = {place.pack: None for place in self._places.values()}
        indices = {pack: index for index, pack in enumerate(packs)}
        return ImageManifest(
            image_id=image_id,
            name=name,
            size=self.size,
            packs=tuple(packs),
            chunks=tuple(
                (digest.hex(), indices[place.pack], place.offset, place.stored, place.plain)
                for digest in self._numbers
                for place in (self._places[digest],)
            ),
            archive=tuple(self._archive),
        )

    async def _send(self) -> None:
        """Begin to store the pack once there is room; fail when one before it has."""
        await self._room.acquire()
        for upload in [upload for upload in self._uploads if upload.done()]:
            self._uploads.remove(upload)
            upload.result()
        pack = self._pack.finish()
        self._places |= pack.places
        self._uploads.add(asyncio.create_task(self._put(pack.digest, pack.data)))

    async def _put(self, digest: str, data: bytes) -> None:
        try:
            await self._store.put(pack_key(digest), data)
            self.stored += len(data)
        finally:
            self._room.release()


async def _batches(archive: AsyncGenerator[bytes]) -> AsyncGenerator[list[bytes]]:
    """The chunks of an archive, some megabytes at a time."""
    buffer = bytearray()
    async with aclosing(archive):
        async for piece in archive:
            buffer += piece
            if len(buffer) >= BATCH_BYTES + MAXIMUM_BYTES:
                chunks, size = await asyncio.to_thread(cut, bytes(buffer), last=False)
                del buffer[:size]
                yield chunks
    chunks, _ = await asyncio.to_thread(cut, bytes(buffer), last=True)
    yield chunks


async def _ahead(batches: AsyncGenerator[list[bytes]]) -> AsyncGenerator[list[bytes]]:
    """The same, the next one being read while one is worked on."""

    async def read() -> list[bytes] | None:
        return await anext(batches, None)

    coming: asyncio.Task[list[bytes] | None] = asyncio.create_task(read())
    try:
        while (batch := await coming) is not None:
            coming = asyncio.create_task(read())
            yield batch
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await batches.aclose()
