"""image.keep and image.load: a base image in the object store, so that a wake on another host needs nothing else.

How an image is kept is described in docs/snapshot-format.md, "Base images".
"""

import asyncio
import re
import time
from contextlib import aclosing

from temporalio import activity

from activities.errors import ImageNotFound, ObjectNotFound, SnapshotDamaged
from activities.heartbeat import Pulse, beating
from activities.ports.images import Images
from activities.ports.store import ObjectStore
from activities.snapshots.image_format import manifest_key
from activities.snapshots.image_reading import read_archive, read_manifest, stored_bytes
from activities.snapshots.image_writing import ImageWriter
from activities.snapshots.sealing import PLAIN, Sealer
from hibernaut.contracts import (
    IMAGE_KEEP,
    IMAGE_LOAD,
    KeepImageRequest,
    KeepImageResult,
    LoadImageRequest,
    LoadImageResult,
)

IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")


async def is_kept(store: ObjectStore, image_id: str) -> bool:
    """Whether a store holds an image."""
    return await store.head(manifest_key(image_id)) is not None


class ImageActivities:
    """Runs on a sandbox host's own queue; one image at a time each way, which bounds the memory."""

    def __init__(self, host_id: str, images: Images, store: ObjectStore, sealer: Sealer = PLAIN) -> None:
        """Use this host's images."""
        self._host_id = host_id
        self._images = images
        self._store = store
        self._sealer = sealer
        self._writer = ImageWriter(store, sealer)
        self._keeping = asyncio.Lock()
        self._loading = asyncio.Lock()

    @activity.defn(name=IMAGE_KEEP.name)
    async def keep(self, request: KeepImageRequest) -> KeepImageResult:
        """Put an image into the store unless it is there; what is there of it, or of others, is not stored again.

        Raises:
            ImageNotFound: The image is not on this host.
        """
        begun = time.monotonic()
        image_id = _checked(request.image_id)
        stored = 0
        async with beating() as pulse, self._keeping:
            if not await is_kept(self._store, image_id):
                if await self._images.inspect(image_id) is None:
                    raise ImageNotFound(
                        f"image {request.image} ({image_id}) is no longer on host {self._host_id} and cannot be kept; "
                        "pull, build or load it there"
                    )
                archive = self._images.save(image_id)
                stored = await self._writer.write(image_id, request.image, archive, pulse.say)
        return KeepImageResult(ref=manifest_key(image_id), bytes_stored=stored, duration_ms=_since(begun))

    @activity.defn(name=IMAGE_LOAD.name)
    async def load(self, request: LoadImageRequest) -> LoadImageResult:
        """Load an image from the store unless it is on the host; every chunk is verified before the daemon sees it.

        Raises:
            ImageNotFound: The store does not hold it, or not undamaged, or the daemon makes another image of it.
            SandboxRefused: The daemon rejects the archive.
            SnapshotSealed: It is encrypted with a key that this host does not have.
        """
        begun = time.monotonic()
        image_id = _checked(request.image_id)
        read = 0
        async with beating() as pulse, self._loading:
            if await self._images.inspect(image_id) is None:
                read = await self._load(image_id, pulse)
                found = await self._images.inspect(image_id)
                if found is None or found.image_id != image_id:
                    raise ImageNotFound(
                        f"the Docker daemon of host {self._host_id} made another image of the archive of "
                        f"{image_id}: its image store differs from that of the host that kept it; "
                        "load or pull the image there by hand"
                    )
        return LoadImageResult(image_id=image_id, bytes=read, duration_ms=_since(begun))

    async def _load(self, image_id: str, pulse: Pulse) -> int:
        try:
            manifest = await read_manifest(self._store, image_id, self._sealer)
            async with aclosing(read_archive(self._store, manifest, self._sealer, pulse.say)) as archive:
                await self._images.load(archive)
        except ObjectNotFound:
            raise ImageNotFound(
                f"image {image_id} is neither on host {self._host_id} nor kept in the object store; "
                "pull, build or load it there"
            ) from None
        except SnapshotDamaged as error:
            raise ImageNotFound(
                f"image {image_id} is not on host {self._host_id}, and its copy in the object store is damaged: "
                f"{error}; pull, build or load the image there, and delete {manifest_key(image_id)} and the damaged "
                "object from the store: the next sandbox of this image keeps it again"
            ) from None
        return stored_bytes(manifest)


def _checked(image_id: str) -> str:
    if IMAGE_ID.fullmatch(image_id) is None:
        raise ImageNotFound(f"{image_id[:100]!r} is no image id: sha256: and 64 hexadecimal digits are")
    return image_id


def _since(begun: float) -> int:
    return int((time.monotonic() - begun) * 1000)
