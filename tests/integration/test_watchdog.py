"""The watchdog of a host as a process of its own, on real containers."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from docker.errors import NotFound

from activities.adapters.docker_captures import DockerCaptures
from activities.adapters.docker_freeze import Freezer
from activities.errors import SandboxUnavailable
from tests.support.hosts import Host, a_host, until
from tests.support.wedges import answers, commands
from workers.settings import CHECKOUT, HostSettings
from workers.watchdog.folder import HostFolder, HostLease, boot_id, since_boot
from workers.watchdog.spawn import guarded, watched

LEASE_S = 2.0


class Watched:
    """A host's folder, and contact as a worker would prove it."""

    def __init__(self, home: Path, host: Host) -> None:
        self.host = host
        self.folder = HostFolder(home, host.id)
        self.folder.make()
        self.env = {"HIBERNAUT_HOME": str(home), "HIBERNAUT_HOST_ID": host.id}
        self.settings = HostSettings.load({**self.env, "HIBERNAUT_LEASE_SECONDS": str(LEASE_S)})

    def contact(self, *, ago: float = 0.0, seconds: float = LEASE_S, stopped: bool = False) -> float:
        at = since_boot() - ago
        self.folder.renew(
            HostLease(
                seconds=seconds,
                contact=at,
                boot=boot_id(),
                namespace_id=self.host.namespace_id,
                pid=os.getpid(),
                stopped=stopped,
            )
        )
        return at

    @asynccontextmanager
    async def watchdog(self, *arguments: str) -> AsyncGenerator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "workers.watchdog", *arguments, env={**os.environ, **self.env}, cwd=CHECKOUT
        )
        try:
            await until(lambda: watched(self.folder), "a watchdog")
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Watched]:
    async with a_host() as host:
        yield Watched(tmp_path, host)


async def test_sandboxes_are_frozen_when_the_lease_runs_out_and_not_before(world: Watched) -> None:
    host = world.host
    mine, other = await host.acquire(), await host.acquire(agent_id="other")
    async with a_host() as neighbour, a_host(namespace_id="another deployment") as stranger:
        theirs = await neighbour.acquire()
        strange = Host(stranger.daemon, host.id, "another deployment")
        also = await strange.acquire()
        for container in (mine, other):
            host.tick(container.sandbox_id)
        contact = world.contact()
        async with world.watchdog():
            await until(lambda: host.paused(mine.sandbox_id) and host.paused(other.sandbox_id), "a freeze")
            assert since_boot() - contact >= LEASE_S
            before = host.ticks(mine.sandbox_id)
            assert before > 0
            await asyncio.sleep(0.5)
            assert host.ticks(mine.sandbox_id) == before
            assert world.folder.marked() == {mine.sandbox_id, other.sandbox_id}
            assert not neighbour.paused(theirs.sandbox_id), "that of another host"
            assert not stranger.paused(also.sandbox_id), "that of another deployment whose host has the same name"
        await strange.boxes.remove(also.sandbox_id)
        await strange.boxes.close()


@pytest.mark.slow
async def test_contact_keeps_them_going_and_thaws_nothing(world: Watched) -> None:
    host = world.host
    mine = (await host.acquire()).sandbox_id
    world.contact()
    async with world.watchdog():
        for _ in range(8):
            await asyncio.sleep(LEASE_S / 5)
            world.contact()
            assert not host.paused(mine)
        await until(lambda: host.paused(mine), "a freeze")
        world.contact()
        await asyncio.sleep(LEASE_S / 2)
        assert host.paused(mine)


async def test_a_snapshot_under_way_neither_thaws_nor_hides_what_is_frozen(world: Watched) -> None:
    host = world.host
    mine = (await host.acquire()).sandbox_id
    freezer = Freezer(host.daemon, world.folder)
    captures = DockerCaptures(host.daemon, marks=world.folder)
    pid = int(host.daemon.api.inspect_container(mine)["State"]["Pid"])
    with freezer.frozen(mine, pid):
        world.contact(ago=LEASE_S)
        async with world.watchdog():
            await until(lambda: world.folder.holds(mine), "a mark")
    assert host.paused(mine)
    with pytest.raises(SandboxUnavailable, match="cut off"):
        captures.open(mine, None)
    assert host.paused(mine)
    world.folder.release(mine)
    captures.open(mine, None)
    assert not host.paused(mine), "one that an attempt left behind is let go on"


