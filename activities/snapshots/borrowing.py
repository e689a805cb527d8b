"""Borrowing: a snapshot that is about to store much looks whether others have stored it already."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from activities.errors import HibernautActivityError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from activities.snapshots.capture import Control
    from activities.snapshots.offer_cache import OfferCache
    from activities.snapshots.packs import Location

LOGGER = logging.getLogger(__name__)
BORROW_BYTES = 4 << 20
"""New content of a snapshot that is stored before anybody is asked: a small one costs no request more."""
_TICK_S = 0.5


class Borrower:
    """Finds chunks of others for one snapshot; called from the thread that reads the files."""

    def __init__(self, offers: OfferCache, control: Control, threshold: int) -> None:
        self._offers = offers
        self._control = control
        self._threshold = threshold
        self._loop = asyncio.get_running_loop()
        self._new = 0
        self._ready = False
        self._useless = False

    async def prepare(self) -> None:
        """Ask at once when even the first byte is worth it."""
        if self._threshold == 0:
            await self._offers.sync()
            self._ready = True

    def __call__(self, digest: bytes, length: int) -> Location | None:
        """Return where somebody else has stored a chunk."""
        self._new += length
        if self._useless or self._new <= self._threshold:
            return None
        if not self._ready:
            self._useless = not self._sync()
            self._ready = True
        return None if self._useless else self._offers.find(digest, length)

    def _sync(self) -> bool:
        syncing: Future[None] = asyncio.run_coroutine_threadsafe(self._offers.sync(), self._loop)
        try:
            while True:
                try:
                    syncing.result(timeout=_TICK_S)
                except TimeoutError:
                    if syncing.done():
                        raise
                    self._control.check()
                else:
                    return True
        except HibernautActivityError as error:
            # Everything is stored again then, which is dear but right.
            LOGGER.warning("chunks of other agents are not known, and none are borrowed: %s", error)
            return False
        finally:
            syncing.cancel()
