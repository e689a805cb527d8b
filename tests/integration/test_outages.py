"""The store or the Docker daemon stops answering: said clearly, waited for, nothing lost."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from activities.providers import load_providers
from examples.scripted_model import ScriptedModel, respond, say, shell
from hibernaut import AgentClient, AgentSpec
from hibernaut.agent import AgentHandle
from hibernaut.errors import WaitTimeout
from hibernaut.models import Trouble
from workers.devstack.settings import SERVERS, Component, Ports
from workers.devstack.stack import DevStack
from workers.settings import Settings
from workers.worker import connect, running

DOCKER_SOCKET = "/var/run/docker.sock"


async def _trouble(agent: AgentHandle, activity: str) -> Trouble:
    for _ in range(300):
        for trouble in await agent.troubles():
            if trouble.activity == activity:
                return trouble
        await asyncio.sleep(0.1)
    raise AssertionError(f"{activity} never failed")


@asynccontextmanager
async def _way_to_docker() -> AsyncGenerator[int]:
    """A way to the Docker daemon that can be cut: a forwarder on a TCP port, closed with the block."""
    writers: set[asyncio.StreamWriter] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(DOCKER_SOCKET)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        for writer in writers:
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.mark.slow
async def test_the_store_goes_away_and_comes_back(tmp_path: Path) -> None:
    async with (
        ScriptedModel([shell("echo kept > /root/x"), say("one"), shell("cat /root/x"), say("two")]) as model,
        DevStack(tmp_path / "stack", ports=Ports.free(), components=SERVERS) as stack,
    ):
        settings = Settings.load({**stack.env, "HIBERNAUT_HOST_ID": f"out-{uuid4().hex[:6]}"})
        temporal = await connect(settings)
        providers = load_providers({"OPENAI_API_KEY": model.api_key, "OPENAI_BASE_URL": model.base_url})
        async with running(settings, temporal, providers):
            agent = await AgentClient.over(temporal).start("agent", AgentSpec(model=model.model))
            await agent.send("first", timeout=60)
            await stack.stop_component(Component.STORE)
            ticket = await agent.post("second")
            trouble = await _trouble(agent, "model.call")
            assert f"127.0.0.1:{stack.ports.store}" in trouble.reason
            with pytest.raises(WaitTimeout, match=r"model\.call: tried again after"):
                await agent.wait(ticket.message_id, timeout=0.5)
            await stack.start_component(Component.STORE)
            assert (await agent.wait(ticket.message_id, timeout=90)).text == "two"
            # The image is kept in the background, and holds nobody up.
            assert [one for one in await agent.troubles() if one.activity != "image.keep"] == []
            assert (await agent.status()).recoveries == 0
            await agent.close(timeout=60)


async def test_the_docker_daemon_is_cut_off_and_comes_back(
    stack: DevStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = f"cut-{uuid4().hex[:6]}"
    settings = Settings.load({**stack.env, "HIBERNAUT_HOST_ID": host, "HIBERNAUT_HOME": str(tmp_path)})
    temporal = await connect(settings)
    script = [shell("echo here"), respond(lambda seen: say(seen.calls[-1].results[0].stdout.strip()))]
    async with ScriptedModel(script) as model:
        providers = load_providers({"OPENAI_API_KEY": model.api_key, "OPENAI_BASE_URL": model.base_url})
        agent = await AgentClient.over(temporal).start(host, AgentSpec(model=model.model))
        async with _way_to_docker() as port:
            monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
            worker = running(settings, temporal, providers)
            await worker.__aenter__()
        try:
            ticket = await agent.post("go")
            trouble = await _trouble(agent, "placement.choose")
            assert "no Docker daemon answers" in trouble.reason
            assert "DOCKER_HOST" in trouble.reason
        finally:
            await worker.__aexit__(None, None, None)
        monkeypatch.delenv("DOCKER_HOST")
        async with running(
            settings, temporal, load_providers({"OPENAI_API_KEY": model.api_key, "OPENAI_BASE_URL": model.base_url})
        ):
            assert (await agent.wait(ticket.message_id, timeout=90)).text == "here"
            await agent.close(timeout=60)
