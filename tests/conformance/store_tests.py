"""What every object store must do: subclass `ObjectStoreTests` and give it a `store` fixture."""

from __future__ import annotations

import asyncio
import hashlib
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from activities.errors import InvalidKey, ObjectExists, ObjectNotFound, PreconditionFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from activities.ports.store import ObjectStore

UNICODE_KEYS = [
    "ä/ö ü.txt",
    "日本語/キー",
    "emoji-🦫",
    "space at end /x",
    "plus+and%20percent",
    "q?uery#frag",
    "a'b\"c&d<e>",
]
BAD_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    "../a",
    "a/../b",
    "./a",
    "a/.",
    "nul\0",
    "line\nfeed",
    "x" * 256,
    ".hibernaut/lock",
    "\ud800",
]


async def _pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def _broken(data: bytes) -> AsyncIterator[bytes]:
    yield data
    msg = "the source broke"
    raise RuntimeError(msg)


async def _collect(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def _keys(store: ObjectStore, prefix: str) -> list[str]:
    return [info.key async for info in store.list(prefix)]


class ObjectStoreTests:
    """The conformance suite of the port `ObjectStore`."""

    async def test_what_was_put_is_got(self, store: ObjectStore) -> None:
        data = os.urandom(100_000)
        await store.put("folder/object", data)
        assert await store.get("folder/object") == data

    async def test_an_empty_object(self, store: ObjectStore) -> None:
        await store.put("empty", b"")
        assert await store.get("empty") == b""
        assert await store.get_range("empty", 0, 10) == b""
        assert await _collect(store.stream("empty")) == b""
        found = await store.head("empty")
        assert found is not None
        assert found.size == 0

    async def test_a_missing_object(self, store: ObjectStore) -> None:
        assert await store.head("none") is None
        for read in (store.get("none"), store.get_range("none", 0, 1), store.get_range("none", 0, 0)):
            with pytest.raises(ObjectNotFound, match="none"):
                await read
        with pytest.raises(ObjectNotFound, match="none"):
            await _collect(store.stream("none"))

    async def test_put_replaces(self, store: ObjectStore) -> None:
        await store.put("key", b"one")
        await store.put("key", b"two")
        assert await store.get("key") == b"two"

    async def test_conditional_put_keeps_the_first(self, store: ObjectStore) -> None:
        await store.put("key", b"one", if_none_match=True)
        with pytest.raises(ObjectExists, match="key"):
            await store.put("key", b"two", if_none_match=True)
        assert await store.get("key") == b"one"

    async def test_of_racing_conditional_puts_one_wins(self, store: ObjectStore) -> None:
        async def attempt(number: int) -> int | None:
            try:
                await store.put("race", b"%d" % number, if_none_match=True)
            except ObjectExists:
                return None
            return number

        results = await asyncio.gather(*(attempt(number) for number in range(12)))
        winners = [number for number in results if number is not None]
        assert len(winners) == 1
        assert await store.get("race") == b"%d" % winners[0]

    async def test_ranges(self, store: ObjectStore) -> None:
        data = bytes(range(256)) * 16
        await store.put("key", data)
        assert await store.get_range("key", 0, 1) == data[:1]
        assert await store.get_range("key", 100, 1000) == data[100:1100]
        assert await store.get_range("key", 4000, 1000) == data[4000:]
        assert await store.get_range("key", len(data), 10) == b""
        assert await store.get_range("key", len(data) + 5, 10) == b""
        assert await store.get_range("key", 5, 0) == b""

    async def test_streams(self, store: ObjectStore) -> None:
        data = os.urandom(3_500_000)
        await store.put("key", data)
        assert await _collect(store.stream("key")) == data
        assert await _collect(store.stream("key", start=3_000_000)) == data[3_000_000:]
        assert await _collect(store.stream("key", start=len(data))) == b""

    async def test_a_stream_left_early(self, store: ObjectStore) -> None:
        await store.put("key", bytes(5_000_000))
        async for piece in store.stream("key"):
            assert piece
            break
        assert await store.get_range("key", 0, 1) == b"\0"

    @pytest.mark.parametrize("size", [0, 1, 16 << 20, (16 << 20) + 1, 40_000_000])
    async def test_put_stream_of_any_size(self, store: ObjectStore, size: int) -> None:
        data = os.urandom(size)
        assert await store.put_stream("big", _pieces(data, 700_001)) == size
        found = await store.head("big")
        assert found is not None
        assert found.size == size
        read = hashlib.blake2b()
        async for piece in store.stream("big"):
            read.update(piece)
        assert read.digest() == hashlib.blake2b(data).digest()

    @pytest.mark.parametrize("size", [10, 40_000_000])
    async def test_a_broken_put_stream_leaves_nothing(self, store: ObjectStore, size: int) -> None:
        with pytest.raises(RuntimeError, match="the source broke"):
            await store.put_stream("broken/object", _broken(bytes(size)))
        assert await store.head("broken/object") is None
        assert await _keys(store, "broken") == []

    async def test_a_cancelled_put_stream_leaves_nothing(self, store: ObjectStore) -> None:
        begun = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield bytes(40_000_000)
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(store.put_stream("cancelled", endless()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await _keys(store, "") == []

    async def test_a_broken_put_stream_keeps_the_old_object(self, store: ObjectStore) -> None:
        await store.put("key", b"old")
        with pytest.raises(RuntimeError):
            await store.put_stream("key", _broken(b"new"))
        assert await store.get("key") == b"old"

    async def test_head(self, store: ObjectStore) -> None:
        await store.put("key", b"12345")
        found = await store.head("key")
        assert found is not None
        assert (found.key, found.size) == ("key", 5)
        assert found.etag
        assert abs(found.modified - datetime.now(UTC)) < timedelta(hours=1)

    async def test_list_is_ordered_and_filtered_by_prefix(self, store: ObjectStore) -> None:
        keys = ["b/1", "a", "b/10", "b/2", "c/d/e", "ab", "b2", "b/x/y"]
        for key in keys:
            await store.put(key, key.encode())
        assert await _keys(store, "") == sorted(keys)
        assert await _keys(store, "b/") == ["b/1", "b/10", "b/2", "b/x/y"]
        assert await _keys(store, "b") == ["b/1", "b/10", "b/2", "b/x/y", "b2"]
        assert await _keys(store, "b/1") == ["b/1", "b/10"]
        assert await _keys(store, "none/") == []
        async for info in store.list("c"):
            found = await store.head(info.key)
            assert found is not None
            assert (info.size, info.etag) == (found.size, found.etag)

    async def test_folders_are_listed_without_what_is_in_them(self, store: ObjectStore) -> None:
        for key in ("a/b-/x", "a/b/y", "a/b/z/deep", "a/c", "a/ä/1", "top", "b/1", "ab/1"):
            await store.put(key, b"")
        assert {folder async for folder in store.list_folders("a/")} == {"a/b-/", "a/b/", "a/ä/"}
        assert {folder async for folder in store.list_folders("")} == {"a/", "ab/", "b/"}
        assert [folder async for folder in store.list_folders("none/")] == []
        for prefix in ("a", "/", "a//", "../"):
            with pytest.raises(InvalidKey):
                [folder async for folder in store.list_folders(prefix)]

    async def test_many_folders_take_several_pages(self, store: ObjectStore) -> None:
        keys = [f"many/{number:05d}/object" for number in range(1100)]
        for start in range(0, len(keys), 50):
            await asyncio.gather(*(store.put(key, b"") for key in keys[start : start + 50]))
        found = [folder async for folder in store.list_folders("many/")]
        assert sorted(found) == [key.removesuffix("object") for key in keys]
        await store.delete(keys)

    async def test_list_goes_on_past_one_page(self, store: ObjectStore) -> None:
        keys = [f"many/{number:05d}" for number in range(1100)]
        for start in range(0, len(keys), 50):
            await asyncio.gather(*(store.put(key, b"") for key in keys[start : start + 50]))
        assert await _keys(store, "many/") == keys
        await store.delete(keys)
        assert await _keys(store, "") == []

    @pytest.mark.parametrize("key", UNICODE_KEYS)
    async def test_unusual_keys(self, store: ObjectStore, key: str) -> None:
        await store.put(key, b"data")
        assert await store.get(key) == b"data"
        assert await _keys(store, "") == [key]
        await store.delete([key])
        assert await store.head(key) is None

    @pytest.mark.parametrize("key", BAD_KEYS)
    async def test_keys_that_cannot_be_used(self, store: ObjectStore, key: str) -> None:
        uses = [
            store.get(key),
            store.put(key, b""),
            store.head(key),
            store.delete([key]),
            store.get_range(key, 0, 1),
            store.replace(key, b"", if_match=None),
            store.put_stream(key, _pieces(b"", 1)),
        ]
        for use in uses:
            with pytest.raises(InvalidKey):
                await use
        with pytest.raises(InvalidKey):
            await _collect(store.stream(key))

    async def test_delete(self, store: ObjectStore) -> None:
        for key in ("a/1", "a/2", "b"):
            await store.put(key, b"")
        await store.delete(["a/1", "b", "never/there"])
        assert await _keys(store, "") == ["a/2"]
        await store.delete([])
        await store.put("b", b"again", if_none_match=True)
        assert await store.get("b") == b"again"

    async def test_replace_swaps_only_the_version_it_knows(self, store: ObjectStore) -> None:
        first = await store.replace("head", b"1", if_match=None)
        second = await store.replace("head", b"2", if_match=first)
        assert first != second
        for stale in (first, None):
            with pytest.raises(PreconditionFailed):
                await store.replace("head", b"3", if_match=stale)
        assert await store.get("head") == b"2"
        found = await store.head("head")
        assert found is not None
        assert found.etag == second
        await store.delete(["head"])
        with pytest.raises(PreconditionFailed):
            await store.replace("head", b"3", if_match=second)

    async def test_of_racing_replaces_one_wins(self, store: ObjectStore) -> None:
        etag = await store.replace("head", b"start", if_match=None)

        async def attempt(number: int) -> int | None:
            try:
                await store.replace("head", b"%d" % number, if_match=etag)
            except PreconditionFailed:
                return None
            return number

        results = await asyncio.gather(*(attempt(number) for number in range(8)))
        winners = [number for number in results if number is not None]
        assert len(winners) == 1
        assert await store.get("head") == b"%d" % winners[0]
