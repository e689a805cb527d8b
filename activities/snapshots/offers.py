"""Offers: tables of the chunks that an agent stored in bulk, so that others borrow them instead of storing them again.

An offer is made once the snapshot counts, and only while the agent is alive: first its marker says that others may name
its packs, then its head is seen to be as it was written, then the table is written. A deletion removes the head first
and looks for the marker last. So whoever finds an offer can rely on it that the agent's packs are deleted by the
collection alone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

import zstandard
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, ValidationError

from activities.errors import SnapshotDamaged
from activities.snapshots import layout
from activities.snapshots.chunking import DIGEST_BYTES
from activities.snapshots.manifest import Digest, Natural
from activities.snapshots.tables import Tables, locations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activities.ports.store import ObjectStore
    from activities.snapshots.head import Heads
    from activities.snapshots.packs import Location
    from activities.snapshots.sealing import Sealer

MAGIC = b"HIBERNAUT-CHNK1\n"
OFFER_BYTES = 4 << 20
"""A snapshot that stored less makes no offer: requests cost, and small turns are seldom the same."""
_HEAD = len(MAGIC) + DIGEST_BYTES
_MAX_BYTES = 256 << 20
_MARK = b"hibernaut-shared/1\n"


class Offer(BaseModel):
    """The JSON document."""

    model_config = ConfigDict(frozen=True)

    format: Literal["hibernaut-chunks"] = "hibernaut-chunks"
    version: Literal[1] = 1
    agent_uid: str
    number: Natural
    """The snapshot that stored the chunks."""
    packs: list[str]
    frames: list[tuple[Natural, Natural, Natural, Natural]]
    chunks: list[tuple[Digest, Natural, Natural, Natural]]
    """As in a manifest."""


def encode(offer: Offer, sealer: Sealer) -> bytes:
    """Return the object's bytes."""
    payload = zstandard.ZstdCompressor(level=3).compress(offer.model_dump_json().encode())
    key = layout.index_key(offer.agent_uid, offer.number)
    return sealer.seal(MAGIC + blake3(payload).digest() + payload, key.encode())


def decode(stored: bytes, key: str, sealer: Sealer) -> Offer:
    """Read the object under a key.

    Raises:
        SnapshotDamaged: It is no offer, or that of another.
        SnapshotSealed: It is sealed with a key that is not known here.
    """
    data = sealer.open(stored, key.encode())
    payload = data[_HEAD:]
    try:
        if data[: len(MAGIC)] != MAGIC or data[len(MAGIC) : _HEAD] != blake3(payload).digest():
            raise ValueError
        if zstandard.frame_content_size(payload) > _MAX_BYTES:
            raise ValueError
        offer = Offer.model_validate_json(zstandard.ZstdDecompressor().decompress(payload, max_output_size=_MAX_BYTES))
        if layout.index_key(offer.agent_uid, offer.number) != key:
            raise ValueError
    except (ValueError, ValidationError, zstandard.ZstdError):
        msg = f"The object {key} is no table of chunks."
        raise SnapshotDamaged(msg) from None
    return offer


def offer_of(agent_uid: str, number: int, chunks: Mapping[bytes, Location]) -> Offer:
    """Return the offer of chunks that a snapshot stored."""
    tables = Tables(chunks)
    # Checked when it is read: here every field is our own.
    return Offer.model_construct(
        agent_uid=agent_uid, number=number, packs=tables.packs, frames=tables.frames, chunks=tables.chunks
    )


def without(offer: Offer, packs: set[str]) -> Offer | None:
    """Return an offer without these packs; None when nothing is left of it."""
    kept = {digest: place for digest, place in locations(offer).items() if place.pack not in packs}
    return offer_of(offer.agent_uid, offer.number, kept) if kept else None


class Markers:
    """Marks agents whose packs others may name."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._set: set[str] = set()

    async def put(self, agent_uid: str) -> None:
        """Mark an agent."""
        if agent_uid in self._set:
            return
        await self._store.put(layout.shared_key(agent_uid), _MARK)
        self._set.add(agent_uid)


class Offers:
    """Makes offers."""

    def __init__(self, store: ObjectStore, heads: Heads, markers: Markers, sealer: Sealer) -> None:
        self._store = store
        self._heads = heads
        self._markers = markers
        self._sealer = sealer

    async def make(self, agent_uid: str, number: int, chunks: Mapping[bytes, Location]) -> None:
        """Offer what a snapshot that counts has stored."""
        await self._markers.put(agent_uid)
        if not await self._heads.is_as_seen(agent_uid):
            return
        key = layout.index_key(agent_uid, number)
        data = await asyncio.to_thread(lambda: encode(offer_of(agent_uid, number, chunks), self._sealer))
        await self._store.put(key, data)
