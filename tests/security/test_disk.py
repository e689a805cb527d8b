"""The disk limit where the file system keeps none, as on ext4: one file by the kernel, the sum by a watch."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Generator, Iterator
from uuid import uuid4

import pytest

from activities.adapters.disk_watch import LOOK_S, DiskWatch
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_control import ContainerControl
from hibernaut.models import OutcomeKind
from hibernaut.models.spec import DEFAULT_IMAGE
from tests.security.cell import Cell, Cells

MANY = "mkdir -p /many; for i in $(seq 60); do head -c 10M /dev/zero >/many/$i; done; sleep 30; echo unreachable"
DELETED = """python3 -c '
import os, time
held = []
for number in range(60):
    file = open("/root/gone", "wb")
    os.unlink("/root/gone")
    file.write(bytes(10 << 20))
    file.flush()
    held.append(file)
time.sleep(30)
'"""
MAPPED = """python3 -c '
import mmap, os, time
held = []
for number in range(60):
    file = os.open("/root/gone", os.O_RDWR | os.O_CREAT)
    os.unlink("/root/gone")
    os.write(file, bytes(10 << 20))
    held.append(mmap.mmap(file, 10 << 20))
    os.close(file)
    # Python keeps a descriptor of its own.
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                pass
time.sleep(30)
'"""
MOUNTED = """
for file in hosts hostname resolv.conf; do head -c 60M /dev/zero >/etc/$file; done; sleep 30; echo unreachable
"""
VOLUME = MANY.replace("/many", "/data/many")
EMPTY = """python3 -c '
import itertools, time
for number in itertools.count():
    open(f"/many/{number}", "w").close()
'"""


@pytest.fixture
async def watched(prison: Cells) -> AsyncIterator[Cell]:
    cell = await prison.make(disk_mb=64)
    await cell.run("mkdir /many")
    async with prison.boxes.disks_watched(0):
        yield cell


async def test_one_file_is_bounded_by_the_kernel(prison: Cells) -> None:
    cell = await prison.make(disk_mb=64)
    told = await cell.run("head -c 300M /dev/zero >/root/big; stat -c %s /root/big")
    assert told.stdout == f"{64 << 20}\n"
    assert "File size limit exceeded" in told.stderr
    await cell.alive()


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The default sandbox image with a volume at /data."""
    daemon = Daemon()
    name = f"hibernaut-test/filled:{uuid4().hex[:8]}"
    made = daemon.api.create_container(DEFAULT_IMAGE, "true")["Id"]
    repository, _, tag = name.partition(":")
    daemon.api.commit(made, repository, tag, changes="VOLUME /data")
    daemon.api.remove_container(made)
    yield name
    daemon.api.remove_image(name)
    daemon.close()


async def test_the_volumes_of_an_image_are_held_to_the_limit_too(prison: Cells, image: str) -> None:
    cell = await prison.make(disk_mb=64, image=image)
    async with prison.boxes.disks_watched(0):
        told = await cell.run(VOLUME)
        assert (told.end.kind, told.stdout) == (OutcomeKind.INTERRUPTED, "")
        assert "disk limit (disk_mb)" in told.end.detail
        assert (await cell.run("rm -rf /data/many; echo cleaned")).stdout == "cleaned\n"


@pytest.mark.parametrize(
    "filler", [MANY, DELETED, MAPPED, MOUNTED], ids=["files", "deleted", "mapped", "mounted-by-docker"]
)
async def test_a_disk_filler_is_ended_and_told_and_may_clean_up(watched: Cell, filler: str) -> None:
    told = await watched.run(filler)
    assert told.end.kind is OutcomeKind.INTERRUPTED
    assert "disk limit (disk_mb)" in told.end.detail
    assert "unreachable" not in told.stdout
    cleaned = await watched.run(
        "rm -rf /many; for file in hosts hostname resolv.conf; do : >/etc/$file; done; echo cleaned"
    )
    assert (cleaned.stdout, cleaned.end.exit_code, cleaned.end.detail) == ("cleaned\n", 0, "")
    await watched.alive()


@pytest.mark.slow
async def test_empty_files_use_up_the_limit_too(watched: Cell) -> None:
    told = await watched.run(EMPTY)
    assert "disk limit (disk_mb)" in told.end.detail
    assert int((await watched.run("ls -f /many | wc -l")).stdout) < 100_000


async def test_what_fills_the_disk_in_the_background_is_ended_and_told_with_the_next_command(watched: Cell) -> None:
    loop = "i=0; while :; do head -c 5M /dev/zero >/many/$i; i=$((i+1)); done"
    begun = await watched.run(f"(setsid sh -c '{loop}' >/dev/null 2>&1 &); echo begun")
    assert begun.stdout == "begun\n"
    # Ended while this one runs, or before it.
    told = await watched.run("sleep 6")
    assert "disk limit (disk_mb)" in told.end.detail
    left = await watched.run("pgrep -x head; rm -rf /many; echo cleaned")
    assert (left.stdout, left.end.detail) == ("cleaned\n", "")


@pytest.mark.slow
async def test_who_uses_up_the_hosts_reserve_is_ended_and_nobody_else(prison: Cells) -> None:
    quiet, greedy = await asyncio.gather(prison.make(disk_mb=None), prison.make(disk_mb=None))
    # What it wrote before anybody looked is no reason either.
    await quiet.run("head -c 50M /dev/zero >/root/old; sync /root/old")
    waiting = asyncio.create_task(quiet.run("sleep 8; echo kept"))
    async with prison.boxes.disks_watched(1 << 60):
        told = await greedy.run("for i in $(seq 200); do head -c 10M /dev/zero >/root/$i; sleep 0.1; done")
        assert "disk" in told.end.detail
        assert (await waiting).stdout == "kept\n"


@pytest.mark.slow
async def test_a_cell_without_a_limit_is_not_watched(prison: Cells) -> None:
    cell = await prison.make(disk_mb=None)
    async with prison.boxes.disks_watched(0):
        assert (await cell.run("head -c 200M /dev/zero >/root/big; sleep 3; echo kept")).stdout == "kept\n"


@pytest.mark.slow
async def test_a_cell_that_was_started_again_is_held_to_its_limit(prison: Cells) -> None:
    cell = await prison.make(disk_mb=64)
    watch = DiskWatch(prison.daemon, ContainerControl(prison.daemon, prison.home), _nobody_asked)
    await asyncio.to_thread(watch.look)
    await asyncio.to_thread(prison.daemon.api.restart, cell.container.sandbox_id, 0)
    filling = asyncio.create_task(cell.run(MANY))
    while not filling.done():
        await asyncio.to_thread(watch.look)
        await asyncio.sleep(LOOK_S)
    assert (await filling).end.kind is not OutcomeKind.TIMEOUT


@contextlib.contextmanager
def _nobody_asked(_: str) -> Generator[bool]:
    yield False
