"""What becomes of frozen sandboxes when their host is back: each agent's own word decides."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from activities.adapters.local_store import LocalStore
from activities.errors import SandboxUnavailable
from activities.ports.agents import Standing
from activities.ports.sandbox import Owned, Sandboxes
from activities.ports.snapshots import SnapshotEngine
from workers.thaw import Thaw
from workers.watchdog.folder import HostFolder, HostLease, boot_id, since_boot

BOX = "c" * 64
OTHER = "d" * 64


@dataclass
class World:
    """A daemon with frozen containers of agents, and Temporal's word on them."""

    folder: HostFolder
    store: LocalStore
    boxes: list[Owned] = field(default_factory=list[Owned])
    standings: dict[str, Standing | None] = field(default_factory=dict[str, Standing | None])
    done: list[str] = field(default_factory=list[str])
    refuses: str = ""
    slow: float = 0.0

    def add(self, sandbox_id: str, standing: Standing | None, *, generation: int = 2, marked: bool = True) -> None:
        name = f"agent-{sandbox_id[0]}"
        self.boxes.append(
            Owned(sandbox_id, name, "uid", generation, running=True, paused=True, created_at=datetime.now(UTC))
        )
        self.standings[name] = standing
        if marked:
            self.folder.mark(sandbox_id)

    async def run(self) -> None:
        await Thaw("here", self.folder, cast("Sandboxes", self), cast("SnapshotEngine", self), self, self.store).run()

    async def owned(self) -> list[Owned]:
        return self.boxes

    async def unpause(self, sandbox_id: str) -> None:
        if sandbox_id == self.refuses:
            raise SandboxUnavailable("not now")
        assert not self.folder.holds(sandbox_id), "a mark set after this must stay"
        self.done.append(f"unpause {sandbox_id[0]}")

    async def remove(self, sandbox_id: str) -> None:
        self.done.append(f"remove {sandbox_id[0]}")

    async def forget(self, container_id: str) -> None:
        self.done.append(f"forget {container_id[0]}")

    async def standing(self, agent_id: str) -> Standing | None:
        await asyncio.sleep(self.slow)
        return self.standings[agent_id]


@pytest.fixture
def world(tmp_path: Path) -> World:
    folder = HostFolder(tmp_path, "here")
    folder.make()
    folder.renew(HostLease(seconds=20.0, contact=since_boot(), boot=boot_id(), namespace_id="n", pid=1))
    return World(folder, LocalStore(tmp_path / "store"))


async def test_one_that_its_agent_works_with_goes_on(world: World) -> None:
    world.add(BOX, Standing("open", "uid", 2, "here"))
    await world.run()
    assert world.done == ["unpause c"]
    assert not world.folder.marked()


@pytest.mark.parametrize(
    "standing",
    [
        Standing("open", "uid", 3, "there"),
        Standing("open", "uid", 3),
        Standing("open", "another", 1, "here"),
        Standing("closed"),
        Standing("missing"),
    ],
)
async def test_one_that_nobody_will_hold_again_is_removed(world: World, standing: Standing) -> None:
    world.add(BOX, standing)
    await world.run()
    assert world.done == ["remove c", "forget c"]
    assert not world.folder.marked()


@pytest.mark.parametrize(
    "standing",
    [
        None,
        Standing("open", "uid", 2),
        Standing("open", "uid", 2, "there"),
        Standing("open", "uid", 1, "here"),
    ],
    ids=["no certain word", "in the middle of a recovery", "held elsewhere", "older than the container"],
)
async def test_whatever_is_not_certain_stays_frozen(world: World, standing: Standing | None) -> None:
    world.add(BOX, standing)
    await world.run()
    assert world.done == []
    assert world.folder.holds(BOX)


async def test_an_answer_that_was_long_on_its_way_counts_for_nothing(world: World) -> None:
    world.add(BOX, Standing("open", "uid", 2, "here"))
    world.slow = 0.2
    world.folder.renew(HostLease(seconds=0.2, contact=since_boot(), boot=boot_id(), namespace_id="n", pid=1))
    await world.run()
    assert world.done == []
    assert world.folder.holds(BOX)


async def test_one_that_the_watchdog_did_not_freeze_is_left_alone(world: World) -> None:
    world.add(BOX, Standing("closed"), marked=False)
    await world.run()
    assert world.done == []


async def test_marks_of_containers_that_are_gone_go_too(world: World) -> None:
    world.folder.mark(OTHER)
    await world.run()
    assert not world.folder.marked()


async def test_one_that_fails_keeps_its_mark_and_holds_up_no_other(world: World) -> None:
    world.add(BOX, Standing("open", "uid", 2, "here"))
    world.add(OTHER, Standing("open", "uid", 2, "here"))
    world.refuses = BOX
    with pytest.raises(SandboxUnavailable):
        await world.run()
    assert world.done == ["unpause d"]
    assert world.folder.marked() == {BOX}
