"""Counts the requests that one call makes to the store, whichever part of the engine makes them."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from activities.ports.store import ObjectInfo, ObjectStore


class Tally:
    """The requests of one call so far, those of tasks and threads that it began included."""

    def __init__(self) -> None:
        self.count = 0


_CURRENT: ContextVar[Tally | None] = ContextVar("tally", default=None)


def tally() -> Tally:
    """Begin to count for the current task, and return what is counted."""
    begun = Tally()
    _CURRENT.set(begun)
    return begun


def _note() -> None:
    current = _CURRENT.get()
    if current is not None:
        current.count += 1


class Counted:
    """A store whose requests are counted; see `ObjectStore`. A method call is a request, a listing too."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def get(self, key: str) -> bytes:
        """See `ObjectStore.get`."""
        _note()
        return await self._store.get(key)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """See `ObjectStore.get_range`."""
        _note()
        return await self._store.get_range(key, start, length)

    async def put(self, key: str, data: bytes, *, if_none_match: bool = False) -> None:
        """See `ObjectStore.put`."""
        _note()
        await self._store.put(key, data, if_none_match=if_none_match)

    def stream(self, key: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """See `ObjectStore.stream`."""
        _note()
        return self._store.stream(key, start=start)

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """See `ObjectStore.put_stream`."""
        _note()
        return await self._store.put_stream(key, chunks)

    async def head(self, key: str) -> ObjectInfo | None:
        """See `ObjectStore.head`."""
        _note()
        return await self._store.head(key)

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See `ObjectStore.list`."""
        _note()
        return self._store.list(prefix)

    def list_folders(self, prefix: str) -> AsyncIterator[str]:
        """See `ObjectStore.list_folders`."""
        _note()
        return self._store.list_folders(prefix)

    async def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`."""
        _note()
        await self._store.delete(keys)

    async def replace(self, key: str, data: bytes, *, if_match: str | None) -> str:
        """See `ObjectStore.replace`."""
        _note()
        return await self._store.replace(key, data, if_match=if_match)

    async def close(self) -> None:
        """See `ObjectStore.close`."""
        await self._store.close()
