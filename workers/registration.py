"""Tells the store that a sandbox host is there, again and again while its worker runs."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from activities.beside import beside
from activities.errors import StoreError
from activities.ports.store import ObjectStore
from activities.sweep import HostRecord
from hibernaut import __version__
from hibernaut.contracts import StoreKeys

INTERVAL_S = 60.0

_log = logging.getLogger(__name__)


@asynccontextmanager
async def registered(store: ObjectStore, host_id: str, *, interval_s: float = INTERVAL_S) -> AsyncGenerator[None]:
    """Write the host's record now and every `interval_s` seconds until the block ends."""
    await _write(store, host_id)
    async with beside(_repeat(store, host_id, interval_s)):
        yield


async def _repeat(store: ObjectStore, host_id: str, interval_s: float) -> None:
    while True:
        await asyncio.sleep(interval_s)
        await _write(store, host_id)


async def _write(store: ObjectStore, host_id: str) -> None:
    record = HostRecord(host_id=host_id, seen_at=datetime.now(UTC), version=__version__)
    try:
        await store.put(StoreKeys.host(host_id), record.model_dump_json().encode())
    except StoreError as error:
        # A host that is not listed is swept a little later, which is no reason to stop its work.
        _log.warning("host %s could not be registered: %s", host_id, error)
