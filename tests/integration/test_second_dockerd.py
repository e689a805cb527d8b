"""The second Docker daemon that other tests stop and kill: it works, and leaves the machine's own alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from tests.support import dockerd_keeper
from tests.support.boxes import IMAGE
from tests.support.dockerd import SecondDockerd

pytestmark = pytest.mark.slow


def start_container(client: docker.DockerClient) -> Container:
    return client.containers.run(IMAGE, ["sleep", "1000"], detach=True, init=True, network_mode="none")


def main_facts() -> dict[str, Any]:
    """What a second daemon could spoil: the machine's own daemon, its bridge, its containers' connections."""
    with contextlib.closing(docker.DockerClient.from_env()) as client:
        info: dict[str, Any] = client.info()
    addresses = subprocess.run(["ip", "-o", "addr"], check=True, capture_output=True, text=True).stdout
    bridge = [line.split()[3] for line in addresses.splitlines() if " docker0 " in line]
    return {"id": info["ID"], "root": info["DockerRootDir"], "bridge": bridge}


async def test_it_is_stopped_killed_and_started_again_and_the_other_notices_nothing(tmp_path: Path) -> None:
    before = main_facts()
    with contextlib.closing(docker.DockerClient.from_env()) as main:
        bystander = start_container(main)
        image = main.images.get(IMAGE).id
        try:
            async with SecondDockerd(tmp_path) as second:
                assert await second.load(IMAGE) == image
                assert await second.load(IMAGE) == image
                with contextlib.closing(second.client()) as client:
                    mine = start_container(client)
                    assert mine.exec_run(["echo", "here"]).output == b"here\n"
                    mine.reload()
                    pid = int(mine.attrs["State"]["Pid"])
                    assert [one.id for one in client.containers.list(all=True)] == [mine.id]

                    await second.kill()
                    assert not await second.answers()
                    assert Path(f"/proc/{pid}").exists(), "containers outlive a daemon that is killed"
                    await second.start()
                    mine.reload()
                    # A daemon that finds containers it lost sight of ends them.
                    assert mine.status == "exited"
                    mine.start()
                    mine.reload()
                    assert mine.status == "running"

                    await second.stop()
                    await second.start()
                    mine.reload()
                    assert mine.status == "exited"
                    paused = start_container(client)
                    paused.pause()
                    await second.kill()
            bystander.reload()
            assert bystander.status == "running"
            assert bystander.exec_run(["echo", "on"]).output == b"on\n"
        finally:
            bystander.remove(force=True)
    assert main_facts() == before
    assert dockerd_keeper.processes(tmp_path) == []
    assert dockerd_keeper.mounts(tmp_path) == []
    assert {path.suffix for path in tmp_path.iterdir()} == {".log"}


async def test_it_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.support.dockerd import SecondDockerd\n"
        "async def main() -> None:\n"
        "    async with SecondDockerd(Path(sys.argv[1])) as second:\n"
        "        await second.load(sys.argv[2])\n"
        "        client = second.client()\n"
        "        client.containers.run(sys.argv[2], ['sleep', '1000'], detach=True, network_mode='none')\n"
        "        print('up', flush=True)\n"
        "        await asyncio.sleep(1000)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), IMAGE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    assert dockerd_keeper.processes(tmp_path, "containerd-shim")
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    deadline = time.monotonic() + 60
    while dockerd_keeper.processes(tmp_path) or (tmp_path / "data").exists():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert dockerd_keeper.mounts(tmp_path) == []


async def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    second = SecondDockerd(tmp_path)
    second._runtimes = {}
    second._write_settings = lambda: (tmp_path / "daemon.json").write_text('{"no-such-setting": 1}')  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="no-such-setting"):
        async with second:
            pass
    assert dockerd_keeper.processes(tmp_path) == []
