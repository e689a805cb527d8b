"""The engine without a container: an in-memory capture stands for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from activities.adapters.local_store import LocalStore
from activities.errors import FileInImageOnly, FileNotInSnapshot, ObjectNotFound, SnapshotDamaged, SnapshotNotFound
from activities.snapshots.chain import FULL_EVERY, ChainReader
from activities.snapshots.engine import Engine
from activities.snapshots.entries import Entry, Kind
from hibernaut.models import FileType
from tests.support.memory_capture import MemoryCapture

if TYPE_CHECKING:
    from pathlib import Path

    from activities.ports.snapshots import SnapshotInfo

UID = "uid"


@pytest.fixture
def memory() -> MemoryCapture:
    return MemoryCapture()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.fixture
def engine(store: LocalStore, memory: MemoryCapture) -> Engine:
    return Engine(store, memory)


async def _take(engine: Engine, number: int, parent: str | None) -> SnapshotInfo:
    return await engine.take("c", agent_uid=UID, generation=1, number=number, parent=parent, progress=_ignore)


async def _read(engine: Engine, ref: str, path: str) -> bytes:
    return b"".join([piece async for piece in engine.open_file(ref, path)])


async def test_files_are_listed_and_read_without_a_container(engine: Engine, memory: MemoryCapture) -> None:
    add = memory.add
    for path in (b"home", b"home/agent", b"new"):
        add(Entry(path, Kind.DIRECTORY, mode=0o755, opaque=path == b"new"))
    add(Entry(b"home/agent/report.md", Kind.FILE, mode=0o644, uid=7, mtime_ns=10**18), b"# Report")
    add(Entry(b"home/agent/also", Kind.FILE, leader=b"home/agent/report.md"))
    add(Entry(b"home/agent/big", Kind.FILE), bytes(range(256)) * 20_000)
    add(Entry(b"home/agent/latin\xe9", Kind.FILE), b"odd")
    add(Entry(b"home/agent/gone", Kind.WHITEOUT))
    add(Entry(b"home/agent/abs", Kind.SYMLINK, target=b"/home/agent/report.md"))
    add(Entry(b"home/agent/rel", Kind.SYMLINK, target=b"../../link/report.md"))
    add(Entry(b"link", Kind.SYMLINK, target=b"home/./agent/"))
    add(Entry(b"loop", Kind.SYMLINK, target=b"loop"))
    add(Entry(b"out", Kind.SYMLINK, target=b"../../../../home/agent/report.md"))
    add(Entry(b"to-image", Kind.SYMLINK, target=b"/etc/passwd"))
    add(Entry(b"pipe", Kind.FIFO))
    add(Entry(b"sparse", Kind.FILE, size=3_000_000, extents=((1_000_000, 4), (2_000_000, 3))), b"datamore"[:7])
    taken = await _take(engine, 1, None)
    ref = taken.ref

    listed = await engine.list_files(ref, "/home/agent")
    assert [entry.path.rpartition("/")[2] for entry in listed] == [
        "abs",
        "also",
        "big",
        "latin\udce9",
        "rel",
        "report.md",
    ]
    report = listed[-1]
    assert (report.type, report.size, report.mode, report.uid) == (FileType.FILE, 8, 0o644, 7)
    assert (listed[0].type, listed[0].target) == (FileType.SYMLINK, "/home/agent/report.md")
    assert listed[1].size == 8
    assert [entry.path for entry in await engine.list_files(ref, "/")][:2] == ["/home", "/link"]
    assert [entry.path for entry in await engine.list_files(ref, "/link")] == [entry.path for entry in listed]
    assert [entry.path for entry in await engine.list_files(ref, "home/agent/big")] == ["/home/agent/big"]

    direct = ["/home/agent/report.md", "home/agent/also", "//home//./agent/report.md"]
    linked = ["home/agent/abs", "/home/agent/rel", "/link/../agent/also", "/out", "/link/report.md"]
    for path in direct + linked:
        assert await _read(engine, ref, path) == b"# Report", path
    assert await _read(engine, ref, "/home/agent/big") == bytes(range(256)) * 20_000
    assert await _read(engine, ref, "/home/agent/latin\udce9") == b"odd"
    content = await _read(engine, ref, "/sparse")
    assert len(content) == 3_000_000
    assert (content[1_000_000:1_000_004], content[2_000_000:2_000_003]) == (b"data", b"mor")
    assert content.count(b"\0") == 3_000_000 - 7
    for path in ("/etc/passwd", "/to-image", "/home/nobody/x"):
        with pytest.raises(FileInImageOnly, match="image"):
            await _read(engine, ref, path)
    for path in ("/home/agent/gone", "/home/agent/gone/x", "/home/agent/big/x", "/loop", "/pipe", "/home", "/new/x"):
        with pytest.raises(FileNotInSnapshot):
            await _read(engine, ref, path)
    with pytest.raises(SnapshotNotFound):
        await engine.list_files("agents/uid/snapshots/manifests/00000099", "/")


async def test_chains_end_in_a_full_manifest(engine: Engine, memory: MemoryCapture, store: LocalStore) -> None:
    for number in range(50):
        memory.add(Entry(b"base%d" % number, Kind.FILE), b"base %d" % number)
    ref: str | None = None
    kinds: list[str] = []
    for number in range(1, 2 * FULL_EVERY + 5):
        memory.add(Entry(b"file%d" % (number % 7), Kind.FILE, mtime_ns=number), b"content %d" % number)
        if number % 5 == 0:
            del memory.tree[b"file%d" % ((number - 1) % 7)]
        ref = (await _take(engine, number, ref)).ref
        kinds.append((await ChainReader(store).manifest(ref))[0].kind)
        reader = ChainReader(store)
        assert set((await reader.state(ref)).entries) == set(memory.tree)
        assert reader.requests <= FULL_EVERY + 1
    assert [at for at, kind in enumerate(kinds) if kind == "full"] == [0, FULL_EVERY + 1, 2 * FULL_EVERY + 2]


async def test_a_missing_link_of_the_chain(engine: Engine, memory: MemoryCapture, store: LocalStore) -> None:
    for number in range(10):
        memory.add(Entry(b"base%d" % number, Kind.FILE), b"base %d" % number)
    first = await _take(engine, 1, None)
    memory.add(Entry(b"a", Kind.FILE), b"1")
    second = await _take(engine, 2, first.ref)
    memory.add(Entry(b"b", Kind.FILE), b"2")
    third = await _take(engine, 3, second.ref)
    await store.put(second.ref, await store.get(first.ref))
    with pytest.raises(SnapshotDamaged):
        await ChainReader(store).state(third.ref)
    done = await engine.restore("c", agent_uid=UID, generation=2, ref=third.ref, progress=_ignore)
    assert (done.restored, done.number) == (first.ref, 1)
    assert b"a" not in memory.tree
    # A worker that must build on what is damaged writes a full manifest instead.
    memory.add(Entry(b"c", Kind.FILE), b"3")
    fourth = await _take(Engine(store, memory), 4, third.ref)
    assert (await ChainReader(store).manifest(fourth.ref))[0].kind == "full"
    assert set((await ChainReader(store).state(fourth.ref)).entries) == set(memory.tree)


async def test_deleting_an_agent_leaves_nothing(engine: Engine, memory: MemoryCapture, store: LocalStore) -> None:
    await engine.prepare("c", agent_uid=UID, generation=1)
    await store.put("agents/uid-2/snapshots/manifests/00000001", b"another's")
    memory.add(Entry(b"a", Kind.FILE), b"1")
    taken = await _take(engine, 1, None)
    assert await _read(engine, taken.ref, "a") == b"1"
    counts = await engine.delete_agent(UID)
    assert (counts.manifests, counts.packs) == (1, 1)
    assert counts.bytes > 0
    assert [info.key async for info in store.list("")] == ["agents/uid-2/snapshots/manifests/00000001"]
    with pytest.raises(SnapshotNotFound):
        await _read(engine, taken.ref, "a")


async def test_what_is_kept_of_a_container_goes_with_it(engine: Engine, store: LocalStore) -> None:
    await engine.prepare("c", agent_uid=UID, generation=1)
    assert await store.get("agents/uid/snapshots/containers/c/base") == b"notes"
    await engine.forget("c")
    with pytest.raises(ObjectNotFound):
        await store.get("agents/uid/snapshots/containers/c/base")
    await engine.forget("c")


def _ignore(_: str) -> None:
    pass
