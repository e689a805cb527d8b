"""What a writer has to do with the rest of the store: what others offer, what it offers, and what may be deleted."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

from activities.errors import HibernautActivityError, SnapshotOvertaken
from activities.snapshots.borrowing import BORROW_BYTES
from activities.snapshots.condemned import Condemned
from activities.snapshots.guard import Guard
from activities.snapshots.offer_cache import OfferCache
from activities.snapshots.offers import OFFER_BYTES, Markers, Offers
from activities.snapshots.timing import TIMING, Timing

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from activities.ports.store import ObjectStore
    from activities.snapshots.commit import Name, Stored
    from activities.snapshots.guard import Admitted
    from activities.snapshots.head import Heads
    from activities.snapshots.sealing import Sealer
    from activities.snapshots.timing import Stopwatch

LOGGER = logging.getLogger(__name__)
_SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much makes borrowing and offering worth their requests, in bytes."""

    borrow: int = BORROW_BYTES
    """New content of a snapshot, plain, that is stored before others are asked."""
    offer: int = OFFER_BYTES
    """Packs of a snapshot that are not worth offering to others."""


class Sharing:
    """One worker's part in the packs of all agents of a store."""

    def __init__(
        self,
        store: ObjectStore,
        heads: Heads,
        sealer: Sealer,
        *,
        cache: Path | None = None,
        timing: Timing = TIMING,
        bounds: Bounds | None = None,
    ) -> None:
        """Use this store; `cache` is a folder for what may be thrown away, None keeps that in memory."""
        found = bounds or Bounds()
        self.timing = timing
        self.borrow_bytes = found.borrow
        self.condemned = Condemned(store)
        self.guard = Guard(store, self.condemned, timing, sealer)
        self.offered = OfferCache(store, sealer, cache, timing)
        self.markers = Markers(store)
        self._sealer = sealer
        self._offer_bytes = found.offer
        self._offers = Offers(store, heads, self.markers, sealer)

    def salt(self, name: Name) -> bytes:
        """Return what tells the packs of one snapshot from those of all others, and of attempts much later."""
        if self._sealer.key_id is not None:
            # Nonces do that already.
            return b""
        text = f"{name.agent_uid} {name.generation} {name.number} ".encode()
        return blake3(text + self.timing.period()).digest(_SALT_BYTES)

    def check(self, watch: Stopwatch, ref: str) -> None:
        """Refuse to go on when its packs may be too old to be safe.

        Raises:
            SnapshotOvertaken: A snapshot takes too long.
        """
        if watch.elapsed() > self.timing.longest:
            msg = (
                f"The snapshot {ref} took more than {self.timing.longest}, and what it stored first may be deleted: "
                "take it again."
            )
            raise SnapshotOvertaken(msg)

    def is_late(self, watch: Stopwatch, admitted: Admitted | None) -> bool:
        """Tell whether what a manifest names must be looked for once it is written."""
        if admitted is not None and admitted.watch.elapsed() > self.timing.limit:
            return True
        return watch.elapsed() > self.timing.longest

    async def offer(self, name: Name, stored: Stored, borrowed: Container[bytes]) -> None:
        """Offer others what a snapshot that counts has stored, if it is much."""
        if stored.bytes < self._offer_bytes:
            return
        prefix = f"agents/{name.agent_uid}/"
        own = {
            digest: place
            for digest, place in stored.chunks.items()
            if digest not in borrowed and place.pack.startswith(prefix)
        }
        if not own:
            return
        try:
            await self._offers.make(name.agent_uid, name.number, own)
        except HibernautActivityError as error:
            # The snapshot counts; others store the same again then.
            LOGGER.warning("what snapshot %s stored is not offered to other agents: %s", name.ref, error)
