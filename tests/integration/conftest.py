"""The whole engine on real servers: Temporal, S3 and Docker; only the model is scripted."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from activities.adapters.docker_client import Daemon
from activities.adapters.docker_sandbox import LABEL_HOST, LABEL_UID
from activities.mcp_pool import McpPool
from activities.ports.store import ObjectStore
from activities.providers import load_providers
from activities.transcript import Transcript
from examples.scripted_model import Script, ScriptedModel
from hibernaut import AgentClient, AgentSpec
from hibernaut.agent import AgentHandle
from hibernaut.contracts import AGENT_WORKFLOW
from tests.integration.gateway_world import World, gateway_world
from tests.support.scripted_agents import Script as ScriptedWork, temporal_server, working
from workers import wiring
from workers.devstack.settings import SERVERS, Ports
from workers.devstack.stack import DevStack
from workers.settings import Settings
from workers.worker import connect, running


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DevStack]:
    home = tmp_path_factory.mktemp("stack")
    async with DevStack(home, ports=Ports.free(), components=SERVERS) as stack:
        yield stack


@pytest.fixture(scope="session")
def settings(stack: DevStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("worker")
    host_id = f"host-{uuid4().hex[:6]}"
    yield Settings.load({**stack.env, "HIBERNAUT_HOST_ID": host_id, "HIBERNAUT_HOME": str(home)})
    daemon = Daemon()
    # Agents that were not closed still have theirs.
    for left in daemon.api.containers(all=True, filters={"label": f"{LABEL_HOST}={host_id}"}):
        daemon.api.remove_container(left["Id"], force=True, v=True)
    daemon.close()


@pytest.fixture(scope="session")
async def temporal(settings: Settings) -> Client:
    return await connect(settings)


@pytest.fixture(scope="session")
async def store(settings: Settings) -> AsyncIterator[ObjectStore]:
    opened = wiring.open_store(settings)
    yield opened
    await opened.close()


@dataclass
class Lab:
    """A worker whose model follows a script, and a client to it."""

    client: AgentClient
    temporal: Client
    model: ScriptedModel
    store: ObjectStore
    settings: Settings
    daemon: Daemon

    async def start(self, name: str = "agent", **spec: object) -> AgentHandle:
        body = {"model": self.model.model, "idle_timeout": 300, **spec}
        return await self.client.start(f"{name}-{uuid4().hex[:8]}", AgentSpec.model_validate(body))

    async def containers(self, agent: AgentHandle) -> list[str]:
        """Ids of every container of an agent, running or not."""
        uid = (await agent.status()).agent_uid
        found = self.daemon.api.containers(all=True, filters={"label": f"{LABEL_UID}={uid}"})
        return [str(one["Id"]) for one in found]

    def remove(self, container: str) -> None:
        """What `docker rm -f` does."""
        self.daemon.api.remove_container(container, force=True, v=True)

    async def items(self, agent: AgentHandle) -> list[dict[str, object]]:
        """The conversation, oldest item first."""
        ref = (await agent.status()).transcript_ref
        return [dict(item) for item in await Transcript(self.store).items(ref)]


class LabFactory:
    """Makes a lab for a script; the worker stops with the `async with` block."""

    def __init__(self, settings: Settings, temporal: Client, store: ObjectStore) -> None:
        self.settings, self.temporal, self.store = settings, temporal, store

    @asynccontextmanager
    async def __call__(
        self, script: Script, *, wire: str = "responses", window: str = "", mcp: McpPool | None = None
    ) -> AsyncGenerator[Lab]:
        daemon = Daemon()
        async with ScriptedModel(script) as model:
            providers = load_providers(
                {
                    "OPENAI_API_KEY": model.api_key,
                    "OPENAI_BASE_URL": model.base_url,
                    "HIBERNAUT_WIRE": wire,
                    "HIBERNAUT_CONTEXT_WINDOW": window,
                }
            )
            async with running(self.settings, self.temporal, providers, mcp):
                yield Lab(
                    client=AgentClient.over(self.temporal),
                    temporal=self.temporal,
                    model=model,
                    store=self.store,
                    settings=self.settings,
                    daemon=daemon,
                )
        daemon.close()


async def retire(temporal: Client) -> None:
    """End every agent: none outlives its test.

    One that sleeps only after its idle timeout would do so in the middle of a later test, whose worker has the same
    host's id and would write that snapshot into a store of its own.
    """
    async for run in temporal.list_workflows(f"WorkflowType = '{AGENT_WORKFLOW}' AND ExecutionStatus = 'Running'"):
        with contextlib.suppress(RPCError):
            await temporal.get_workflow_handle(run.id).terminate("its test is over")


@pytest.fixture
async def lab(settings: Settings, temporal: Client, store: ObjectStore) -> AsyncIterator[LabFactory]:
    yield LabFactory(settings, temporal, store)
    await retire(temporal)


@pytest.fixture
async def own(settings: Settings, temporal: Client) -> AsyncIterator[LabFactory]:
    """Labs on a part of the bucket that no other test has anything in: a collection is about all of it."""
    apart = settings.model_copy(update={"store": f"{settings.store}/{uuid4().hex[:8]}"})
    await retire(temporal)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(retire, temporal)
        store = wiring.open_store(apart)
        stack.push_async_callback(store.close)
        yield LabFactory(apart, temporal, store)


@pytest.fixture(scope="session")
async def agents_server() -> AsyncIterator[WorkflowEnvironment]:
    """A Temporal server in memory, for agents whose activities pretend."""
    async with temporal_server() as env:
        yield env


@pytest.fixture
async def world(agents_server: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[World]:
    """A gateway on a real workflow and a real store."""
    client, script = agents_server.client, ScriptedWork()
    async with working(client, script), gateway_world(client, script, tmp_path / "store") as one:
        yield one


@pytest.fixture
async def agent(world: World) -> AgentHandle:
    """An agent that has done nothing yet."""
    return await world.agents.start(f"agent-{uuid4().hex[:8]}", AgentSpec(model="scripted"))