@pytest.mark.slow
async def test_commands_that_start_meanwhile_do_not_keep_the_daemon_from_answering(world: Watched) -> None:
    boxes = world.host.boxes
    # Of a container in which commands start all the time, every other is caught as one does.
    mine = {(await world.host.acquire()).sandbox_id for _ in range(5)}
    async with world.watchdog():
        with ExitStack() as stack:
            for box in mine:
                stack.enter_context(commands(box))
            # Half a lease is left for the freeze and for what it brings about.
            world.contact(ago=20.0, seconds=20.0)
            while not all(box.paused for box in await boxes.owned()):
                await asyncio.sleep(0.05)
            for box in mine:
                assert await asyncio.to_thread(answers, box)
            assert all(world.host.paused(box) for box in mine)
            assert world.folder.marked() == mine
    for box in mine:
        await boxes.unpause(box)
        assert not world.host.paused(box)


async def test_a_sandbox_that_somebody_thaws_meanwhile_is_frozen_again(world: Watched) -> None:
    host = world.host
    mine = (await host.acquire()).sandbox_id
    world.contact(ago=LEASE_S)
    async with world.watchdog():
        await until(lambda: host.paused(mine), "a freeze")
        host.daemon.api.unpause(mine)
        await until(lambda: host.paused(mine), "another freeze")


@pytest.mark.slow
async def test_a_killed_watchdog_is_replaced_and_the_worker_s_own_death_changes_nothing(world: Watched) -> None:
    host = world.host
    mine = (await host.acquire()).sandbox_id
    world.contact(seconds=600)
    async with guarded(world.settings):
        await until(lambda: watched(world.folder) and _pid(world.folder) > 0, "a watchdog")
        first = _pid(world.folder)
        os.kill(first, 9)
        await until(lambda: watched(world.folder) and _pid(world.folder) not in {0, first}, "another watchdog")
    # The worker is gone, and with it the contact.
    world.contact(seconds=LEASE_S)
    await until(lambda: host.paused(mine), "a freeze")
    assert watched(world.folder)
    await host.boxes.remove(mine)
    world.contact(stopped=True)
    await until(lambda: not watched(world.folder), "its end, with nobody to watch for and nothing to watch over")


async def test_there_is_one_watchdog_and_a_second_waits_for_its_end(world: Watched) -> None:
    async with world.watchdog() as first:
        spare = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "workers.watchdog", "--spare", env={**os.environ, **world.env}, cwd=CHECKOUT
        )
        assert await spare.wait() == 0
        async with world.watchdog() as second:
            assert _pid(world.folder) == first.pid
            first.kill()
            await until(lambda: _pid(world.folder) == second.pid, "the second takes over")


async def test_a_machine_that_was_started_anew_has_no_lease(world: Watched) -> None:
    mine = (await world.host.acquire()).sandbox_id
    world.folder.renew(
        HostLease(
            seconds=600,
            contact=since_boot(),
            boot="another",
            namespace_id=world.host.namespace_id,
            pid=1,
            stopped=False,
        )
    )
    async with world.watchdog():
        await until(lambda: world.host.paused(mine), "a freeze")


async def test_a_sandbox_that_ends_meanwhile_is_no_trouble(world: Watched) -> None:
    host = world.host
    stopped, removed, kept = [(await host.acquire()).sandbox_id for _ in range(3)]
    host.daemon.api.kill(stopped)
    world.contact(ago=LEASE_S)
    async with world.watchdog():
        host.daemon.api.remove_container(removed, force=True, v=True)
        await until(lambda: host.paused(kept), "a freeze")
        with pytest.raises(NotFound):
            host.paused(removed)
        assert not world.folder.holds(stopped)


def _pid(folder: HostFolder) -> int:
    words = folder.lock.read_text(encoding="utf-8").split()
    return int(words[0]) if words else 0
