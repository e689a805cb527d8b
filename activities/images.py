"""image.keep and image.load: a base image in the object store, so that a wake on another host needs nothing else.

An image is kept as its archive, cut into parts of 32 MiB, each a zstd frame of its own under its own digest; a manifest
that names them is written last. docs/snapshot-format.md describes both.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

import zstandard
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from temporalio import activity

from activities.errors import ImageNotFound, ObjectExists, ObjectNotFound
from activities.heartbeat import Pulse, beating
from activities.ports.images import Images
from activities.ports.store import ObjectStore
from hibernaut.contracts import (
    IMAGE_KEEP,
    IMAGE_LOAD,
    KeepImageRequest,
    KeepImageResult,
    LoadImageRequest,
    LoadImageResult,
    StoreKeys,
)

PART = 32 * 1024 * 1024
"""Bytes of the archive in one part: with the usual image, about 16 MiB compressed."""
STORED_LIMIT = 2 * PART
"""No frame of a part is as long, compressible or not: a longer object is none of ours."""
LEVEL = 3
THREADS = 2
MEBIBYTE = 1024 * 1024
IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")
DIGEST = r"^[0-9a-f]{64}$"


class Part(BaseModel):
    """One piece of the archive."""

    model_config = ConfigDict(frozen=True)

    digest: str = Field(pattern=DIGEST)
    """BLAKE3 of the stored bytes; also the name of the object."""
    stored: int = Field(gt=0, le=STORED_LIMIT)
    """Bytes of the object."""
    plain: int = Field(gt=0, le=PART)
    """Bytes of the archive in it."""


class ImageManifest(BaseModel):
    """Names the parts of a kept image, in order: the image is kept when this is written."""

    model_config = ConfigDict(frozen=True)

    format: Literal["hibernaut-image/1"] = "hibernaut-image/1"
    image_id: str
    name: str
    """What the image was called when it was kept; for people alone."""
    parts: tuple[Part, ...] = Field(min_length=1)


def manifest_key(image_id: str) -> str:
    """Key of an image's manifest."""
    return StoreKeys.image(image_id, "image.json")


def part_key(image_id: str, digest: str) -> str:
    """Key of a part: of its content, so that two hosts that keep one image cannot mix theirs up."""
    return StoreKeys.image(image_id, f"{digest}.part")


async def is_kept(store: ObjectStore, image_id: str) -> bool:
    """Whether a store holds an image."""
    return await store.head(manifest_key(image_id)) is not None


