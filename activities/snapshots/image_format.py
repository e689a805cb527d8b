"""A kept base image in the store: its manifest, of either format. See `docs/snapshot-format.md`, "Base images"."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from activities.errors import SnapshotDamaged
from activities.snapshots.sealing import PLAIN, Sealer
from hibernaut.contracts import StoreKeys

IMAGES = "images/"
PACKS = f"{IMAGES}packs/"
MAX_CHUNK_BYTES = 8 << 20
"""Longer chunks are refused when read."""
MAX_PACK_BYTES = 64 << 20
"""Nothing lies further into a pack than this."""
PART = 32 << 20
"""Bytes of the archive in one part of format 1."""

_KEY = re.compile(rf"{IMAGES}(?P<image>[0-9a-f]{{64}})/(?P<name>image\.json|image\.json\.dropped|[0-9a-f]{{64}}\.part)")
_PACK_KEY = re.compile(rf"{PACKS}(?P<digest>[0-9a-f]{{64}})")

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Index = Annotated[int, Field(ge=0)]
Offset = Annotated[int, Field(ge=0, le=MAX_PACK_BYTES)]
Stored = Annotated[int, Field(gt=0, le=2 * MAX_CHUNK_BYTES)]
Plain = Annotated[int, Field(gt=0, le=MAX_CHUNK_BYTES)]


class Place(NamedTuple):
    """Where a chunk lies."""

    pack: str
    """Digest of the pack: its name."""
    offset: int
    """Of the chunk's frame in the pack."""
    stored: int
    """Bytes of the frame in the pack."""
    plain: int
    """Bytes of the chunk."""


class Part(BaseModel):
    """One piece of the archive in format 1."""

    model_config = ConfigDict(frozen=True)

    digest: Digest
    """BLAKE3 of the stored bytes; also the name of the object."""
    stored: int = Field(gt=0, le=2 * PART)
    """Bytes of the object."""
    plain: int = Field(gt=0, le=PART)
    """Bytes of the archive in it."""


class PartsManifest(BaseModel):
    """Format 1, which is read and no longer written: names the parts of a kept image, in order."""

    model_config = ConfigDict(frozen=True)

    format: Literal["hibernaut-image/1"] = "hibernaut-image/1"
    image_id: str
    name: str
    parts: tuple[Part, ...] = Field(min_length=1)


class ImageManifest(BaseModel):
    """Format 2: names the chunks of a kept image and where they lie. The image is kept when this is written."""

    model_config = ConfigDict(frozen=True)

    format: Literal["hibernaut-image/2"] = "hibernaut-image/2"
    image_id: str
    name: str
    """What the image was called when it was kept; for people alone."""
    size: Index
    """Bytes of the archive."""
    packs: tuple[Digest, ...]
    """Names of packs, those of other images included."""
    chunks: tuple[tuple[Digest, Index, Offset, Stored, Plain], ...] = Field(min_length=1)
    """(digest, index in `packs`, offset, stored bytes, plain bytes)."""
    archive: tuple[Index, ...] = Field(min_length=1)
    """Indices in `chunks`: one after the other they are the archive."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if any(pack >= len(self.packs) for _, pack, *_ in self.chunks) or max(self.archive) >= len(self.chunks):
            raise ValueError("an index leads nowhere")
        if sum(self.chunks[index][4] for index in self.archive) != self.size:
            raise ValueError("the chunks do not add up to the size")
        return self

    def places(self) -> dict[bytes, Place]:
        """Where each chunk lies, by its digest."""
        return {
            bytes.fromhex(digest): Place(self.packs[pack], offset, stored, plain)
            for digest, pack, offset, stored, plain in self.chunks
        }


AnyManifest = ImageManifest | PartsManifest
_MANIFEST: TypeAdapter[AnyManifest] = TypeAdapter(Annotated[AnyManifest, Field(discriminator="format")])


class ImageKey(NamedTuple):
    """An object in the folder of one image."""

    image_id: str
    kind: Literal["manifest", "dropped", "part"]


def manifest_key(image_id: str) -> str:
    """Key of an image's manifest."""
    return StoreKeys.image(image_id, "image.json")


def dropped_key(image_id: str) -> str:
    """Key of what remains, for a while, of the manifest of an image that is no longer kept."""
    # It sorts behind the manifest: who lists the one before it is dropped, and misses it, finds the other.
    return StoreKeys.image(image_id, "image.json.dropped")


def part_key(image_id: str, digest: str) -> str:
    """Key of a part of format 1."""
    return StoreKeys.image(image_id, f"{digest}.part")


def pack_key(digest: str) -> str:
    """Key of a pack."""
    return f"{PACKS}{digest}"


def pack_of(key: str) -> str | None:
    """The digest in a pack's key; None when the key is none."""
    found = _PACK_KEY.fullmatch(key)
    return found["digest"] if found else None


def parse_key(key: str) -> ImageKey | None:
    """What lies under a key in the folder of an image; None when it is nothing of ours."""
    found = _KEY.fullmatch(key)
    if found is None:
        return None
    names: dict[str, Literal["manifest", "dropped"]] = {"image.json": "manifest", "image.json.dropped": "dropped"}
    return ImageKey(f"sha256:{found['image']}", names.get(found["name"], "part"))


def encode_manifest(manifest: AnyManifest, sealer: Sealer = PLAIN) -> bytes:
    """The object of a manifest."""
    return sealer.seal(manifest.model_dump_json().encode(), manifest_key(manifest.image_id).encode())


def decode_manifest(data: bytes, image_id: str, sealer: Sealer = PLAIN) -> AnyManifest:
    """Read a manifest of either format.

    Raises:
        SnapshotDamaged: It cannot be read, or is another image's.
        SnapshotSealed: It is sealed with a key that is not known here.
    """
    try:
        manifest = _MANIFEST.validate_json(sealer.open(data, manifest_key(image_id).encode()))
    except ValidationError as error:
        raise SnapshotDamaged(f"its manifest cannot be read ({error.error_count()} errors)") from None
    if manifest.image_id != image_id:
        raise SnapshotDamaged(f"its manifest is that of {manifest.image_id[:100]}")
    return manifest


def keys_named(manifest: AnyManifest) -> set[str]:
    """The keys of everything a manifest needs."""
    if isinstance(manifest, PartsManifest):
        return {part_key(manifest.image_id, part.digest) for part in manifest.parts}
    return {pack_key(digest) for digest in manifest.packs}
