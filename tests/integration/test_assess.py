"""sandbox.assess on a real daemon: what survives is kept, and snapshots go on from it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.testing import ActivityEnvironment

from activities.adapters.docker_captures import DockerCaptures
from activities.adapters.local_store import LocalStore
from activities.host import AssessActivities
from activities.ports.sandbox import Container
from activities.ports.snapshots import SnapshotInfo
from activities.snapshots.engine import Engine
from hibernaut.contracts import AssessRequest, AssessResult
from hibernaut.models import LeaseStatus
from tests.support.boxes import Box
from tests.support.hosts import Host, a_host
from tests.support.wedges import wedged
from workers.watchdog.folder import HostFolder


async def _wanted(task_token: bytes) -> bool:
    return bool(task_token)


class Bench:
    def __init__(self, host: Host, home: Path) -> None:
        self.host = host
        self.folder = HostFolder(home, host.id)
        self.folder.make()
        self.uid = uuid4().hex
        self.engine = Engine(LocalStore(home / "store"), DockerCaptures(host.daemon, marks=self.folder))
        self.number = 0

    async def assess(self, container: Container) -> AssessResult:
        lease = LeaseStatus(
            generation=1,
            host_id=self.host.id,
            task_queue="q",
            sandbox_id=container.sandbox_id,
            image_id=container.image_id,
            started_at=container.started_at,
        )
        activities = AssessActivities(self.host.boxes, self.folder, _wanted, 20.0)
        return await ActivityEnvironment().run(activities.assess, AssessRequest(agent_uid=self.uid, lease=lease))

    async def take(self, container: Container, parent: str | None = None) -> SnapshotInfo:
        self.number += 1
        return await self.engine.take(
            container.sandbox_id,
            agent_uid=self.uid,
            generation=1,
            number=self.number,
            parent=parent,
            progress=lambda _text: None,
        )

    def box(self, container: Container) -> Box:
        return Box(self.host.daemon, container.sandbox_id, container.image_id)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with a_host() as host:
        yield Bench(host, tmp_path)


async def test_one_that_runs_and_one_that_was_frozen(bench: Bench) -> None:
    container = await bench.host.acquire()
    result = await bench.assess(container)
    assert (result.state, result.lease.started_at) == ("running", container.started_at)
    await bench.host.boxes.pause(container.sandbox_id)
    bench.folder.mark(container.sandbox_id)
    result = await bench.assess(container)
    assert (result.state, result.lease.started_at) == ("running", container.started_at)
    assert not bench.host.paused(container.sandbox_id)
    assert not bench.folder.marked()


async def test_one_that_was_frozen_as_a_command_started_goes_on(bench: Bench) -> None:
    container = await bench.host.acquire()
    with wedged(container.sandbox_id):
        bench.folder.mark(container.sandbox_id)
        async with asyncio.timeout(30):
            result = await bench.assess(container)
    assert (result.state, result.reason) == ("running", "it was frozen and goes on")
    assert not bench.host.paused(container.sandbox_id)
    assert not bench.folder.marked()


async def test_one_that_was_killed_is_started_where_its_files_are(bench: Bench) -> None:
    container = await bench.host.acquire()
    await bench.engine.prepare(container.sandbox_id, agent_uid=bench.uid, generation=1)
    box = bench.box(container)
    box.sh("echo kept > /root/kept; mkdir /root/folder; rm /etc/issue")
    first = await bench.take(container)
    bench.host.daemon.api.kill(container.sandbox_id)
    result = await bench.assess(container)
    assert result.state == "restarted"
    assert "exit code 137" in result.reason
    assert result.lease.started_at not in {"", container.started_at}
    assert box.sh("cat /root/kept") == "kept\n"
    # What the engine remembers of the container is still right, though its processes have other ids.
    second = await bench.take(container, first.ref)
    assert (second.unchanged, second.ref) == (True, first.ref)
    box.sh("echo more > /root/more; rm /root/kept")
    third = await bench.take(container, first.ref)
    assert (third.unchanged, third.added, third.changed, third.deleted) == (False, 1, 0, 1)
    assert [entry.path for entry in await bench.engine.list_files(third.ref, "/root")] == ["/root/folder", "/root/more"]


async def test_one_that_somebody_restarted_is_found_out(bench: Bench) -> None:
    container = await bench.host.acquire()
    bench.host.daemon.api.restart(container.sandbox_id)
    result = await bench.assess(container)
    assert result.state == "restarted"
    assert (await bench.assess(container)).lease.started_at == result.lease.started_at


async def test_one_that_was_removed_is_gone(bench: Bench) -> None:
    container = await bench.host.acquire()
    await bench.host.boxes.remove(container.sandbox_id)
    result = await bench.assess(container)
    assert (result.state, result.reason) == ("gone", "its container was removed")


async def test_one_that_the_daemon_cannot_start_again_is_gone(bench: Bench) -> None:
    container = await bench.host.acquire()
    state = bench.host.daemon.api.inspect_container(container.sandbox_id)
    bench.host.daemon.api.kill(container.sandbox_id)
    # Its journal is a volume: without that the daemon refuses.
    volume = next(mount["Source"] for mount in state["Mounts"] if mount["Destination"] == "/run/hibernaut")
    assert volume.startswith("/var/lib/docker/volumes/")
    aside = Path(volume).with_name("aside")
    Path(volume).rename(aside)
    try:
        result = await bench.assess(container)
    finally:
        aside.rename(volume)
    assert result.state == "gone"
    assert "exit code 137, and it cannot be started again" in result.reason
