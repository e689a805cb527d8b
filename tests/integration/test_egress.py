"""An agent whose network is an allowlist, on the real engine: what it reaches, what it is told, and after a sleep."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from ipaddress import ip_network

import pytest
from temporalio.client import Client

from activities.adapters import egress_wire as wire
from activities.ports.store import ObjectStore
from examples.scripted_model import Conversation, Reply, respond, say, shell
from hibernaut._audit_chain import read
from hibernaut.contracts import StoreKeys
from tests.integration.conftest import LabFactory, retire
from tests.support.far_hosts import ADDRESS, far_hosts
from workers.egress.folder import egress_folder
from workers.settings import Settings

pytestmark = pytest.mark.slow


def _told(conversation: Conversation) -> Reply:
    return say("|".join(f"{one.stdout.strip()}:{one.stderr.strip()}" for one in conversation.calls[-1].results))


async def _on_record(store: ObjectStore, host_id: str) -> set[tuple[str, bool]]:
    """What the host's audit chain tells of connections: to which host, and whether it was allowed."""
    found: set[tuple[str, bool]] = set()
    async for info in store.list(StoreKeys.host_audit(host_id)):
        for line in map(read, (await store.get(info.key)).decode().splitlines()):
            if line.kind == "egress.decided":
                found.add((str(line.facts["host"]), bool(line.facts["allowed"])))
    return found


async def test_an_agent_reaches_its_hosts_before_and_after_a_sleep_and_is_told_of_others(
    settings: Settings, temporal: Client, store: ObjectStore
) -> None:
    opened = settings.model_copy(update={"egress_reachable": (ip_network("127.0.0.0/8"),)})
    async with far_hosts() as far:
        url = f"http://{ADDRESS}:{far.http_port}"
        look = shell(f"curl -s -o /dev/null -w '%{{http_code}}' {url}/seen", "curl -s https://evil.example/; true")
        try:
            async with LabFactory(opened, temporal, store)([look, respond(_told), look, respond(_told)]) as it:
                network = {"mode": "allowlist", "allow": [f"{ADDRESS}:{far.http_port}"]}
                agent = await it.start(sandbox={"network": network})
                said = [(await agent.send("go", timeout=60)).text]
                await agent.hibernate(timeout=60)
                assert await it.containers(agent) == []
                said.append((await agent.send("again", timeout=60)).text)
                assert said == ["200:|:[hibernaut] blocked by policy: evil.example (not in the allowlist)"] * 2
                assert len(far.asked) == 2
                while not {(ADDRESS, True), ("evil.example", False)} <= await _on_record(store, opened.host_id):
                    await asyncio.sleep(0.2)
                folder = egress_folder(opened)
                assert len(wire.ask(folder, wire.Request(op="list")).doors or {}) == 1
                await agent.close()
                assert wire.ask(folder, wire.Request(op="list")).doors == {}
                assert list((folder / "doors").iterdir()) == []
        finally:
            await retire(temporal)
            with suppress(OSError):
                wire.ask(egress_folder(opened), wire.Request(op="end"))
