"""What a deleted agent's packs hold that nobody needs is overwritten, and what others need stays where it is."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import zstandard

from activities.adapters.local_store import LocalStore
from activities.errors import SnapshotConflict, SnapshotDamaged, SnapshotOvertaken
from activities.ports.upkeep import Retention
from activities.snapshots import layout
from activities.snapshots.catalogue import Catalogue
from activities.snapshots.condemned import Condemned, Sentence
from activities.snapshots.engine import Engine
from activities.snapshots.entries import Entry, Kind
from activities.snapshots.guard import Guard
from activities.snapshots.rewriting import Rewriting
from activities.snapshots.sealing import PLAIN, Key, KeyRing
from activities.snapshots.sharing import Bounds
from activities.snapshots.timing import TIMING
from activities.snapshots.upkeep import StoreUpkeep
from tests.support.memory_capture import MemoryCapture
from tests.support.plain_reader import PlainReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from activities.ports.snapshots import SnapshotInfo
    from activities.snapshots.rewriting import Kept
    from activities.snapshots.sealing import Sealer

CANARY = b"canary 71c0ffee "
RINGS = {"plain": PLAIN, "sealed": KeyRing([Key("k", b"k" * 32)])}
_SECRET = CANARY * 40
_SHARED = random.Random(2).randbytes(300_000)


@pytest.fixture(params=sorted(RINGS))
def ring(request: pytest.FixtureRequest) -> Sealer:
    return RINGS[request.param]


class House:
    """A store and whoever works on it."""

    def __init__(self, folder: Path, sealer: Sealer) -> None:
        self.store = LocalStore(folder)
        self.sealer = sealer
        self.now = datetime(2026, 11, 1, tzinfo=UTC)
        self.condemned = Condemned(self.store)
        self.rewriting = Rewriting(self.store, Catalogue(self.store, sealer), sealer)
        self.upkeep = StoreUpkeep(self.store, sealer=sealer)

    def engine(self, files: MemoryCapture | None = None, bounds: Bounds | None = None) -> Engine:
        return Engine(self.store, files or MemoryCapture(), sealer=self.sealer, bounds=bounds or Bounds())

    async def take(
        self, uid: str, contents: dict[bytes, bytes], number: int = 1, bounds: Bounds | None = None
    ) -> SnapshotInfo:
        files = MemoryCapture()
        for path, content in contents.items():
            files.add(Entry(path, Kind.FILE), content)
        engine = self.engine(files, bounds)
        await engine.claim(agent_uid=uid, generation=1)
        parent = None if number == 1 else layout.manifest_key(uid, number - 1)
        return await engine.take(
            f"{uid}-{number}", agent_uid=uid, generation=1, number=number, parent=parent, progress=_nobody
        )

    async def fork(self, source: str, uid: str) -> None:
        await self.engine().fork(source, agent_uid=uid, generation=1)

    async def delete(self, uid: str) -> Kept:
        inherited = await self.rewriting.inherited(uid)
        await self.engine().delete_agent(uid)
        return await self.rewriting.rewrite(uid, inherited, _nobody)

    async def read(self, uid: str, path: str, number: int = 1) -> bytes:
        return b"".join([piece async for piece in self.engine().open_file(layout.manifest_key(uid, number), path)])

    async def says(self) -> bytes:
        """All bytes of the store, decrypted and decompressed wherever a frame begins."""
        found = b""
        async for info in self.store.list(""):
            data = await self.store.get(info.key)
            found += data
            for at in range(len(data) if layout.is_pack_key(info.key) else 0):
                if data[at : at + 4] == b"\x28\xb5\x2f\xfd":
                    found += zstandard.ZstdDecompressor().decompressobj().decompress(data[at:])
                elif data[at : at + 16] == b"HIBERNAUT-SEAL1\n":
                    found += self._opened(data[at:])
        return found

    def _opened(self, data: bytes) -> bytes:
        # Where the ciphertext ends is where the next one begins, or the end.
        end = data.find(b"HIBERNAUT-SEAL1\n", 1)
        for length in (end, *range(len(data), 0, -1)):
            try:
                frame = self.sealer.open(data[: length if length > 0 else len(data)], b"frame")
            except SnapshotDamaged:
                continue
            return zstandard.ZstdDecompressor().decompressobj().decompress(frame)
        return b""


def _nobody(_: str) -> None:
    pass


@pytest.fixture
def house(tmp_path: Path, ring: Sealer) -> House:
    return House(tmp_path / "store", ring)


async def _forked(house: House) -> None:
    """Agent a with a secret in the pack of a file that its fork b has."""
    await house.take("a", {b"secret": _SECRET, b"shared": _SHARED})
    await house.take("a", {b"shared": _SHARED}, number=2)
    await house.fork(layout.manifest_key("a", 2), "b")


async def test_a_fork_keeps_its_files_and_the_rest_of_the_pack_is_gone_at_once(house: House, tmp_path: Path) -> None:
    (tmp_path / "restored").mkdir()
    await _forked(house)
    assert CANARY in await house.says()
    kept = await house.delete("a")
    assert CANARY not in await house.says()
    (pack,) = kept.packs
    assert [one.agent_uid for one in pack.needed_by] == ["b"]
    assert (pack.whole, pack.needed_by[0].fork, kept.rewritten.objects, kept.idle) == (False, True, 1, 0)
    assert await house.read("b", "shared") == _SHARED
    report = await house.upkeep.verify("b")
    assert report.damage == ()
    objects = {info.key: await house.store.get(info.key) async for info in house.store.list("")}
    reader = PlainReader(objects.__getitem__, [b"k" * 32])
    reader.restore(layout.manifest_key("b", 1), tmp_path / "restored")
    assert (tmp_path / "restored" / "shared").read_bytes() == _SHARED
    # Again finds nothing to do.
    again = await house.rewriting.rewrite("a", (), _nobody)
    assert again.rewritten.objects == 0
    assert again.packs == kept.packs


async def test_what_nobody_needs_is_empty_at_once_and_deleted_later(house: House) -> None:
    await _forked(house)
    await house.delete("b")
    kept = await house.delete("a")
    assert (kept.packs, kept.idle) == ((), 1)
    assert kept.idle_bytes < 100
    assert CANARY not in await house.says()
    assert _SHARED[:64] not in await house.says()


async def test_when_the_last_who_needed_a_part_is_deleted_nothing_is_left_of_it(house: House) -> None:
    await _forked(house)
    await house.delete("a")
    pack = next(iter([info.key async for info in house.store.list(layout.packs_prefix("a"))]))
    assert (await house.store.head(pack)).size > 300_000  # type: ignore[union-attr]
    kept = await house.delete("b")
    assert kept.rewritten.objects == 1
    assert (await house.store.head(pack)).size < 100  # type: ignore[union-attr]


async def test_who_borrowed_keeps_what_it_borrowed(house: House) -> None:
    everything = Bounds(borrow=0, offer=0)
    await house.take("a", {b"secret": _SECRET, b"shared": _SHARED}, bounds=everything)
    await house.take("b", {b"mine": _SHARED}, bounds=everything)
    kept = await house.delete("a")
    assert [one.agent_uid for one in kept.packs[0].needed_by] == ["b"]
    assert not kept.packs[0].needed_by[0].fork
    assert CANARY not in await house.says()
    assert await house.read("b", "mine") == _SHARED


async def test_packs_are_left_whole_while_a_manifest_cannot_be_read(house: House) -> None:
    await _forked(house)
    await house.store.put(layout.manifest_key("c", 1), b"of a later release")
    kept = await house.delete("a")
    assert (kept.unreadable, kept.whole, kept.rewritten.objects) == (1, 1, 0)
    assert kept.packs[0].whole
    await house.store.delete([layout.manifest_key("c", 1)])
    kept = await house.rewriting.rewrite("a", (), _nobody)
    assert (kept.unreadable, kept.rewritten.objects) == (0, 1)
    assert CANARY not in await house.says()


async def test_a_pack_on_the_list_is_released_a_grace_after_it_was_rewritten(house: House) -> None:
    await _forked(house)
    await house.delete("a")
    (pack,) = (await house.condemned.look()).packs
    assert (await house.condemned.look()).packs[pack].rewriters == {}
    later = StoreUpkeep(house.store, sealer=house.sealer)
    assert (await later.collect()).released == 0
    await house.condemned.change(
        lambda found: {
            key: one.model_copy(update={"rewritten": datetime.now(UTC) - timedelta(hours=25)})
            for key, one in found.items()
        }
    )
    report = await later.collect()
    assert (report.released, report.swept) == (1, 0)
    assert await house.read("b", "shared") == _SHARED


async def test_who_forks_what_was_rewritten_stores_it_anew(house: House) -> None:
    await _forked(house)
    await house.delete("a")
    await house.fork(layout.manifest_key("b", 1), "c")
    assert await house.read("c", "shared") == _SHARED
    found = [info.key async for info in house.store.list(layout.packs_prefix("c"))]
    assert len(found) == 1


class _Race:
    """Lets something happen between a writer's look at the list and its manifest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, house: House, then: Callable[[], object]) -> None:
        admit = Guard.admit

        async def admitted(guard: Guard, *args: object, **kwargs: object) -> object:
            found = await admit(guard, *args, **kwargs)  # type: ignore[arg-type]
            monkeypatch.setattr(Guard, "admit", admit)
            await then()  # type: ignore[misc]
            return found

        monkeypatch.setattr(Guard, "admit", admitted)
        self.house = house


