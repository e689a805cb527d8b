"""images.verify and images.collect: base images in the store are read and checked, and their leftovers deleted."""

from collections.abc import AsyncIterator, Callable

from temporalio import activity

from activities.errors import ObjectNotFound, SnapshotDamaged, SnapshotError
from activities.heartbeat import beating
from activities.ports.store import ObjectStore
from activities.snapshots.image_format import IMAGES, AnyManifest, keys_named, manifest_key, parse_key
from activities.snapshots.image_leftovers import collect_image_leftovers
from activities.snapshots.image_reading import read_archive, read_manifest, stored_bytes
from activities.snapshots.sealing import PLAIN, Sealer
from activities.upkeep import resumed
from hibernaut.contracts import (
    IMAGES_COLLECT,
    IMAGES_VERIFY,
    CollectImagesRequest,
    CollectImagesResult,
    Damage,
    UpkeepProgress,
    VerifiedImages,
    VerifyImagesRequest,
)
from hibernaut.models.base import Open

LISTED = 200
DETAIL_LENGTH = 400


class _Progress(Open):
    """How far a verification of the images is: what a retry goes on from."""

    after: str = ""
    """Id of the last image that was read whole."""
    found: VerifiedImages = VerifiedImages()


class ImageUpkeepActivities:
    """Runs on the control queue; needs the store alone."""

    def __init__(self, store: ObjectStore, sealer: Sealer = PLAIN) -> None:
        """Use this store."""
        self._store = store
        self._sealer = sealer

    @activity.defn(name=IMAGES_VERIFY.name)
    async def verify(self, request: VerifyImagesRequest) -> VerifiedImages:
        """Read and check every base image; a retry goes on with the image at which the last attempt ended.

        Raises:
            SnapshotSealed: An image is sealed with a key that is not known to this worker.
        """
        del request
        done = resumed(_Progress) or _Progress()
        async with beating() as pulse:
            # Before the first beat: one without details would make the next attempt begin anew.
            pulse.say(UpkeepProgress(text="listing images"), done)
            for image_id in [one async for one in self._image_ids() if one > done.after]:
                before = done

                def tell(text: str, so_far: _Progress = before) -> None:
                    pulse.say(UpkeepProgress(text=text), so_far)

                done = _Progress(after=image_id, found=await self._verified(image_id, done.found, tell))
        return done.found

    @activity.defn(name=IMAGES_COLLECT.name)
    async def collect(self, request: CollectImagesRequest) -> CollectImagesResult:
        """Delete objects of base images that no image has needed for a day.

        Raises:
            SnapshotDamaged: The manifest of an image cannot be read, so nobody knows what it needs; nothing is deleted.
        """
        del request
        async with beating() as pulse:
            pulse.say(UpkeepProgress(text="leftovers of base images"))
            gone = await collect_image_leftovers(self._store, sealer=self._sealer)
        return CollectImagesResult(objects=gone.objects, bytes=gone.bytes)

    async def _image_ids(self) -> AsyncIterator[str]:
        async for info in self._store.list(IMAGES):
            found = parse_key(info.key)
            if found is not None and found.kind == "manifest":
                yield found.image_id

    async def _verified(self, image_id: str, found: VerifiedImages, tell: Callable[[str], None]) -> VerifiedImages:
        """What was found so far, and in this image."""
        try:
            manifest = await read_manifest(self._store, image_id, self._sealer)
            async for _ in read_archive(self._store, manifest, self._sealer, tell):
                pass
        except ObjectNotFound:
            # It is no longer kept.
            return found
        except SnapshotDamaged as error:
            return _damaged(found, image_id, error)
        return _counted(found, manifest)


def _counted(found: VerifiedImages, manifest: AnyManifest) -> VerifiedImages:
    return found.model_copy(
        update={
            "images": found.images + 1,
            "packs": found.packs + len(keys_named(manifest)),
            "bytes": found.bytes + stored_bytes(manifest),
        }
    )


def _damaged(found: VerifiedImages, image_id: str, error: SnapshotError) -> VerifiedImages:
    detail = f"image {image_id} cannot be loaded: {error}"[:DETAIL_LENGTH]
    activity.logger.warning("%s", detail)
    one = Damage(key=manifest_key(image_id), kind="damaged", detail=detail)
    return found.model_copy(
        update={
            "images": found.images + 1,
            "damage": (*found.damage, one)[:LISTED],
            "damages": found.damages + 1,
            "lost": (*found.lost, image_id)[:LISTED],
        }
    )
