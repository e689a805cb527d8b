"""Logs of a real computer: a real worker, gateway and command line; only the model is scripted."""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from activities.adapters.docker_client import Daemon
from examples.scripted_model import say, shell as run
from hibernaut.agent import AgentHandle
from tests.integration.conftest import LabFactory
from workers.devstack.stack import DevStack

CHECKOUT = Path(__file__).parents[2]
WAITING = "echo one; sleep 1; echo oops >&2; echo two; until [ -e /root/go ]; do sleep 0.1; done; echo three"
LARGE = "head -c 5000000 /dev/urandom | tee /root/large"


@pytest.fixture(scope="module")
async def gateway(stack: DevStack) -> AsyncIterator[dict[str, str]]:
    """The environment of clients of a gateway that serves the stack's agents."""
    env = {**os.environ, **stack.env, "PYTHONPATH": str(CHECKOUT)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "workers.gateway", env=env)
    async with httpx2.AsyncClient(base_url=env["HIBERNAUT_GATEWAY_URL"], trust_env=False) as http:
        while process.returncode is None:
            try:
                await http.get("/healthz")
                break
            except httpx2.TransportError:
                await asyncio.sleep(0.1)
    assert process.returncode is None
    yield env
    if process.returncode is None:
        process.terminate()
    assert await process.wait() == 0


@asynccontextmanager
async def logs(env: dict[str, str], *arguments: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "hibernaut", "logs", *arguments)
    process = await asyncio.create_subprocess_exec(*command, env=env, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def running(agent: AgentHandle) -> str:
    while (prefix := (await agent.status()).exec_prefix) is None:
        await asyncio.sleep(0.1)
    return prefix


def let_go(daemon: Daemon, sandbox_id: str) -> None:
    probe = daemon.api.exec_create(sandbox_id, ["touch", "/root/go"])["Id"]
    list(daemon.frames(probe))


async def lines(process: asyncio.subprocess.Process, count: int) -> list[bytes]:
    assert process.stdout is not None
    return [await process.stdout.readline() for _ in range(count)]


@pytest.mark.slow
async def test_output_is_seen_while_it_grows_and_whole_afterwards(lab: LabFactory, gateway: dict[str, str]) -> None:
    async with lab([run(WAITING, LARGE, "sha256sum < /root/large"), say("done")]) as it, asyncio.timeout(100):
        agent = await it.start()
        ticket = await agent.post("go")
        prefix = await running(agent)
        async with (
            logs(gateway, agent.id, "--exec", f"{prefix}-i0", "--follow") as one,
            logs(gateway, agent.id, "--follow") as every,
        ):
            assert await lines(one, 2) == [b"one\n", b"two\n"]
            assert await lines(every, 3) == [f"{prefix}-i0 $ {WAITING}\n".encode(), b"one\n", b"two\n"]
            status = await agent.status()
            assert status.exec_prefix == prefix
            assert status.lease is not None
            let_go(it.daemon, status.lease.sandbox_id)
            assert (await one.communicate(), one.returncode) == ((b"three\n", b"oops\n"), 0)
            await agent.wait(ticket.message_id, timeout=60)
            async with logs(gateway, agent.id, "--exec", f"{prefix}-i1") as process:
                large, _ = await process.communicate()
            async with logs(gateway, agent.id, "--exec", f"{prefix}-i2") as process:
                digest, _ = await process.communicate()
            assert len(large) == 5_000_000
            assert hashlib.sha256(large).hexdigest() == digest.split()[0].decode()
            await agent.close()
            whole, errors = await every.communicate()
            assert (every.returncode, errors) == (0, b"oops\n")
            assert large in whole
            assert digest in whole.partition(large)[2]
