"""Fetches a snapshot while its container is still being made: a wake waits for the slower of the two, not for both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from activities.snapshots.capture import Control
from activities.snapshots.chain import ChainReader
from activities.snapshots.feed import Feed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from activities.ports.store import ObjectStore
    from activities.snapshots.entries import Entry
    from activities.snapshots.sealing import Sealer
    from activities.snapshots.state import State

_MOST = 4
"""Fetches ahead at once: what more agents wake is fetched when it is restored."""
_KEPT_S = 300.0
"""What nobody asks for within this time is dropped: another host may have been chosen."""


class Fetched(NamedTuple):
    """A snapshot whose content is arriving."""

    state: State
    feed: Feed
    manifest_requests: int
    control: Control
    """Of the feed."""

    @property
    def requests(self) -> int:
        """How many there were so far."""
        return self.manifest_requests + self.feed.requests

    def close(self) -> None:
        """Stop fetching."""
        self.control.stop()
        self.feed.close()


class Fetching(NamedTuple):
    """A fetch under way; `control` says how far it is."""

    task: asyncio.Task[Fetched]
    control: Control

    @property
    def failed(self) -> bool:
        """Whether something went wrong so far, which may be over by now."""
        if not self.task.done():
            return False
        return self.task.cancelled() or self.task.exception() is not None or self.task.result().feed.failed


class Fetcher:
    """Fetches snapshots of one store."""

    def __init__(self, store: ObjectStore, *, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer
        self._ahead: dict[str, Fetching] = {}
        self._expiring: dict[str, asyncio.TimerHandle] = {}

    def begin(self, ref: str) -> None:
        """Start to fetch a snapshot that will soon be asked for; again is harmless."""
        known = self._ahead.get(ref)
        if known is not None and known.failed:
            self.drop(ref)
        if ref in self._ahead or len(self._ahead) >= _MOST:
            return
        control = Control()
        fetching = self._ahead[ref] = Fetching(asyncio.create_task(self._fetch(ref, control)), control)
        expiring = asyncio.get_running_loop().call_later(_KEPT_S, self._expire, ref, fetching)
        self._expiring[ref] = expiring

    def take(self, ref: str) -> Fetching | None:
        """Return the fetch that was begun, to be used once."""
        expiring = self._expiring.pop(ref, None)
        if expiring is not None:
            # It would keep what was fetched.
            expiring.cancel()
        fetching = self._ahead.pop(ref, None)
        if fetching is not None and fetching.failed:
            discard(fetching)
            return None
        return fetching

    def drop(self, ref: str) -> None:
        """Give up the fetch that was begun, as nobody will take it."""
        fetching = self.take(ref)
        if fetching is not None:
            discard(fetching)

    async def state(self, ref: str) -> tuple[State, int]:
        """Read a snapshot's manifests; return it, and the requests that took."""
        chain = ChainReader(self._store, sealer=self._sealer)
        return await chain.state(ref), chain.requests

    def feed(self, state: State, entries: Iterable[Entry], control: Control) -> Feed:
        """Begin to fetch what these entries of a snapshot hold."""
        return Feed(self._store, state.chunks, entries, control, sealer=self._sealer)

    async def _fetch(self, ref: str, control: Control) -> Fetched:
        state, requests = await self.state(ref)
        return Fetched(state, self.feed(state, state.entries.values(), control), requests, control)

    def _expire(self, ref: str, fetching: Fetching) -> None:
        if self._ahead.get(ref) is fetching:
            self.drop(ref)


def discard(fetching: Fetching) -> None:
    """Stop a fetch, and give its memory back."""
    fetching.task.cancel()
    fetching.task.add_done_callback(_close)


def _close(task: asyncio.Task[Fetched]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
