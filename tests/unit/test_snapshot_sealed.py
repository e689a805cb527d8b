"""Snapshots sealed at rest: nothing of them is readable in the store, and nothing of them can be changed or moved."""

from __future__ import annotations

import json
import logging
import random
from typing import TYPE_CHECKING

import pytest
import zstandard
from blake3 import blake3

from activities.adapters.local_store import LocalStore
from activities.errors import HibernautActivityError, SnapshotDamaged, SnapshotSealed, SnapshotTooNew
from activities.snapshots.chain import ChainReader
from activities.snapshots.engine import Engine
from activities.snapshots.entries import Entry, Kind
from activities.snapshots.manifest import MAGIC, Manifest, decode
from activities.snapshots.sealing import OVERHEAD, PLAIN, Key, KeyRing, key_of
from tests.support.memory_capture import MemoryCapture

if TYPE_CHECKING:
    from pathlib import Path

    from activities.ports.snapshots import SnapshotInfo
    from activities.snapshots.sealing import Sealer

UID = "uid"
OLD, NEW = Key("old", bytes(range(32))), Key("new", bytes(range(32, 64)))
RING = KeyRing([OLD])
CONTENT, NAME, TARGET, ATTRIBUTE = b"plain content " * 50, b"telling-name", b"telling-target", b"user.telling"


def computer() -> MemoryCapture:
    memory = MemoryCapture()
    memory.add(Entry(b"home", Kind.DIRECTORY, mode=0o755))
    memory.add(Entry(b"home/" + NAME, Kind.FILE, xattrs=((ATTRIBUTE, b"v"),)), CONTENT)
    memory.add(Entry(b"home/link", Kind.SYMLINK, target=TARGET))
    # What does not compress lies in a pack as it is, if it is not sealed.
    memory.add(Entry(b"home/random", Kind.FILE), random.Random(1).randbytes(3_000_000))
    for number in range(20):
        memory.add(Entry(b"home/%d" % number, Kind.FILE), b"%d" % number)
    return memory


class Home:
    """A store, a computer, and engines with one key ring or another."""

    def __init__(self, folder: Path) -> None:
        self.store = LocalStore(folder)
        self.files = computer()
        self.said: list[str] = []

    def engine(self, sealer: Sealer, files: MemoryCapture | None = None) -> Engine:
        return Engine(self.store, files or self.files, sealer=sealer)

    async def take(self, sealer: Sealer, number: int, parent: str | None) -> SnapshotInfo:
        return await self.engine(sealer).take(
            "c", agent_uid=UID, generation=1, number=number, parent=parent, progress=self.said.append
        )

    async def restored(self, sealer: Sealer, ref: str) -> str:
        """Restore into a new computer; return which snapshot it got."""
        files = MemoryCapture()
        found = await self.engine(sealer, files).restore(
            f"c{random.random()}", agent_uid=UID, generation=2, ref=ref, progress=self.said.append
        )
        assert files.tree.keys() >= {b"home/" + NAME}
        assert files.tree[b"home/" + NAME][1] == CONTENT
        return found.restored

    async def objects(self) -> dict[str, bytes]:
        return {info.key: await self.store.get(info.key) async for info in self.store.list("")}

    async def packs(self) -> list[str]:
        return [key for key in await self.objects() if "/packs/" in key]

    async def key_of(self, ref: str, sealer: Sealer) -> tuple[int, str | None, str]:
        found, _ = await ChainReader(self.store, sealer=sealer).manifest(ref)
        return found.version, found.key, found.kind


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


async def test_nothing_is_readable_in_the_store(home: Home) -> None:
    await home.engine(RING).prepare("c", agent_uid=UID, generation=1)
    first = await home.take(RING, 1, None)
    home.files.add(Entry(b"home/later", Kind.FILE), CONTENT[::-1])
    second = await home.take(RING, 2, first.ref)
    assert await home.restored(RING, second.ref) == second.ref
    found = await home.objects()
    noise = home.files.tree[b"home/random"][1]
    for key, data in found.items():
        for marker in (
            CONTENT[:20],
            CONTENT[::-1][:20],
            NAME,
            TARGET,
            ATTRIBUTE,
            b"notes",
            noise[:16],
            b"sha256:image",
        ):
            assert marker not in data, key
        # Nothing that could be decompressed either, but for what is said to stay open.
        if not key.endswith(("head.json", "/restore")):
            assert zstandard.FRAME_HEADER not in data[:64], key
            assert key_of(data) == OLD.id, key
    assert any(key.endswith("/base") for key in found)
    assert await home.key_of(first.ref, RING) == (2, OLD.id, "full")
    assert await home.key_of(second.ref, RING) == (2, OLD.id, "delta")
    # The same without a key is found by the same means.
    plain = Home(home.store._root / "plain")
    await plain.take(PLAIN, 1, None)
    assert any(noise[:16] in data for data in (await plain.objects()).values())


