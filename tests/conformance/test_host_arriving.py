"""A restore on the host that writes content as it arrives: large ones do, here all do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from activities.errors import SandboxNotFresh
from activities.snapshots import applying, feed, layout
from tests.conformance.snapshot_world import UID, FailingStore, SnapshotWorld, progress
from tests.support.boxes import assert_same_changes

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from activities.adapters.local_store import LocalStore
    from activities.ports.snapshots import RestoreInfo
    from activities.snapshots.engine import Engine
    from tests.support.boxes import Box, Boxes

_SOME_OF_ALL = """
mkdir -p /w/deep && cd /w
for i in $(seq 300); do head -c $((i * 37)) /dev/urandom >deep/$i; done
head -c 9000000 /dev/urandom >big; cp big twice; head -c 4500000 big >half; cat big half big >thrice
head -c 700000 /dev/zero >zeros; : >empty; ln big linked; cp deep/7 again; chmod 6755 again; chown 12:34 half
truncate -s 20000000 sparse; dd if=big of=sparse bs=1M count=3 seek=9 conv=notrunc 2>/dev/null
printf end >>sparse; rm /etc/issue; mkfifo pipe; ln -s big link
"""


@pytest.fixture(autouse=True)
def _nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "HELD_BYTES", 0)
    # Files come in many ranges, out of order.
    monkeypatch.setattr(feed, "_RANGE_BYTES", 1 << 20)


class TestArriving(SnapshotWorld):
    kind = "host"

    def _restore(self, engine: Engine, box: Box, ref: str) -> Awaitable[RestoreInfo]:
        return engine.restore(box.id, agent_uid=UID, generation=2, ref=ref, progress=progress)

    async def test_everything_comes_back(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh(_SOME_OF_ALL)
        first = await self.take(engine, box, 1)
        # Chunks of one file lie in packs of several snapshots now.
        box.sh("cd /w; for at in 1 3 5; do head -c 9000 /dev/urandom | dd of=big bs=1M seek=$at conv=notrunc; done")
        second = await self.take(engine, box, 2, first.ref)
        copy = await self.check_restore(self.new_engine(boxes, store), boxes, box, fresh, second.ref)
        assert copy.sh("cd /w; sha256sum big thrice sparse half") == box.sh("cd /w; sha256sum big thrice sparse half")

    async def test_damage_costs_the_container_and_the_next_falls_back(
        self, engine: Engine, boxes: Boxes, store: LocalStore
    ) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh("mkdir /w; echo 1 >/w/a; head -c 3000000 /dev/urandom >/w/one")
        first = await self.take(engine, box, 1)
        tree = box.look()
        known = {info.key async for info in store.list(f"agents/{UID}/snapshots/packs/")}
        box.sh("head -c 12000000 /dev/urandom >/w/two")
        second = await self.take(engine, box, 2, first.ref)
        pack = max({info.key async for info in store.list(f"agents/{UID}/snapshots/packs/")} - known)
        whole = await store.get(pack)
        await store.put(pack, whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
        copy, _ = await self.fresh(engine, boxes, 2)
        with pytest.raises(SandboxNotFresh, match="acquire a new container"):
            await self._restore(self.new_engine(boxes, store), copy, second.ref)
        assert not copy.is_paused
        # Another worker, with another container, is warned.
        other, _ = await self.fresh(engine, boxes, 2)
        done = await self._restore(self.new_engine(boxes, store), other, second.ref)
        assert (done.requested, done.restored) == (second.ref, first.ref)
        assert done.reason is not None
        assert pack in done.reason
        assert_same_changes(fresh, tree, other.look())
        # The store is mended: it is believed again once all of it was verified.
        await store.put(pack, whole)
        await self.check_restore(self.new_engine(boxes, store), boxes, box, fresh, second.ref)
        assert [info.key async for info in store.list(layout.suspect_key(second.ref))] == []

    async def test_damage_that_many_share_costs_one_container(
        self, engine: Engine, boxes: Boxes, store: LocalStore
    ) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh("mkdir /w; head -c 3000000 /dev/urandom >/w/one")
        refs = [(await self.take(engine, box, 1)).ref]
        tree = box.look()
        known = {info.key async for info in store.list(f"agents/{UID}/snapshots/packs/")}
        box.sh("head -c 900000 /dev/urandom >/w/of-2")
        refs.append((await self.take(engine, box, 2, refs[-1])).ref)
        await store.delete({info.key async for info in store.list(f"agents/{UID}/snapshots/packs/")} - known)
        for number in range(3, 6):
            box.sh(f"head -c 900000 /dev/urandom >/w/of-{number}")
            refs.append((await self.take(engine, box, number, refs[-1])).ref)
        with pytest.raises(SandboxNotFresh):
            await self._restore(self.new_engine(boxes, store), (await self.fresh(engine, boxes, 2))[0], refs[-1])
        copy, _ = await self.fresh(engine, boxes, 2)
        done = await self._restore(self.new_engine(boxes, store), copy, refs[-1])
        assert (done.requested, done.restored) == (refs[-1], refs[0])
        assert_same_changes(fresh, tree, copy.look())

    async def test_one_that_was_given_up_is_taken_up(self, engine: Engine, boxes: Boxes, store: LocalStore) -> None:
        box, fresh = await self.fresh(engine, boxes)
        box.sh("mkdir /w; for i in $(seq 100); do head -c 100000 /dev/urandom >/w/$i; done")
        taken = await self.take(engine, box, 1)
        copy, _ = await self.fresh(engine, boxes, 2)
        slow = _Slow(store)
        running = asyncio.create_task(self._given_up(slow, boxes, copy, taken.ref))
        await asyncio.wait_for(slow.reached.wait(), 60)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not copy.is_paused
        counting = _Slow(store, after=1 << 30)
        await self._restore(self.new_engine(boxes, counting), copy, taken.ref)
        assert 0 < counting.given < 0.8 * taken.bytes_new_stored
        assert_same_changes(fresh, box.look(), copy.look())

    async def _given_up(self, store: LocalStore, boxes: Boxes, copy: Box, ref: str) -> None:
        await self._restore(self.new_engine(boxes, store), copy, ref)


class _Slow(FailingStore):
    """Gives some ranges of packs, and then no more."""

    def __init__(self, real: LocalStore, *, after: int = 4 << 20) -> None:
        super().__init__(real)
        self.given = 0
        self.reached = asyncio.Event()
        self._after = after

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        if self.given > self._after:
            self.reached.set()
            await asyncio.sleep(3600)
        data = await super().get_range(key, start, length)
        self.given += len(data)
        return data
