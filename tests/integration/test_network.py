"""Rules changed for an agent that lives, on the real engine: reached, refused, after a sleep; and what follows it."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_network

import pytest
from temporalio.client import Client

from activities.adapters import egress_wire as wire
from activities.ports.store import ObjectStore
from examples.scripted_model import Conversation, Reply, respond, say, shell
from hibernaut import EventKind
from hibernaut.errors import RequestRejected
from tests.integration.conftest import LabFactory, retire
from tests.support.far_hosts import ADDRESS, far_hosts
from workers.egress.folder import egress_folder
from workers.settings import Settings

pytestmark = pytest.mark.slow


def _told(conversation: Conversation) -> Reply:
    return say("|".join(one.stdout.strip() for one in conversation.calls[-1].results))


async def test_rules_are_changed_for_good_and_every_connection_is_an_event(
    settings: Settings, temporal: Client, store: ObjectStore
) -> None:
    opened = settings.model_copy(update={"egress_reachable": (ip_network("127.0.0.0/8"),)})
    async with far_hosts() as far:
        rule = f"{ADDRESS}:{far.http_port}"
        look = shell(f"curl -s -o /dev/null -w '%{{http_code}}' http://{rule}/seen")
        try:
            async with LabFactory(opened, temporal, store)([look, respond(_told)] * 4) as it:
                agent = await it.start(sandbox={"network": {"mode": "allowlist"}})
                said = [(await agent.send("go", timeout=60)).text]
                status = await agent.network.allow(rule, by="ann")
                assert (status.allow, status.in_force) == ((rule,), True)
                said.append((await agent.send("now", timeout=60)).text)
                await agent.hibernate(timeout=60)
                said.append((await agent.send("after a sleep", timeout=60)).text)
                assert (await agent.network.deny(rule)).removed == ()
                said.append((await agent.send("no more", timeout=60)).text)
                assert said == ["403", "200", "200", "403"]
                events = [event async for event in agent.events(follow=False)]
                seen = [event for event in events if event.kind is EventKind.NETWORK]
                assert [event.data["allowed"] for event in seen] == [False, True, True, False]
                assert {(event.data["host"], event.data["port"]) for event in seen} == {(ADDRESS, far.http_port)}
                changed = [event.summary for event in events if event.kind is EventKind.NETWORK_CHANGED]
                assert changed == [
                    f"network rules changed by ann: +{rule}",
                    f"network rules changed: -{rule}",
                ]
                none = await it.start(sandbox={})
                with pytest.raises(RequestRejected, match="has the mode none"):
                    await none.network.allow(rule)
                await none.close()
                await agent.close()
        finally:
            await retire(temporal)
            with suppress(OSError):
                wire.ask(egress_folder(opened), wire.Request(op="end"))