async def test_a_borrower_who_looked_before_is_told_that_its_chunks_are_gone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = Bounds(borrow=0, offer=0)
    await house.take("a", {b"secret": _SECRET, b"shared": _SHARED}, bounds=everything)
    _Race(monkeypatch, house, lambda: house.delete("a"))
    with pytest.raises(SnapshotConflict, match="rewritten meanwhile: take it under the next number"):
        await house.take("b", {b"mine": _SHARED}, bounds=everything)
    assert await house.store.head(layout.manifest_key("b", 1)) is None
    await house.take("c", {b"mine": _SHARED}, bounds=everything)
    assert await house.read("c", "mine") == _SHARED


async def test_a_writer_waits_for_who_may_just_be_rewriting(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = Bounds(borrow=0, offer=0)
    await house.take("a", {b"shared": _SHARED}, bounds=everything)
    (pack,) = [info.key async for info in house.store.list(layout.packs_prefix("a"))]

    async def begin(age: timedelta) -> None:
        sentence = Sentence(rewriters={"x": datetime.now(UTC) - age})
        await house.condemned.change(lambda found: {**found, pack: sentence})

    _Race(monkeypatch, house, lambda: begin(timedelta(0)))
    with pytest.raises(SnapshotOvertaken, match="just being rewritten"):
        await house.take("b", {b"mine": _SHARED}, bounds=everything)
    # One who has been at it for so long has given up.
    await begin(TIMING.longest)
    await house.condemned.change(lambda _: {})
    _Race(monkeypatch, house, lambda: begin(TIMING.longest))
    await house.take("c", {b"mine": _SHARED}, bounds=everything)
    assert await house.read("c", "mine") == _SHARED


async def test_what_is_pruned_later_leaves_what_is_needed(house: House) -> None:
    await _forked(house)
    await house.delete("a")
    await house.upkeep.prune("b", Retention(last=1))
    assert await house.read("b", "shared") == _SHARED
