"""An agent with a secret, on the real engine: it uses what it never has, and nothing that is kept has it either."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path

import pytest
import zstandard
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError

from activities.adapters import egress_wire as wire
from activities.beside import beside
from activities.egress.forms import forms
from activities.errors import ObjectNotFound
from activities.ports.store import ObjectStore
from examples.scripted_model import Conversation, Reply, respond, say, shell
from hibernaut.errors import AgentPaused
from hibernaut.models.secrets import placeholder
from tests.integration.conftest import Lab, LabFactory, retire
from tests.support.far_hosts import ADDRESS, FarHosts, far_hosts
from workers.egress.folder import egress_folder
from workers.settings import Settings

pytestmark = pytest.mark.slow

VALUE = 'sk-Live"0/+9&zQ81-kept'
CANARY = "canary-9f31c7"
PATIENCE_S = 180.0
ZSTD = b"\x28\xb5\x2f\xfd"


def _told(conversation: Conversation) -> Reply:
    return say("|".join(one.stdout.strip() for one in conversation.calls[-1].results))


@asynccontextmanager
async def _lab(
    settings: Settings, temporal: Client, store: ObjectStore, tmp_path: Path, far: FarHosts
) -> AsyncGenerator[LabFactory]:
    (tmp_path / "ca.pem").write_text(far.ca)
    opened = settings.model_copy(
        update={"egress_reachable": (ip_network("127.0.0.0/8"),), "egress_ca_file": tmp_path / "ca.pem"}
    )
    try:
        yield LabFactory(opened, temporal, store)
    finally:
        await retire(temporal)
        with suppress(OSError):
            wire.ask(egress_folder(opened), wire.Request(op="end"))


@asynccontextmanager
async def _heartbeats(temporal: Client, agent_id: str) -> AsyncGenerator[bytearray]:
    """What the heartbeats of an agent's activities have, as far as it was seen, until the block ends."""
    heard = bytearray()
    request = DescribeWorkflowExecutionRequest(namespace=temporal.namespace)
    request.execution.workflow_id = agent_id

    async def listen() -> None:
        while True:
            with suppress(RPCError):
                said = await temporal.workflow_service.describe_workflow_execution(request)
                for one in said.pending_activities:
                    heard.extend(one.heartbeat_details.SerializeToString())
            await asyncio.sleep(0.1)

    async with beside(listen()):
        yield heard


async def _heard(heard: bytearray, text: bytes) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while text not in heard:
            await asyncio.sleep(0.1)


def _unpacked(data: bytes) -> bytes:
    """An object, and whatever in it is a frame of zstd."""
    parts = [data]
    at = data.find(ZSTD)
    while at >= 0:
        with suppress(zstandard.ZstdError):
            parts.append(zstandard.ZstdDecompressor().decompressobj().decompress(data[at:]))
        at = data.find(ZSTD, at + 1)
    return b"\n".join(parts)


async def test_an_agent_uses_a_secret_before_and_after_a_sleep_and_it_is_kept_nowhere(
    settings: Settings,
    temporal: Client,
    store: ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "secrets.yaml").write_text(f"API_KEY:\n  value: '{VALUE}'\n  agents: [agent-*]\n")
    monkeypatch.setenv("HIBERNAUT_SECRETS_FILE", str(tmp_path / "secrets.yaml"))
    async with far_hosts() as far, _lab(settings, temporal, store, tmp_path, far) as factory:
        url = f"https://{ADDRESS}:{far.tls_port}/echo"
        ask = f'curl -sS -H "X-Key: $API_KEY" {url}'
        # A host that says it in other words: what nobody but the redaction of output can catch.
        leak = f"{ask}/reversed | rev"
        keep = f"tee /told; env >/env; export MINE=1; echo {CANARY} >/canary"
        # Until it was seen in a heartbeat: how long that takes is the machine's to say.
        hold = "until [ -e /heard ]; do sleep 0.1; done"
        first = shell(f"{ask}/all | {keep}", f"{leak}; {leak} >&2; {hold}")
        script = [first, respond(_told), shell(f"{ask}/raw; cat /told"), respond(_told)]
        async with factory(script) as it:
            network = {"mode": "allowlist", "allow": [f"{ADDRESS}:{far.tls_port}"]}
            secrets = {"API_KEY": {"hosts": network["allow"]}}
            agent = await it.start(sandbox={"network": network, "secrets": secrets})
            uid = (await agent.status()).agent_uid
            mark = placeholder(uid, "API_KEY")
            async with _heartbeats(temporal, agent.id) as heard, asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(agent.send("go", timeout=PATIENCE_S))
                await _heard(heard, b"[secret API_KEY]")
                (container,) = await it.containers(agent)
                await asyncio.to_thread(_touch, it, container, "/heard")
            said = sending.result().text
            assert said.endswith("|[secret API_KEY]")
            assert mark in said
            await agent.hibernate(timeout=PATIENCE_S)
            again = (await agent.send("again", timeout=PATIENCE_S)).text
            assert again.startswith(mark)
            assert [one.headers["x-key"] for one in far.heard] == [VALUE] * 4
            await agent.close(timeout=PATIENCE_S)
            kept = await _kept(it.store, temporal, agent.id)
            kept |= {"heartbeats": bytes(heard), "log": caplog.text.encode()}
            kept |= dict(_files(settings.home))
            found = {name for name, data in kept.items() for form in forms(VALUE) if form in data}
            assert found == set()
            # The same search finds what is there.
            assert [name for name, data in kept.items() if "snapshots" in name and CANARY.encode() in data]
            for part in ("history", "exec", "transcript"):
                assert [name for name, data in kept.items() if part in name and b"[secret API_KEY]" in data], part


def _touch(it: Lab, container: str, path: str) -> None:
    made = it.daemon.api.exec_create(container, ["touch", path])
    it.daemon.api.exec_start(made["Id"])


def _files(home: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder that a worker works in meanwhile."""
    for folder, _, names in os.walk(home):
        for path in (Path(folder, name) for name in names):
            with suppress(FileNotFoundError):
                if path.is_file():
                    yield str(path), path.read_bytes()


async def _kept(store: ObjectStore, temporal: Client, agent_id: str) -> dict[str, bytes]:
    kept: dict[str, bytes] = {}
    async for one in store.list(""):
        # The worker and its upkeep work on, and may take away what was listed.
        with suppress(ObjectNotFound):
            kept[one.key] = _unpacked(await store.get(one.key))
    async for run in temporal.list_workflows(f"WorkflowId = '{agent_id}'"):
        history = await temporal.get_workflow_handle(agent_id, run_id=run.run_id).fetch_history()
        # As protobuf: JSON would have the payloads in base64.
        kept[f"history {run.run_id}"] = b"".join(event.SerializeToString() for event in history.events)
    return kept


async def test_a_secret_that_the_worker_does_not_have_pauses_the_agent_before_anything_starts(
    settings: Settings, temporal: Client, store: ObjectStore, tmp_path: Path
) -> None:
    script = [shell("true"), say("done")]
    async with far_hosts() as far, _lab(settings, temporal, store, tmp_path, far) as factory, factory(script) as it:
        network = {"mode": "allowlist", "allow": ["api.example.com"]}
        agent = await it.start(sandbox={"network": network, "secrets": {"NONE": {"hosts": ["api.example.com"]}}})
        with pytest.raises(AgentPaused, match=r"the secret NONE has no value .*: set HIBERNAUT_SECRET_NONE"):
            await agent.send("go", timeout=PATIENCE_S)
        assert await it.containers(agent) == []
        await agent.close(timeout=PATIENCE_S)
