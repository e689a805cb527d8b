"""Containers that no agent holds are removed by the schedule, with an audit line each; all others stay."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from docker.errors import NotFound
from temporalio.client import Client, ScheduleOverlapPolicy

from activities import sweep
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_sandbox import (
    LABEL_AGENT,
    LABEL_GENERATION,
    LABEL_HOST,
    LABEL_NAMESPACE,
    LABEL_UID,
)
from activities.ports.agents import Standing
from activities.ports.store import ObjectStore
from examples.scripted_model import respond, say, shell
from hibernaut.agent import AgentHandle
from hibernaut.contracts import HOUSEKEEPING_SCHEDULE
from tests.integration.conftest import LabFactory
from workers import agents
from workers.agents import TemporalAgents, namespace_id
from workers.schedule import ensure_housekeeping
from workers.settings import Settings

IMAGE = "hibernaut/sandbox:latest"


class Strays:
    """Containers made by hand, removed at the end."""

    def __init__(self) -> None:
        self.daemon = Daemon()
        self._made: list[str] = []

    def make(self, labels: dict[str, str]) -> str:
        created = self.daemon.api.create_container(IMAGE, ["true"], labels=labels)
        self._made.append(str(created["Id"]))
        return self._made[-1]

    def there(self, container_id: str) -> bool:
        try:
            self.daemon.api.inspect_container(container_id)
        except NotFound:
            return False
        return True

    def close(self) -> None:
        for made in self._made:
            if self.there(made):
                self.daemon.api.remove_container(made, force=True, v=True)
        self.daemon.close()


@pytest.fixture
async def strays() -> AsyncIterator[Strays]:
    made = Strays()
    yield made
    made.close()


async def _lines(store: ObjectStore) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    # By day; the chains of agents and hosts are beside them.
    async for info in store.list("audit/2"):
        found += [json.loads(line) for line in (await store.get(info.key)).splitlines()]
    return found


async def _trigger(temporal: Client) -> None:
    """What the schedule does every ten minutes, now; a run that is under way does not stand in for it."""
    await temporal.get_schedule_handle(HOUSEKEEPING_SCHEDULE).trigger(overlap=ScheduleOverlapPolicy.ALLOW_ALL)


async def _swept(temporal: Client, strays: Strays, *orphans: str) -> None:
    # A trigger is skipped while a run waits for hosts of other tests, which are gone.
    while any(map(strays.there, orphans)):
        await _trigger(temporal)
        for _ in range(25):
            if not any(map(strays.there, orphans)):
                return
            await asyncio.sleep(0.2)


async def _container(agent: AgentHandle) -> str:
    lease = (await agent.status()).lease
    assert lease is not None
    return lease.sandbox_id


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_orphans_are_removed_and_the_living_are_not(
    lab: LabFactory,
    temporal: Client,
    store: ObjectStore,
    settings: Settings,
    strays: Strays,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweep, "GRACE", timedelta(0))
    script = [
        shell("echo 1"),
        say("done"),
        shell("echo alive"),
        respond(lambda seen: say(seen.calls[-1].results[0].stdout.strip())),
    ]
    async with lab(script) as it:
        live, doomed = await it.start("live"), await it.start("doomed")
        await live.send("go", timeout=60)
        await doomed.send("go", timeout=60)
        kept, orphan = await _container(live), await _container(doomed)
        await temporal.get_workflow_handle(doomed.id).terminate("the test")
        status = await live.status()
        home = {LABEL_HOST: settings.host_id, LABEL_NAMESPACE: await namespace_id(temporal)}
        mine = {**home, LABEL_AGENT: live.id, LABEL_UID: status.agent_uid}
        superseded = strays.make({**mine, LABEL_GENERATION: str(status.generation - 1)})
        coming = strays.make({**mine, LABEL_GENERATION: str(status.generation + 1)})
        gone = {LABEL_AGENT: "nobody", LABEL_UID: uuid4().hex, LABEL_GENERATION: "1"}
        missing = strays.make({**home, **gone})
        others = [
            strays.make({**home, **gone, LABEL_HOST: "another-host"}),
            strays.make({**home, **gone, LABEL_NAMESPACE: str(uuid4())}),
            strays.make(gone),
        ]
        removed = {orphan: "agent closed", superseded: "generation superseded", missing: "agent gone"}
        await _swept(temporal, strays, *removed)
        later = strays.make({**home, **gone})
        removed[later] = "agent gone"
        await _swept(temporal, strays, later)
        assert all(map(strays.there, [kept, coming, *others]))
        assert (await live.send("still there?", timeout=60)).text == "alive"
        assert await _container(live) == kept
        lines = [line for line in await _lines(store) if line["sandbox_id"] in {*removed, kept, coming, *others}]
        assert {line["sandbox_id"]: line["reason"] for line in lines} == removed
        assert len(lines) == len(removed)
        (line,) = [line for line in lines if line["sandbox_id"] == orphan]
        assert (line["agent_id"], line["host_id"], line["action"]) == (doomed.id, settings.host_id, "sandbox.remove")
        await live.close()


@pytest.mark.slow
async def test_only_what_temporal_says_for_certain_counts(
    lab: LabFactory, temporal: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "RPC_TIMEOUT", timedelta(seconds=2))
    there = TemporalAgents(temporal, await namespace_id(temporal))
    elsewhere = TemporalAgents(temporal, str(uuid4()))
    async with lab([shell("true"), say("done")]) as it:
        agent = await it.start()
        await agent.send("go", timeout=60)
        uid = (await agent.status()).agent_uid
        assert await there.standing(agent.id) == Standing("open", uid, 1, settings.host_id)
        await agent.hibernate(timeout=60)
        assert await there.standing(agent.id) == Standing("open", uid, 1, asleep=True)
        assert await there.standing("nobody") == Standing("missing")
        assert await elsewhere.standing("nobody") is None, "not found in another namespace means nothing"
    assert await there.standing(agent.id) is None, "without a worker nobody knows what the agent holds"
    async with lab([]):
        await agent.close()
        assert await there.standing(agent.id) == Standing("closed")


async def test_the_schedule_is_made_once_and_keeps_what_an_operator_made_of_it(
    lab: LabFactory, temporal: Client
) -> None:
    async with lab([]):
        handle = temporal.get_schedule_handle(HOUSEKEEPING_SCHEDULE)
        schedule = (await handle.describe()).schedule
        assert [interval.every for interval in schedule.spec.intervals] == [timedelta(minutes=10)]
        assert schedule.policy.overlap is ScheduleOverlapPolicy.SKIP
        await handle.pause(note="an operator's")
    try:
        async with lab([]):
            await ensure_housekeeping(temporal, timedelta(minutes=3))
            found = (await handle.describe()).schedule
            assert found.state.paused
            assert found.spec.intervals == schedule.spec.intervals
    finally:
        await handle.unpause()


async def test_housekeeping_is_no_agent(lab: LabFactory, temporal: Client) -> None:
    async with lab([]) as it:
        await _trigger(temporal)
        while not [run async for run in temporal.list_workflows("WorkflowType = 'HousekeepingWorkflow'")]:
            await asyncio.sleep(0.2)
        listed = [one.agent_id async for one in it.client.list()]
        assert not [name for name in listed if name.startswith(HOUSEKEEPING_SCHEDULE)]
