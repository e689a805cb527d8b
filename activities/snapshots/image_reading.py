"""Reads the archive of a kept image: fetched ahead, a few ranges at once, and every byte verified before it is used.

At most about 60 MiB at once, however large the image is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import zstandard
from blake3 import blake3

from activities.errors import ObjectNotFound, SnapshotDamaged
from activities.snapshots.chunking import digest_of
from activities.snapshots.image_format import (
    ImageManifest,
    Part,
    PartsManifest,
    decode_manifest,
    manifest_key,
    pack_key,
    part_key,
)
from activities.snapshots.packs import open_frame
from activities.snapshots.sealing import PLAIN, Sealer

if TYPE_CHECKING:
    from activities.ports.store import ObjectStore
    from activities.snapshots.image_format import AnyManifest

PARALLEL = 4
RANGE_BYTES = 4 << 20
"""Stored bytes asked for at once, but for a single chunk that is longer."""
PLAIN_BYTES = 8 << 20
"""Of the archive in one range, however well it is compressed."""
GAP_BYTES = 256 << 10
"""Read and thrown away, rather than asked for what follows in a request of its own."""


@dataclass(slots=True)
class _Run:
    """Chunks that one request brings."""

    pack: str
    start: int
    end: int
    plain: int = 0
    frames: dict[int, tuple[int, int, bytes]] = field(default_factory=dict[int, tuple[int, int, bytes]])
    """By the chunk's index: offset, stored bytes, digest."""
    order: list[int] = field(default_factory=list[int])
    """Indices of chunks, as they are in the archive."""


async def read_manifest(store: ObjectStore, image_id: str, sealer: Sealer = PLAIN) -> AnyManifest:
    """Read the manifest of a kept image.

    Raises:
        ObjectNotFound: The image is not kept.
        SnapshotDamaged: The manifest cannot be read.
        SnapshotSealed: It is sealed with a key that is not known here.
    """
    data = await store.get(manifest_key(image_id))
    return await asyncio.to_thread(decode_manifest, data, image_id, sealer)


def stored_bytes(manifest: AnyManifest) -> int:
    """Bytes that are read to have the whole archive, but for gaps and repetitions."""
    if isinstance(manifest, PartsManifest):
        return sum(part.stored for part in manifest.parts)
    return sum(stored for _, _, _, stored, _ in manifest.chunks)


async def read_archive(
    store: ObjectStore, manifest: AnyManifest, sealer: Sealer, say: Callable[[str], None]
) -> AsyncGenerator[bytes]:
    """Yield the archive; what was yielded is verified.

    Raises:
        SnapshotDamaged: What comes next is missing or does not match its digest.
        SnapshotSealed: It is sealed with a key that is not known here.
    """
    done, total = 0, stored_bytes(manifest)
    pieces = _parts(store, manifest) if isinstance(manifest, PartsManifest) else _chunks(store, manifest, sealer)
    try:
        async for piece, stored in pieces:
            done += stored
            say(f"{done >> 20} of {total >> 20} MiB of {manifest.name} read from the store")
            yield piece
    finally:
        await pieces.aclose()


async def _chunks(store: ObjectStore, manifest: ImageManifest, sealer: Sealer) -> AsyncGenerator[tuple[bytes, int]]:
    """Format 2: the archive, and the stored bytes it took."""
    runs = _runs(manifest)
    coming: deque[asyncio.Task[dict[int, bytes]]] = deque()
    under_way: deque[_Run] = deque()
    try:
        while True:
            while len(coming) < PARALLEL and (run := next(runs, None)) is not None:
                under_way.append(run)
                coming.append(asyncio.create_task(_fetch(store, run, manifest, sealer)))
            if not coming:
                return
            found = await coming[0]
            coming.popleft()
            run = under_way.popleft()
            stored = sum(stored for _, stored, _ in run.frames.values())
            for index in run.order:
                yield found[index], stored
                stored = 0
    finally:
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)


def _runs(manifest: ImageManifest) -> Iterator[_Run]:
    """Group what follows each other both in the archive and in a pack."""
    run: _Run | None = None
    for index in manifest.archive:
        digest, pack, offset, stored, plain = manifest.chunks[index]
        name = manifest.packs[pack]
        if run is not None and index in run.frames:
            run.order.append(index)
            continue
        if (
            run is None
            or run.pack != name
            or not 0 <= offset - run.end <= GAP_BYTES
            or offset + stored - run.start > RANGE_BYTES
            or run.plain + plain > PLAIN_BYTES
        ):
            if run is not None:
                yield run
            run = _Run(name, offset, offset)
        run.frames[index] = (offset, stored, bytes.fromhex(digest))
        run.order.append(index)
        run.end = offset + stored
        run.plain += plain
    if run is not None:
        yield run


async def _fetch(store: ObjectStore, run: _Run, manifest: ImageManifest, sealer: Sealer) -> dict[int, bytes]:
    """Get the chunks of a run, verified."""
    try:
        data = await store.get_range(pack_key(run.pack), run.start, run.end - run.start)
    except ObjectNotFound:
        raise SnapshotDamaged(f"its pack {pack_key(run.pack)} is missing") from None

    def open_all() -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for index, (offset, stored, digest) in run.frames.items():
            start = offset - run.start
            try:
                chunk = open_frame(data[start : start + stored], manifest.chunks[index][4], sealer)
            except SnapshotDamaged:
                chunk = b""
            if digest_of(chunk) != digest:
                raise SnapshotDamaged(f"a chunk in its pack {pack_key(run.pack)} does not match its digest")
            found[index] = chunk
        return found

    return await asyncio.to_thread(open_all)


async def _parts(store: ObjectStore, manifest: PartsManifest) -> AsyncGenerator[tuple[bytes, int]]:
    """Format 1."""
    total = len(manifest.parts)
    for number, part in enumerate(manifest.parts, start=1):
        try:
            # One byte more than there is to be: an object that has grown is not read whole.
            stored = await store.get_range(part_key(manifest.image_id, part.digest), 0, part.stored + 1)
        except ObjectNotFound:
            raise SnapshotDamaged(f"part {number} of {total} is missing") from None
        plain = await asyncio.to_thread(_open_part, part, stored)
        if plain is None:
            raise SnapshotDamaged(f"part {number} of {total} does not match its digest")
        yield plain, part.stored


def _open_part(part: Part, stored: bytes) -> bytes | None:
    """The part's piece of the archive; None when these are not its bytes."""
    if len(stored) != part.stored or blake3(stored).hexdigest() != part.digest:
        return None
    try:
        # What the frame claims is what the library allocates.
        if zstandard.frame_content_size(stored) != part.plain:
            return None
        return zstandard.ZstdDecompressor().decompress(stored)
    except zstandard.ZstdError:
        return None
