"""`python -m workers.devstack` as a person uses it: up, up again, Ctrl-C, down, and a crash in between."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from temporalio.client import Client

from tests.support.devstack import processes_of, start_raw_workflow, until
from workers.devstack import SERVERS, DevStack, Ports
from workers.devstack.home import HomeLock
from workers.devstack.settings import CHECKOUT


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    assert processes_of(home) == []


@asynccontextmanager
async def up(home: Path, ports: Ports, *, ready: Callable[[], bool]) -> AsyncGenerator[tuple[Process, dict[str, str]]]:
    """The servers as a person starts them, once `ready`; killed at the end if the test has not stopped them."""
    environ = {
        **os.environ,
        "HIBERNAUT_HOME": str(home),
        "HIBERNAUT_TEMPORAL_PORT": str(ports.temporal),
        "HIBERNAUT_UI_PORT": str(ports.ui),
        "HIBERNAUT_S3_PORT": str(ports.store),
        "HIBERNAUT_GATEWAY_PORT": str(ports.gateway),
    }
    process = await devstack("up", "--servers-only", environ=environ)
    try:
        while not ready():
            assert process.returncode is None
            await asyncio.sleep(0.05)
        yield process, environ
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        await until(lambda: processes_of(home) == [])


async def devstack(*arguments: str, environ: dict[str, str]) -> Process:
    argv = [sys.executable, "-m", "workers.devstack", *arguments]
    return await asyncio.create_subprocess_exec(*argv, env=environ, cwd=CHECKOUT, stdout=PIPE, stderr=STDOUT)


async def said_by(process: Process) -> str:
    output, _ = await process.communicate()
    return output.decode()


@pytest.mark.slow
async def test_a_second_up_finds_the_first_and_ctrl_c_leaves_no_process(home: Path) -> None:
    ports = Ports.free()
    async with up(home, ports, ready=(home / "connection.json").exists) as (first, environ):
        for arguments in (["up", "--servers-only"], ["up", "--servers-only", "--detach"], ["status"]):
            again = await devstack(*arguments, environ=environ)
            text = await said_by(again)
            assert again.returncode == 0, text
            assert f"pid {first.pid}" in text
            assert f"http://127.0.0.1:{ports.ui}/namespaces/hibernaut/workflows" in text
        assert len(processes_of(home)) == 2

        first.send_signal(signal.SIGINT)
        text = await said_by(first)
        assert first.returncode == 0, text
        assert re.search(r"(?s)stopping store.*stopped", text)
        assert processes_of(home) == []
        assert not (home / "connection.json").exists()

        idle = await devstack("status", environ=environ)
        assert "nothing runs" in await said_by(idle)
        assert idle.returncode == 3


async def test_ctrl_c_while_it_starts_leaves_no_process(home: Path) -> None:
    async with up(home, Ports.free(), ready=lambda: processes_of(home) != []) as (process, _):
        process.send_signal(signal.SIGINT)
        text = await said_by(process)
        assert process.returncode == 0, text
        assert processes_of(home) == []
        assert HomeLock(home).holder() is None


@pytest.mark.slow
async def test_no_child_outlives_a_stack_that_is_killed_and_the_next_up_succeeds(home: Path) -> None:
    ports = Ports.free()
    async with up(home, ports, ready=(home / "connection.json").exists) as (first, _):
        first.kill()
        await until(lambda: processes_of(home) == [])
    async with DevStack(home, ports=ports, components=SERVERS) as stack:
        await start_raw_workflow(stack, "after")


@pytest.mark.slow
async def test_detached_it_returns_when_ready_and_down_stops_it(home: Path) -> None:
    ports = Ports.free()
    environ = {
        **os.environ,
        "HIBERNAUT_HOME": str(home),
        "HIBERNAUT_TEMPORAL_PORT": str(ports.temporal),
        "HIBERNAUT_UI_PORT": str(ports.ui),
        "HIBERNAUT_S3_PORT": str(ports.store),
    }
    started = await devstack("up", "--detach", "--servers-only", environ=environ)
    text = await said_by(started)
    assert started.returncode == 0, text
    assert f"127.0.0.1:{ports.temporal}" in text
    client = await Client.connect(f"127.0.0.1:{ports.temporal}", namespace="hibernaut")
    assert client.namespace == "hibernaut"

    stopped = await devstack("down", environ=environ)
    text = await said_by(stopped)
    assert stopped.returncode == 0, text
    assert HomeLock(home).holder() is None

    again = await devstack("down", environ=environ)
    assert "nothing runs" in await said_by(again)
    assert again.returncode == 0


async def test_a_port_setting_that_is_no_port_is_refused(home: Path) -> None:
    environ = {**os.environ, "HIBERNAUT_HOME": str(home), "HIBERNAUT_S3_PORT": "83330"}
    process = await devstack("up", environ=environ)
    assert "HIBERNAUT_S3_PORT is '83330', which is no port." in await said_by(process)
    assert process.returncode == 1
