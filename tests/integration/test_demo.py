"""The demo as a person runs it, and with a model that only says that it has done its work."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from activities.adapters.docker_client import Daemon
from activities.adapters.docker_sandbox import LABEL_AGENT
from examples.demo import figures, material, tasks
from examples.scripted_model import ScriptedModel, say
from hibernaut import AgentClient, AgentState, Event, EventKind
from tests.support.devstack import processes_of
from workers.devstack import DevStack, Ports
from workers.devstack.home import ConnectionFile
from workers.devstack.settings import CHECKOUT, PORT_VARIABLES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_OTHERS = ("OPENAI_", "HIBERNAUT_", "TEMPORAL_")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    assert processes_of(home) == []


def environment(home: Path, ports: Ports, **more: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
    chosen = {variable: str(getattr(ports, name)) for name, variable in PORT_VARIABLES.items()}
    return {**plain, **chosen, "HIBERNAUT_HOME": str(home), **more}


async def run(*arguments: str, environ: Mapping[str, str]) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, env=environ, cwd=CHECKOUT, stdout=PIPE, stderr=STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def client_of(home: Path) -> AgentClient:
    told = ConnectionFile.read(home)
    assert told is not None
    return await AgentClient.connect(
        address=told.temporal_address,
        namespace=told.temporal_namespace,
        gateway_url=told.gateway_url,
        gateway_token=told.gateway_token,
    )


def name_in(text: str) -> str:
    (name,) = set(re.findall(r"demo-[0-9a-f]{6}", text))
    return name


def containers(name: str) -> list[str]:
    daemon = Daemon()
    try:
        return [str(one["Id"]) for one in daemon.api.containers(all=True, filters={"label": f"{LABEL_AGENT}={name}"})]
    finally:
        daemon.close()


async def test_the_demo_holds_what_it_promises_and_runs_again(home: Path) -> None:
    environ = environment(home, Ports.free())
    try:
        code, text = await run("examples.demo", environ=environ)
        assert code == 0, text
        assert "OPENAI_API_KEY is not set" in text
        assert "| [hibernaut] recovery report" in text
        async with await client_of(home) as client:
            agent = client.get(name_in(text))
            status = await agent.status()
            assert (status.state, status.turn) == (AgentState.CLOSED, 3)
            assert status.recoveries >= 1
            events: list[Event] = [event async for event in agent.events(follow=False)]
            kinds = Counter(event.kind for event in events)
            assert kinds[EventKind.SANDBOX] >= 3
            assert kinds[EventKind.HIBERNATED] >= 1
            lost = [event for event in events if event.data.get("kind") == "not_run"]
            assert {event.turn for event in lost} == {2}
            report = await agent.files.read_text(tasks.REPORT)
            expected = figures.compute(material.data_set().content)
            for section in (expected.countries, expected.heights, expected.zones):
                assert section.missing(report) == []
            for line in report.splitlines():
                assert line in text
            assert containers(agent.id) == []

        code, again = await run("examples.demo", environ=environ)
        assert code == 0, again
        assert name_in(again) != name_in(text)
        assert "starting on" not in again
    finally:
        code, text = await run("workers.devstack", "down", environ=environ)
        assert code == 0, text


async def test_a_model_that_only_claims_to_have_worked_is_found_out(home: Path) -> None:
    async with ScriptedModel([say("The report is written.")]) as model:
        settings = {"OPENAI_API_KEY": model.api_key, "OPENAI_BASE_URL": model.base_url}
        ports = Ports.free()
        async with DevStack(home, ports=ports, settings=settings):
            environ = environment(home, ports, OPENAI_API_KEY=model.api_key, HIBERNAUT_MODEL=model.model)
            code, text = await run("examples.demo", environ=environ)
            async with await client_of(home) as client:
                await client.get(name_in(text)).delete()
            assert code == 1, text
            assert f"{model.model} at {model.base_url}" in text
            assert f"FAILED    There is no {tasks.REPORT}" in text
            assert containers(name_in(text)) == []
