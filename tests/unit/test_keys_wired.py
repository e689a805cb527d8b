"""Keys of the settings reach everything that reads or writes snapshots."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from activities.adapters.docker_client import Daemon
from activities.adapters.local_store import LocalStore
from activities.errors import SnapshotSealed
from activities.ports.upkeep import Retention
from activities.snapshots.engine import Engine
from activities.snapshots.entries import Entry, Kind
from activities.snapshots.sealing import key_of
from activities.snapshots.sharing import Bounds
from tests.support.memory_capture import MemoryCapture
from workers import wiring
from workers.keys.ring import VARIABLE, line
from workers.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from activities.ports.store import ObjectStore

KEYS = {VARIABLE: line("a", bytes(range(32)))}
CONTENT = random.Random(1).randbytes(6_000_000)
UNSEALED = ("head.json", "/shared", "/names/", "condemned.json")


def settings(folder: Path, keys: dict[str, str]) -> Settings:
    store = {"HIBERNAUT_STORE": f"file://{folder}/store", "HIBERNAUT_HOME": f"{folder}/home"}
    return Settings.load(store | keys)


def said(_text: object) -> None:
    """Nobody listens."""


@pytest.fixture
async def store(tmp_path: Path) -> ObjectStore:
    """A store in which two agents have the same files, sealed."""
    (tmp_path / "store").mkdir()
    found = LocalStore(tmp_path / "store")
    ring = settings(tmp_path, KEYS).snapshot_keys
    for uid in ("one", "two"):
        files = MemoryCapture()
        files.add(Entry(b"telling-name", Kind.FILE), CONTENT)
        engine = Engine(found, files, sealer=ring, bounds=Bounds(borrow=0, offer=0))
        await engine.claim(agent_uid=uid, generation=1)
        await engine.take("c" + uid, agent_uid=uid, generation=1, number=1, parent=None, progress=said)
    return found


async def test_agents_share_what_is_sealed(store: ObjectStore) -> None:
    infos = [info async for info in store.list("")]
    assert sum(info.size for info in infos) < 1.2 * len(CONTENT)
    assert any(info.key.startswith("chunks/") for info in infos)
    for info in infos:
        data = await store.get(info.key)
        assert CONTENT[:16] not in data
        assert b"telling-name" not in data
        assert key_of(data) is not None or any(part in info.key for part in UNSEALED), info.key


async def test_who_has_the_keys_reads_everything(tmp_path: Path, store: ObjectStore) -> None:
    known = settings(tmp_path, KEYS)
    ref = "agents/two/snapshots/manifests/00000001"
    engine = wiring.snapshot_engine(known, store, Daemon(None))
    assert b"".join([piece async for piece in engine.open_file(ref, "/telling-name")]) == CONTENT
    history = wiring.history(known, store)
    assert [row.damage for row in (await history.page("two", newest=ref)).snapshots] == [""]
    upkeep = wiring.upkeep(known, store)
    assert (await upkeep.verify("two")).damage == ()
    assert (await upkeep.collect()).unreadable == ()


async def test_who_lacks_them_is_told_and_harms_nothing(tmp_path: Path, store: ObjectStore) -> None:
    unknown = settings(tmp_path, {VARIABLE: line("b", bytes(range(1, 33)))})
    ref = "agents/two/snapshots/manifests/00000001"
    before = {info.key async for info in store.list("")}
    engine = wiring.snapshot_engine(unknown, store, Daemon(None))
    with pytest.raises(SnapshotSealed):
        await engine.list_files(ref, "/")
    (row,) = (await wiring.history(unknown, store).page("two", newest=ref)).snapshots
    assert "sealed with the key" in row.damage
    upkeep = wiring.upkeep(unknown, store)
    with pytest.raises(SnapshotSealed):
        await upkeep.verify("two")
    with pytest.raises(SnapshotSealed):
        await upkeep.prune("two", Retention(last=1))
    report = await upkeep.collect()
    assert len(report.unreadable) == 2
    assert {info.key async for info in store.list("")} >= before