async def test_every_region_of_every_object_is_guarded(home: Home) -> None:
    ref = (await home.take(RING, 1, None)).ref
    for key, data in (await home.objects()).items():
        if key.endswith("head.json"):
            continue
        places = {*range(OVERHEAD), len(data) // 3, len(data) // 2, len(data) - 1, len(data) - 16}
        for at in places:
            await home.store.put(key, data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
            with pytest.raises((SnapshotDamaged, SnapshotSealed)):
                await home.restored(RING, ref)
        for length in (0, 10, OVERHEAD - 1, len(data) - 1):
            await home.store.put(key, data[:length])
            with pytest.raises((SnapshotDamaged, SnapshotSealed)):
                await home.restored(RING, ref)
        await home.store.put(key, data)
    assert await home.restored(RING, ref) == ref


async def test_objects_in_each_others_place(home: Home) -> None:
    first = await home.take(RING, 1, None)
    home.files.add(Entry(b"home/more", Kind.FILE), random.Random(2).randbytes(3_000_000))
    second = await home.take(RING, 2, first.ref)
    one, two = await home.packs()
    data = {key: await home.store.get(key) for key in (one, two, first.ref, second.ref)}
    await home.store.put(one, data[two])
    await home.store.put(two, data[one])
    with pytest.raises(SnapshotDamaged):
        await home.restored(RING, second.ref)
    await home.store.put(one, data[one])
    await home.store.put(two, data[two])
    # A manifest opens under its own key alone, and no frame is a manifest.
    for other in (data[first.ref], data[one]):
        await home.store.put(second.ref, other)
        assert await home.restored(RING, second.ref) == first.ref
        with pytest.raises(SnapshotDamaged, match="belongs elsewhere"):
            await ChainReader(home.store, sealer=RING).manifest(second.ref)


async def test_keys_are_rotated_and_old_ones_open(home: Home) -> None:
    both, new = KeyRing([NEW, OLD]), KeyRing([NEW])
    first = await home.take(PLAIN, 1, None)
    home.files.add(Entry(b"home/a", Kind.FILE), b"a")
    second = await home.take(RING, 2, first.ref)
    home.files.add(Entry(b"home/b", Kind.FILE), b"b")
    third = await home.take(both, 3, second.ref)
    assert [await home.key_of(found.ref, both) for found in (first, second, third)] == [
        (1, None, "full"),
        (2, OLD.id, "delta"),
        (2, NEW.id, "delta"),
    ]
    assert await home.restored(both, third.ref) == third.ref
    engine = home.engine(both)
    assert b"".join([piece async for piece in engine.open_file(third.ref, "/home/a")]) == b"a"
    assert len(await engine.list_files(third.ref, "/home")) == 25
    # What was written before there were keys is read with any.
    assert await home.restored(new, first.ref) == first.ref


async def test_without_the_key_it_is_said_and_nothing_older_is_restored(home: Home) -> None:
    first = await home.take(PLAIN, 1, None)
    home.files.add(Entry(b"home/a", Kind.FILE), b"a")
    second = await home.take(RING, 2, first.ref)
    home.files.add(Entry(b"home/b", Kind.FILE), b"b")
    third = await home.take(KeyRing([NEW, OLD]), 3, second.ref)
    before = await home.objects()
    for ring, ref, wanted in (
        (PLAIN, second.ref, OLD.id),
        (KeyRing([NEW]), third.ref, OLD.id),
        (RING, third.ref, NEW.id),
    ):
        engine = home.engine(ring)
        with pytest.raises(SnapshotSealed, match=wanted):
            await home.restored(ring, ref)
        with pytest.raises(SnapshotSealed, match=wanted):
            await engine.list_files(ref, "/")
        with pytest.raises(SnapshotSealed, match=wanted):
            # Nor is a snapshot taken that would build on nothing, or be open.
            await home.take(ring, 9, ref)
    assert await home.objects() == before


async def test_no_key_is_told(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ref = (await home.take(RING, 1, None)).ref
    await home.restored(RING, ref)
    errors: list[str] = []
    for sealer in (PLAIN, KeyRing([NEW]), KeyRing([Key("old", OLD.secret[::-1])])):
        with pytest.raises(HibernautActivityError) as caught:
            await home.restored(sealer, ref)
        errors.append(f"{caught.value!r} {caught.value.__dict__}")
    told = "".join([*home.said, *errors, caplog.text, repr(home.engine(RING).__dict__)])
    for key in (OLD, NEW):
        for form in (key.secret.hex(), repr(key.secret)[2:-1], repr(list(key.secret))):
            assert form not in told


async def test_a_manifest_of_a_later_version_is_not_called_damaged(home: Home) -> None:
    ref = (await home.take(PLAIN, 1, None)).ref
    found, _ = await ChainReader(home.store).manifest(ref)
    document = found.model_dump(mode="json") | {"version": 3, "entries": "otherwise"}
    payload = zstandard.compress(json.dumps(document).encode())
    with pytest.raises(SnapshotTooNew, match="version 3"):
        decode(MAGIC + blake3(payload).digest() + payload, ref)
    assert not SnapshotTooNew.retryable


@pytest.mark.parametrize(("version", "key"), [(2, None), (2, OLD.id), (1, OLD.id)])
async def test_a_manifest_that_claims_another_seal_is_refused(home: Home, version: int, key: str | None) -> None:
    ref = (await home.take(PLAIN, 1, None)).ref
    found, _ = await ChainReader(home.store).manifest(ref)
    assert isinstance(found, Manifest)
    payload = zstandard.compress(json.dumps(found.model_dump(mode="json") | {"version": version, "key": key}).encode())
    with pytest.raises(SnapshotDamaged, match="not sealed as it says"):
        decode(MAGIC + blake3(payload).digest() + payload, ref)
