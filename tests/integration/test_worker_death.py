"""A worker killed in the middle of a command: the command runs on, runs once, and its result arrives."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from uuid import uuid4

import pytest
from temporalio.client import Client

from activities.adapters.docker_client import Daemon
from examples.scripted_model import ScriptedModel, respond, say, shell
from hibernaut import AgentClient, AgentSpec
from hibernaut.agent import AgentHandle
from hibernaut.contracts import TASK_QUEUE
from workers.devstack.stack import DevStack
from workers.devstack.temporal import worker_polls


async def _worker(environ: Mapping[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "workers",
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def _until_it_runs(agent: AgentHandle, daemon: Daemon) -> None:
    """Wait until the command has left its mark in the container."""
    for _ in range(300):
        lease = (await agent.status()).lease
        if lease is not None:
            probe = daemon.api.exec_create(lease.sandbox_id, ["test", "-s", "/root/runs"])["Id"]
            list(daemon.frames(probe))
            if daemon.api.exec_inspect(probe)["ExitCode"] == 0:
                return
        await asyncio.sleep(0.1)
    raise AssertionError("the command never started")


@pytest.mark.slow
async def test_a_command_outlives_its_worker_and_runs_once(stack: DevStack, temporal: Client) -> None:
    command = "echo run >> /root/runs; sleep 6; wc -l < /root/runs"
    script = [shell(command), respond(lambda seen: say(seen.calls[-1].results[0].stdout.strip()))]
    daemon = Daemon()
    async with ScriptedModel(script) as model:
        environ = {
            **stack.env,
            "HIBERNAUT_HOST_ID": f"mortal-{uuid4().hex[:6]}",
            "OPENAI_API_KEY": model.api_key,
            "OPENAI_BASE_URL": model.base_url,
        }
        since = time.time()
        first = await _worker(environ)
        while not await worker_polls(temporal, TASK_QUEUE, since=since):
            assert first.returncode is None
            await asyncio.sleep(0.1)
        agent = await AgentClient.over(temporal).start(f"mortal-{uuid4().hex[:6]}", AgentSpec(model=model.model))
        ticket = await agent.post("go")
        await _until_it_runs(agent, daemon)
        first.kill()
        await first.wait()
        second = await _worker(environ)
        try:
            reply = await agent.wait(ticket.message_id, timeout=90)
            assert reply.text == "1"
            assert (await agent.status()).recoveries == 0
            await agent.close(timeout=60)
        finally:
            second.terminate()
            await second.wait()
    daemon.close()
