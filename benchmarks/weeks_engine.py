"""The whole engine on real servers and Docker, for agents whose model follows a script."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from temporalio.client import Client

from activities.adapters.docker_client import Daemon
from activities.adapters.docker_sandbox import LABEL_HOST
from activities.ports.store import ObjectStore
from examples.scripted_model import Conversation, Reply, ScriptedModel, say, shell
from hibernaut import AgentClient, AgentSpec
from workers import wiring
from workers.devstack.settings import Component, Ports
from workers.devstack.stack import DevStack
from workers.settings import Settings
from workers.worker import connect

PARTS = frozenset({Component.TEMPORAL, Component.STORE, Component.WORKER, Component.GATEWAY})
RUN = "run "


def _script(conversation: Conversation) -> Reply:
    """Run the command of a message `run COMMAND`, and say what it printed."""
    if conversation.turn_calls:
        return say(conversation.last_results[0].stdout.strip() or "nothing")
    command = conversation.last_user.partition(RUN)[2]
    return shell(command) if command else say("noted")


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine, and ways behind it."""

    agents: AgentClient
    temporal: Client
    store: ObjectStore
    daemon: Daemon
    spec: AgentSpec
    database: Path
    """The folder of the Temporal server's database."""


@asynccontextmanager
async def engine() -> AsyncGenerator[Engine]:
    """Start everything; with the block all of it is gone again, containers included."""
    host = f"bench-{uuid4().hex[:6]}"
    daemon = Daemon()
    with tempfile.TemporaryDirectory(prefix="hibernaut-bench-") as folder:
        try:
            async with ScriptedModel(_script) as model:
                settings = {
                    "OPENAI_API_KEY": model.api_key,
                    "OPENAI_BASE_URL": model.base_url,
                    "HIBERNAUT_HOST_ID": host,
                    # Upkeep runs when it is measured.
                    "HIBERNAUT_HOUSEKEEPING_MINUTES": "0",
                    "HIBERNAUT_COLLECTION_HOURS": "0",
                }
                stack = DevStack(Path(folder), ports=Ports.free(), components=PARTS, settings=settings)
                async with stack:
                    known = Settings.load({**stack.env, **settings})
                    temporal = await connect(known)
                    store = wiring.open_store(known)
                    try:
                        yield Engine(
                            agents=AgentClient.over(
                                temporal,
                                gateway_url=stack.env["HIBERNAUT_GATEWAY_URL"],
                                gateway_token=stack.env["HIBERNAUT_GATEWAY_TOKEN"],
                            ),
                            temporal=temporal,
                            store=store,
                            daemon=daemon,
                            spec=AgentSpec(model=model.model),
                            database=Path(folder) / "temporal",
                        )
                    finally:
                        await store.close()
        finally:
            for left in daemon.api.containers(all=True, filters={"label": f"{LABEL_HOST}={host}"}):
                daemon.api.remove_container(left["Id"], force=True, v=True)
            daemon.close()