class ImageActivities:
    """Runs on a sandbox host's own queue; one image at a time each way, which bounds the memory."""

    def __init__(self, host_id: str, images: Images, store: ObjectStore) -> None:
        """Use this host's images."""
        self._host_id = host_id
        self._images = images
        self._store = store
        self._keeping = asyncio.Lock()
        self._loading = asyncio.Lock()

    @activity.defn(name=IMAGE_KEEP.name)
    async def keep(self, request: KeepImageRequest) -> KeepImageResult:
        """Put an image into the store unless it is there; a retry uploads no part again.

        Raises:
            ImageNotFound: The image is not on this host.
        """
        begun = time.monotonic()
        _check_id(request.image_id)
        key = manifest_key(request.image_id)
        stored = 0
        async with beating() as pulse, self._keeping:
            if not await is_kept(self._store, request.image_id):
                stored = await self._keep(request, pulse)
        return KeepImageResult(ref=key, bytes_stored=stored, duration_ms=_since(begun))

    @activity.defn(name=IMAGE_LOAD.name)
    async def load(self, request: LoadImageRequest) -> LoadImageResult:
        """Load an image from the store unless it is on the host; every part is verified before it is used.

        Raises:
            ImageNotFound: The store does not hold it, or not undamaged, or the daemon makes another image of it.
            SandboxRefused: The daemon rejects the archive.
        """
        begun = time.monotonic()
        _check_id(request.image_id)
        read = 0
        async with beating() as pulse, self._loading:
            if await self._images.inspect(request.image_id) is None:
                manifest = await self._manifest(request.image_id)
                async with aclosing(self._archive(manifest, pulse)) as archive:
                    await self._images.load(archive)
                read = sum(part.stored for part in manifest.parts)
                found = await self._images.inspect(request.image_id)
                if found is None or found.image_id != request.image_id:
                    raise ImageNotFound(
                        f"the Docker daemon of host {self._host_id} made another image of the archive of "
                        f"{request.image_id}: its image store differs from that of the host that kept it; "
                        "load or pull the image there by hand"
                    )
        return LoadImageResult(image_id=request.image_id, bytes=read, duration_ms=_since(begun))

    async def _keep(self, request: KeepImageRequest, pulse: Pulse) -> int:
        """Store every part, then the manifest; bytes stored."""
        image_id = request.image_id
        if await self._images.inspect(image_id) is None:
            raise ImageNotFound(
                f"image {request.image} ({image_id}) is no longer on host {self._host_id} and cannot be kept; "
                "pull, build or load it there"
            )
        parts: list[Part] = []
        stored = 0
        async with aclosing(_cut(self._images.save(image_id))) as pieces:
            async for piece in pieces:
                part, frame = await asyncio.to_thread(_pack, piece)
                key = part_key(image_id, part.digest)
                known = await self._store.head(key)
                if known is None or known.size != part.stored:
                    await self._store.put(key, frame)
                    stored += part.stored
                parts.append(part)
                pulse.say(f"{sum(part.plain for part in parts) // MEBIBYTE} MiB of {request.image} kept")
        manifest = ImageManifest(image_id=image_id, name=request.image, parts=tuple(parts))
        data = manifest.model_dump_json().encode()
        try:
            await self._store.put(manifest_key(image_id), data, if_none_match=True)
            stored += len(data)
        except ObjectExists:
            # Another host was first; its archive may be cut into other bytes.
            manifest = await self._manifest(image_id)
        await self._drop_others(manifest)
        return stored

    async def _drop_others(self, manifest: ImageManifest) -> None:
        """Delete parts of attempts that did not get to their manifest; one under way will find this one."""
        named = {part_key(manifest.image_id, part.digest) for part in manifest.parts} | {
            manifest_key(manifest.image_id)
        }
        prefix = StoreKeys.image(manifest.image_id, "")
        await self._store.delete([info.key async for info in self._store.list(prefix) if info.key not in named])

    async def _manifest(self, image_id: str) -> ImageManifest:
        try:
            manifest = ImageManifest.model_validate_json(await self._store.get(manifest_key(image_id)))
        except ObjectNotFound:
            raise ImageNotFound(
                f"image {image_id} is neither on host {self._host_id} nor kept in the object store; "
                "pull, build or load it there"
            ) from None
        except ValidationError as error:
            raise self._damaged(image_id, f"its manifest cannot be read ({error.error_count()} errors)") from None
        if manifest.image_id != image_id:
            raise self._damaged(image_id, f"its manifest is that of {manifest.image_id[:100]}")
        return manifest

    async def _archive(self, manifest: ImageManifest, pulse: Pulse) -> AsyncGenerator[bytes]:
        image_id, total = manifest.image_id, len(manifest.parts)
        for index, part in enumerate(manifest.parts, start=1):
            key = part_key(image_id, part.digest)
            try:
                # One byte more than there is to be: an object that has grown is not read whole.
                frame = await self._store.get_range(key, 0, part.stored + 1)
            except ObjectNotFound:
                raise self._damaged(image_id, f"part {index} of {total} is missing") from None
            plain = await asyncio.to_thread(_unpack, part, frame)
            if plain is None:
                raise self._damaged(image_id, f"part {index} of {total} does not match its digest")
            pulse.say(f"part {index} of {total} of {manifest.name} loaded")
            yield plain

    def _damaged(self, image_id: str, what: str) -> ImageNotFound:
        return ImageNotFound(
            f"image {image_id} is not on host {self._host_id}, and its copy in the object store is damaged: {what}; "
            f"pull, build or load the image there, and delete {StoreKeys.image(image_id, '')} from the store: "
            "the next sandbox of this image keeps it again"
        )


def _check_id(image_id: str) -> None:
    if IMAGE_ID.fullmatch(image_id) is None:
        raise ImageNotFound(f"{image_id[:100]!r} is no image id: sha256: and 64 hexadecimal digits are")


async def _cut(archive: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Pieces of exactly PART bytes, but for the last."""
    buffer = bytearray()
    async with aclosing(archive):
        async for chunk in archive:
            buffer += chunk
            while len(buffer) >= PART:
                yield bytes(buffer[:PART])
                del buffer[:PART]
    if buffer:
        yield bytes(buffer)


def _pack(piece: bytes) -> tuple[Part, bytes]:
    frame = zstandard.ZstdCompressor(level=LEVEL, threads=THREADS).compress(piece)
    return Part(digest=blake3(frame).hexdigest(), stored=len(frame), plain=len(piece)), frame


def _unpack(part: Part, frame: bytes) -> bytes | None:
    """The part's piece of the archive; None when these are not its bytes."""
    if len(frame) != part.stored or blake3(frame).hexdigest() != part.digest:
        return None
    try:
        # What the frame claims is what the library allocates.
        if zstandard.frame_content_size(frame) != part.plain:
            return None
        return zstandard.ZstdDecompressor().decompress(frame)
    except zstandard.ZstdError:
        return None


def _since(begun: float) -> int:
    return int((time.monotonic() - begun) * 1000)
