"""Keepers, deaths, drops and collections in any order: what is kept is always whole."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from activities.adapters.local_store import LocalStore
from activities.errors import StoreUnavailable
from activities.images import is_kept
from activities.ports.store import ObjectInfo
from activities.snapshots import image_known, image_leftovers, image_packs
from activities.snapshots.image_format import manifest_key
from activities.snapshots.image_leftovers import collect_image_leftovers, drop_image
from activities.snapshots.image_reading import read_archive, read_manifest
from activities.snapshots.image_writing import ImageWriter
from activities.snapshots.sealing import PLAIN
from tests.support.images import content, image_archive, image_id

LAYERS = [content(150_000, seed) for seed in range(3)]
_MADE_OF = ((0,), (0, 1), (1, 2), (0, 2), (0, 1, 2))
ARCHIVES = [image_archive(*(LAYERS[layer] for layer in layers)) for layers in _MADE_OF]
KEEPERS = 3


class Clock(datetime):
    """The time as the test has it, for the store too."""

    at = datetime(2026, 1, 1, tzinfo=UTC)

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        del tz
        return cls.at


class Dated(LocalStore):
    """A folder whose objects bear the test's time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.times: dict[str, datetime] = {}

    async def put(self, key: str, data: bytes, *, if_none_match: bool = False) -> None:
        await super().put(key, data, if_none_match=if_none_match)
        self.times[key] = Clock.at

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        async for info in super().list(prefix):
            yield replace(info, modified=self.times[info.key])


class Collector(Dated):
    """A collection, that deletes what it has chosen when it is told to."""

    def __init__(self, store: Dated) -> None:
        super().__init__(store.folder)
        self.times = store.times
        self._chosen, self._go = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(collect_image_leftovers(self))

    async def delete(self, keys: Iterable[str]) -> None:
        self._chosen.set()
        await self._go.wait()
        await super().delete(keys)

    async def chosen(self) -> None:
        waiting = asyncio.create_task(self._chosen.wait())
        await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def finish(self) -> None:
        self._go.set()
        await self._task


class Keeper:
    """An attempt to keep an image, that goes on when it is told to."""

    def __init__(self, writer: ImageWriter, archive: bytes) -> None:
        self._archive = archive
        self._looked, self._half, self._rest = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(writer.write(image_id(archive), "test:1", self._pieces(), lambda _text: None))

    async def looked(self) -> None:
        await self._looked.wait()

    async def half(self) -> None:
        self._half.set()

    async def finish(self) -> None:
        self._half.set()
        self._rest.set()
        with suppress(StoreUnavailable):
            await self._task

    async def kill(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError, StoreUnavailable):
            await self._task

    async def _pieces(self) -> AsyncGenerator[bytes]:
        self._looked.set()
        await self._half.wait()
        yield self._archive[: len(self._archive) // 2]
        await self._rest.wait()
        yield self._archive[len(self._archive) // 2 :]


async def _check(store: LocalStore) -> None:
    for archive in ARCHIVES:
        if await is_kept(store, image_id(archive)):
            manifest = await read_manifest(store, image_id(archive))
            pieces = [piece async for piece in read_archive(store, manifest, PLAIN, lambda _text: None)]
            assert b"".join(pieces) == archive


class World:
    """A store, two hosts that remember what they have seen, and what is under way."""

    def __init__(self, store: Dated) -> None:
        self._store = store
        self._collector: Collector | None = None
        self._writers = [ImageWriter(store), ImageWriter(store)]
        self._keepers: list[Keeper] = []

    async def live(self, steps: list[tuple[str, int]]) -> None:
        try:
            for what, number in steps:
                await getattr(self, what)(number)
            for keeper in self._keepers:
                await keeper.finish()
            await self.delete(0)
            await _check(self._store)
        finally:
            for keeper in self._keepers:
                await keeper.kill()

    async def begin(self, number: int) -> None:
        archive = ARCHIVES[number % len(ARCHIVES)]
        if len(self._keepers) < KEEPERS and not await is_kept(self._store, image_id(archive)):
            self._keepers.append(Keeper(self._writers[number % 2], archive))
            await self._keepers[-1].looked()

    async def half(self, number: int) -> None:
        if self._keepers:
            await self._keepers[number % len(self._keepers)].half()

    async def finish(self, number: int) -> None:
        if self._keepers:
            await self._keepers.pop(number % len(self._keepers)).finish()

    async def kill(self, number: int) -> None:
        if self._keepers:
            await self._keepers.pop(number % len(self._keepers)).kill()

    async def drop(self, number: int) -> None:
        await drop_image(self._store, image_id(ARCHIVES[number % len(ARCHIVES)]))

    async def lose(self, number: int) -> None:
        """Somebody deletes a manifest by hand, as the error about a damaged image says; no keeper is under way."""
        if not self._keepers:
            await self._store.delete([manifest_key(image_id(ARCHIVES[number % len(ARCHIVES)]))])

    async def wait(self, hours: int) -> None:
        Clock.at += timedelta(hours=hours)

    async def collect(self, _number: int) -> None:
        if self._collector is None:
            self._collector = Collector(self._store)
            await self._collector.chosen()

    async def delete(self, _number: int) -> None:
        collector, self._collector = self._collector, None
        if collector is not None:
            await collector.finish()
            await _check(self._store)


_KEEPING = ["begin", "begin", "half", "finish", "finish", "finish", "kill"]
_REMOVING = ["drop", "lose", "collect", "collect", "delete", "delete"]
_STEP = st.one_of(
    st.tuples(st.sampled_from(_KEEPING), st.integers(0, 9)),
    st.tuples(st.sampled_from(_REMOVING), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.sampled_from([1, 7, 13, 25])),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(_STEP, min_size=20, max_size=60))
def test_what_is_kept_is_whole_whatever_happens(steps: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        # Small chunks, so that images share most of them, and small packs, so that they share only some of these.
        sizes = {"AVERAGE_BYTES": 8_192, "MINIMUM_BYTES": 2_048, "MAXIMUM_BYTES": 32_768, "PACK_BYTES": 70_000}
        for name, size in sizes.items():
            patch.setattr(image_packs, name, size)
        for module in (image_known, image_leftovers):
            patch.setattr(module, "datetime", Clock)
        asyncio.run(World(Dated(Path(folder))).live(steps))
