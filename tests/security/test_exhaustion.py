"""What a hostile command uses up is its own sandbox's share: neighbours and the host go on."""

import asyncio
import contextlib
import time
from pathlib import Path

import docker.errors
import pytest

from activities.adapters.cgroups import cgroup_file
from activities.errors import SandboxError
from hibernaut.models import OutcomeKind
from tests.security.cell import Cell, Cells

BOMBS = {
    "shell": "b() { b | b & }; b; sleep 100",
    "sessions": """python3 -c '
import os
while True:
    try:
        if os.fork() == 0:
            os.setsid()
    except OSError:
        pass
'""",
}


async def counter(cell: Cell, controller: str, v1: str, v2: str) -> str:
    written = await cell.written()
    file = cgroup_file(written.pid, controller, v1, v2)
    assert file is not None
    return file.read_text()


async def cpu_seconds(cell: Cell) -> float:
    text = await counter(cell, "cpuacct", "cpuacct.usage", "cpu.stat")
    # Version 1 tells nanoseconds alone, version 2 lines of which the first is in microseconds.
    return int(text) / 1e9 if text.strip().isdigit() else int(text.split()[1]) / 1e6


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_fork_bomb_is_capped_and_its_sandbox_works_again(prison: Cells, bomb: str) -> None:
    neighbour, cell = await asyncio.gather(prison.make(), prison.make(pids=64))
    exploding = asyncio.create_task(cell.run(BOMBS[bomb], timeout_ms=3_000))
    async with asyncio.timeout(20):
        while int(await counter(cell, "pids", "pids.current", "pids.current")) < 60:
            await asyncio.sleep(0.05)
    assert (await neighbour.run("echo $(echo on)")).stdout == "on\n"
    assert int(await counter(cell, "pids", "pids.current", "pids.current")) <= 64
    end = (await exploding).end
    # Its supervisor may have been among what could not fork: then nobody saw the end.
    assert end.kind in {OutcomeKind.TIMEOUT, OutcomeKind.UNKNOWN} or "(pids)" in end.detail
    await cell.alive()


async def test_a_memory_hog_dies_alone_and_its_outcome_says_so(prison: Cells) -> None:
    cell = await prison.make(memory_mb=64)
    await cell.run("sleep 1000 & echo kept >/root/kept")
    told = await cell.run("python3 -c 'bytearray(1 << 30)'")
    assert told.end.exit_code == 137
    assert told.end.detail.startswith("out of memory")
    # It is not told of those after it.
    assert (await cell.run("cat /root/kept; pgrep -c sleep")).end.detail == ""
    await cell.alive()


@pytest.mark.slow
async def test_memory_that_is_a_file_is_memory_too(prison: Cells) -> None:
    cell, small = await asyncio.gather(prison.make(memory_mb=64, isolation={"shm_mb": 1024}), prison.make())
    # No process holds it, so no kill frees it: the kernel ends one after the other, in an order of its own. What comes
    # back is a killed command, a shell that cannot be started, or a container that is gone.
    with contextlib.suppress(SandboxError):
        told = await cell.run("head -c 512M /dev/zero >/dev/shm/hog")
        assert told.end.exit_code != 0
        assert told.end.kind is not OutcomeKind.TIMEOUT
    # What frees it for certain is a restart.
    with contextlib.suppress(docker.errors.APIError):
        await asyncio.to_thread(cell.daemon.api.kill, cell.container.sandbox_id)
    await asyncio.to_thread(cell.daemon.api.wait, cell.container.sandbox_id)
    await cell.boxes.start(cell.container.sandbox_id)
    assert (await cell.run("ls /dev/shm; echo on")).stdout == "on\n"
    await small.alive()
    told = await small.run("head -c 512M /dev/zero >/dev/shm/hog; stat -c %s /dev/shm/hog")
    assert "No space left" in told.stderr
    assert int(told.stdout) == 64 << 20


@pytest.mark.slow
async def test_a_cpu_hog_gets_its_share_and_no_more(prison: Cells) -> None:
    cell = await prison.make(cpus=0.25)
    await cell.run("for i in 1 2 3 4; do while :; do :; done & done")
    before, begun = await cpu_seconds(cell), time.monotonic()
    await asyncio.sleep(1.5)
    # Four loops would take all there is, a core each.
    assert await cpu_seconds(cell) - before < 0.5 * (time.monotonic() - begun)


async def test_open_files_run_out_for_one_process_alone(prison: Cells) -> None:
    cell = await prison.make(isolation={"nofile": 256})
    told = await cell.python(
        "import errno, os\nfound = []\ntry:\n    while True:\n"
        "        found.append(os.open('/etc/passwd', os.O_RDONLY))\n"
        "except OSError as error:\n    print(errno.errorcode[error.errno], len(found))"
    )
    assert told.stdout.split()[0] == "EMFILE"
    assert 200 < int(told.stdout.split()[1]) < 256
    await cell.alive()


async def test_what_the_container_logs_is_kept_nowhere(shared: Cell) -> None:
    details = await shared.details()
    assert details["LogPath"] == ""
    folder = Path("/var/lib/docker/containers") / shared.container.sandbox_id
    before = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    assert (await shared.run("head -c 20M /dev/zero | tr '\\0' x >/proc/1/fd/1")).end.exit_code == 0
    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) == before


@pytest.mark.slow
async def test_a_flood_of_output_is_ended_at_its_bound(shared: Cell) -> None:
    # More than once: the second is read, while it runs, over a channel that stands already.
    for _ in range(3):
        told = await shared.run("yes", max_output_bytes=1 << 20)
        assert (told.end.kind, len(told.stdout)) == (OutcomeKind.INTERRUPTED, 1 << 20)
        assert "max_output_bytes" in told.end.detail


async def test_zombies_are_reaped(shared: Cell) -> None:
    await shared.python(
        "import os\nfor _ in range(100):\n    if os.fork() == 0:\n        if os.fork() == 0:\n            os._exit(0)\n"
        "        os._exit(0)\n    os.wait()"
    )
    async with asyncio.timeout(10):
        while (await shared.run("grep -l '^State:.Z' /proc/[0-9]*/status | wc -l")).stdout != "0\n":
            await asyncio.sleep(0.1)
