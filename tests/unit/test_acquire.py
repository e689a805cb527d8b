"""sandbox.acquire, on a pretended daemon: what it has fetched ahead is given back when it fails."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from temporalio.testing import ActivityEnvironment

from activities.adapters.local_store import LocalStore
from activities.errors import SandboxUnavailable
from activities.ports.sandbox import Container
from activities.sandbox import SandboxActivities
from activities.snapshots.engine import Engine
from activities.snapshots.entries import Entry, Kind
from hibernaut.contracts import AcquireRequest, AcquireResult
from hibernaut.models import SandboxSpec
from tests.support.memory_capture import MemoryCapture

if TYPE_CHECKING:
    from activities.ports.sandbox import Sandboxes, SandboxIdentity

UID = "uid"


class _Slow(LocalStore):
    """Gives packs when it may, and counts what was read of them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.may = asyncio.Event()
        self.begun = asyncio.Event()
        self.ranges = 0

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        self.begun.set()
        await self.may.wait()
        self.ranges += 1
        return await super().get_range(key, start, length)


@dataclass
class _Host:
    """A daemon that makes a container once it may."""

    fails: bool = True
    may: asyncio.Event = field(default_factory=asyncio.Event)
    removed: list[int] = field(default_factory=list[int])

    async def acquire(self, identity: SandboxIdentity, spec: SandboxSpec, image_id: str | None) -> Container:
        del identity, spec, image_id
        await self.may.wait()
        if self.fails:
            raise SandboxUnavailable("no Docker daemon answers")
        return Container(sandbox_id="c" * 64, image_id="sha256:image", started_at="")

    async def destroy(self, agent_uid: str, generation: int) -> list[str]:
        assert agent_uid == UID
        self.removed.append(generation)
        return []


class World:
    """A snapshot, and a host that is to wake its agent."""

    def __init__(self, folder: Path) -> None:
        self.store = _Slow(folder / "store")
        self.host = _Host()
        self.engine = Engine(self.store, MemoryCapture(), spool=folder)
        self.ref = ""
        self.others = set[asyncio.Task[object]]()

    async def begin(self) -> asyncio.Task[AcquireResult]:
        """Take a snapshot, and begin to acquire a sandbox for it; return when its content is being fetched."""
        memory = MemoryCapture()
        memory.add(Entry(b"file", Kind.FILE), os.urandom(2_000_000))
        taken = await Engine(self.store, memory).take(
            "old", agent_uid=UID, generation=1, number=1, parent=None, progress=lambda _text: None
        )
        self.ref = taken.ref
        self.others = asyncio.all_tasks()
        task = asyncio.create_task(self.acquire())
        await self.store.begun.wait()
        return task

    async def acquire(self) -> AcquireResult:
        activities = SandboxActivities("h", cast("Sandboxes", self.host), self.engine, self.store, 20.0)
        request = AcquireRequest(agent_id="a", agent_uid=UID, generation=2, spec=SandboxSpec(), restores=self.ref)
        return await ActivityEnvironment().run(activities.acquire, request)

    async def given_up(self) -> None:
        """Wait until nothing is fetched any more, and nothing is kept for a restore."""
        async with asyncio.timeout(10):
            while asyncio.all_tasks() - self.others:
                await asyncio.sleep(0.01)
        assert not self.engine._restoring._fetcher._ahead


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_what_is_being_fetched_is_given_up(world: World) -> None:
    task = await world.begin()
    world.host.may.set()
    with pytest.raises(SandboxUnavailable):
        await task
    await world.given_up()
    world.store.may.set()
    await asyncio.sleep(0.05)
    assert world.store.ranges == 0


async def test_what_was_fetched_is_given_back(world: World) -> None:
    task = await world.begin()
    world.store.may.set()
    while not world.store.ranges:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    world.host.may.set()
    with pytest.raises(SandboxUnavailable):
        await task
    await world.given_up()


async def test_also_when_it_is_cancelled(world: World) -> None:
    task = await world.begin()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await world.given_up()


async def test_also_when_the_container_cannot_be_prepared(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(container_id: str, *, agent_uid: str, generation: int) -> None:
        raise SandboxUnavailable(f"{container_id} {agent_uid} {generation}")

    monkeypatch.setattr(world.engine, "prepare", broken)
    world.host.fails = False
    task = await world.begin()
    world.host.may.set()
    with pytest.raises(SandboxUnavailable):
        await task
    assert world.host.removed == [2]
    await world.given_up()


async def test_the_next_attempt_fetches_again_and_its_restore_uses_that(world: World) -> None:
    task = await world.begin()
    world.store.may.set()
    world.host.may.set()
    with pytest.raises(SandboxUnavailable):
        await task
    await world.given_up()
    before = world.store.ranges
    world.host.fails = False
    await world.acquire()
    async with asyncio.timeout(10):
        while world.store.ranges == before:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    fetched = world.store.ranges
    done = await world.engine.restore("c" * 64, agent_uid=UID, generation=2, ref=world.ref, progress=lambda _text: None)
    assert (done.restored, world.store.ranges) == (world.ref, fetched)


async def test_many_failures_leave_room_for_the_next(world: World) -> None:
    """Few are fetched ahead at once: what failed attempts left would be all of them soon."""
    task = await world.begin()
    world.host.may.set()
    world.store.may.set()
    first = world.ref
    with pytest.raises(SandboxUnavailable):
        await task
    for number in range(2, 8):
        world.ref = first.replace("00000001", f"{number:08}")
        with pytest.raises(SandboxUnavailable):
            await world.acquire()
    await world.given_up()
