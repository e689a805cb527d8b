"""What is fetched while a container is being made is not fetched again, and hides no damage."""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING

import pytest

from activities.adapters.local_store import LocalStore
from activities.errors import CaptureError, ImageMismatch
from activities.snapshots import prefetch
from activities.snapshots.engine import Engine
from activities.snapshots.entries import Entry, Kind
from tests.support.memory_capture import MemoryCapture

if TYPE_CHECKING:
    from pathlib import Path

    from activities.ports.snapshots import RestoreInfo

UID = "uid"


class _Counting(LocalStore):
    """Counts ranged reads of packs."""

    ranges = 0

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        self.ranges += 1
        return await super().get_range(key, start, length)


@pytest.fixture
def store(tmp_path: Path) -> _Counting:
    return _Counting(tmp_path)


async def _restore(engine: Engine, ref: str) -> RestoreInfo:
    return await engine.restore("new", agent_uid=UID, generation=2, ref=ref, progress=_ignore)


async def _taken(store: LocalStore, memory: MemoryCapture) -> list[str]:
    refs: list[str] = []
    for number in range(1, 3):
        memory.add(Entry(b"file%d" % number, Kind.FILE), random.Random(number).randbytes(2_000_000))
        taken = await Engine(store, memory).take(
            "c", agent_uid=UID, generation=1, number=number, parent=refs[-1] if refs else None, progress=_ignore
        )
        refs.append(taken.ref)
    return refs


async def test_a_prefetched_snapshot_is_not_fetched_again(store: _Counting) -> None:
    memory, copy = MemoryCapture(), MemoryCapture()
    ref = (await _taken(store, memory))[-1]
    engine = Engine(store, copy)
    engine.prefetch(ref)
    engine.prefetch(ref)
    while store.ranges == 0:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    fetched = store.ranges
    done = await _restore(engine, ref)
    assert (done.restored, store.ranges) == (ref, fetched)
    assert {path: content for path, (_, content) in copy.tree.items()} == {
        path: content for path, (_, content) in memory.tree.items()
    }
    # It is used once: the next restore looks at the store again.
    await engine.restore("other", agent_uid=UID, generation=2, ref=ref, progress=_ignore)
    assert store.ranges > fetched


async def test_a_damaged_one_falls_back_as_ever(store: _Counting) -> None:
    memory = MemoryCapture()
    first, second = await _taken(store, memory)
    packs = [info async for info in store.list(f"agents/{UID}/snapshots/packs/")]
    newest = max(packs, key=lambda info: info.modified).key
    await store.delete([newest])
    engine = Engine(store, MemoryCapture())
    engine.prefetch(second)
    done = await _restore(engine, second)
    assert (done.restored, done.requested) == (first, second)
    assert done.reason is not None
    assert newest in done.reason


async def test_another_image_is_refused(store: _Counting) -> None:
    ref = (await _taken(store, MemoryCapture()))[-1]
    other = MemoryCapture()
    other.image_id = "sha256:other"
    engine = Engine(store, other)
    engine.prefetch(ref)
    with pytest.raises(ImageMismatch):
        await _restore(engine, ref)


async def test_what_nobody_restores_is_dropped(store: _Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "_KEPT_S", 0.2)
    ref = (await _taken(store, MemoryCapture()))[-1]
    engine = Engine(store, MemoryCapture())
    engine.prefetch(ref)
    await asyncio.sleep(0.5)
    before = store.ranges
    assert before > 0
    assert (await _restore(engine, ref)).restored == ref
    assert store.ranges > before


async def test_a_disk_that_takes_little_at_a_time_gets_it_all(
    store: _Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, copy = MemoryCapture(), MemoryCapture()
    ref = (await _taken(store, memory))[-1]
    real = os.pwrite

    def little(file: int, data: memoryview, place: int) -> int:
        return real(file, data[:100_000], place)

    monkeypatch.setattr(os, "pwrite", little)
    await _restore(Engine(store, copy), ref)
    assert copy.tree[b"file2"][1] == memory.tree[b"file2"][1]


async def test_what_a_disk_does_not_give_back_is_not_restored(
    store: _Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = (await _taken(store, MemoryCapture()))[-1]
    real = os.pread

    def half(file: int, length: int, place: int) -> bytes:
        return real(file, length // 2, place)

    monkeypatch.setattr(os, "pread", half)
    with pytest.raises(CaptureError, match="local disk"):
        await _restore(Engine(store, MemoryCapture()), ref)


def _ignore(_text: str) -> None:
    """Progress is of no interest here."""
