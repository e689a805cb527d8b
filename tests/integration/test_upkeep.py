"""Upkeep on real servers: what is pruned and collected leaves the bucket, damage is found, the agent wakes."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import Client, ScheduleOverlapPolicy

from activities.adapters.s3_store import S3Store
from activities.ports.store import ObjectStore
from activities.ports.upkeep import VerifyProgress
from activities.snapshots import layout
from activities.snapshots.timing import Timing
from examples.scripted_model import respond, say, shell
from hibernaut.agent import AgentHandle
from hibernaut.contracts import (
    COLLECTION_SCHEDULE,
    TASK_QUEUE,
    VERIFY_WORKFLOW,
    CollectionResult,
    Retention,
    VerifyRequest,
    VerifyResult,
)
from tests.integration.conftest import Lab, LabFactory
from workers.schedule import ensure_collection
from workers.settings import Settings


@dataclass
class Clock:
    """The time of the workers' collection, which a test moves on."""

    ahead: timedelta = field(default=timedelta())

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def forward(self, **time: float) -> None:
        self.ahead += timedelta(**time)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(Settings, "timing", property(lambda _: Timing(now=clock.now)))
    return clock


def _replaced(step: int) -> str:
    """A command after which nearly every path is another: its snapshot is a full one."""
    files = f"for i in $(seq 20); do head -c 20000 /dev/urandom > $i-{step}; done"
    return f"rm -rf ~/data; mkdir ~/data; cd ~/data; {files}; cd; cat ~/data/* | cksum > ~/sum"


READ_BY_THE_FIRST = 3
"""Packs that the worker reads which then stops."""
CHECKED = 'test "$(cat ~/data/* | cksum)" = "$(cat ~/sum)" && echo whole'


async def _packs(store: ObjectStore, uid: str) -> dict[str, int]:
    return {info.key: info.size async for info in store.list(layout.packs_prefix(uid))}


async def _numbers(store: ObjectStore, uid: str) -> list[int]:
    return [layout.parse_ref(info.key)[1] async for info in store.list(layout.manifests_prefix(uid))]


async def _worked(it: Lab) -> tuple[AgentHandle, str]:
    """An agent asleep after its turn."""
    agent = await it.start()
    await agent.send("go", timeout=90)
    await agent.hibernate(timeout=60)
    return agent, (await agent.status()).agent_uid


@pytest.mark.timeout(300)
@pytest.mark.slow
async def test_the_bucket_shrinks_and_the_agent_wakes(own: LabFactory, clock: Clock) -> None:
    works = [shell(_replaced(step)) for step in range(6)]
    script = [*works, say("done"), shell(CHECKED), respond(lambda seen: say(seen.calls[-1].results[0].stdout.strip()))]
    async with own(script) as it:
        agent, uid = await _worked(it)
        upkeep = it.client.snapshots
        before = await _packs(it.store, uid)
        numbers = await _numbers(it.store, uid)
        assert len(numbers) >= 6
        assert (await upkeep.verify(agent.id)).sound
        await agent.snapshots.name(numbers[1], "good")
        young = await upkeep.prune(agent.id, Retention(last=1))
        assert young.removed == (), "all are younger than an hour"
        clock.forward(hours=25)
        plan = await upkeep.prune(agent.id, Retention(last=1), dry_run=True)
        assert await _numbers(it.store, uid) == numbers
        pruned = await agent.snapshots.prune(Retention(last=1))
        assert pruned.removed == plan.removed
        assert pruned.removed_count >= 3
        reasons = {one.number: one.rules for one in pruned.kept}
        assert "named" in reasons[numbers[1]]
        assert {"newest", "last"} <= set(reasons[numbers[-1]])
        assert await _numbers(it.store, uid) == sorted(reasons)
        assert await _packs(it.store, uid) == before
        found = await upkeep.collect()
        assert (found.collected.condemned > 0, found.collected.swept) == (True, 0)
        assert await _packs(it.store, uid) == before, "the grace is not over"
        clock.forward(hours=25)
        gone = (await upkeep.collect()).collected
        after = await _packs(it.store, uid)
        assert gone.swept == found.collected.condemned
        assert sum(before.values()) - sum(after.values()) == gone.bytes_swept
        assert sum(after.values()) < 0.75 * sum(before.values())
        assert gone.manifests_seen == len(reasons)
        assert (await upkeep.verify(None)).sound
        lines = await _audit(it.store)
        (line,) = [one for one in lines if one["action"] == "snapshots.prune"]
        assert (line["agent_id"], line["snapshots"]) == (agent.id, list(pruned.removed))
        assert (await agent.send("is all there?", timeout=90)).text == "whole"


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_damage_is_found(own: LabFactory) -> None:
    small = [shell(f"head -c 30000 /dev/urandom > ~/small-{step}") for step in range(3)]
    async with own([shell(_replaced(0)), *small, say("done")]) as it:
        agent, uid = await _worked(it)
        sound = await agent.snapshots.verify()
        assert sound.sound
        numbers = await _numbers(it.store, uid)
        packs = await _packs(it.store, uid)
        assert (sound.snapshots, sound.packs) == (len(numbers), len(packs))
        largest = max(packs, key=lambda key: packs[key])
        content = await it.store.get(largest)
        await it.store.put(largest, content[:100] + bytes([content[100] ^ 1]) + content[101:])
        (bad,) = (await agent.snapshots.verify()).agents
        assert [(one.key, one.kind) for one in bad.damage] == [(largest, "damaged")]
        assert set(bad.lost) == set(bad.damage[0].snapshots)
        assert bad.lost
        await it.store.delete([largest])
        (gone,) = (await agent.snapshots.verify()).agents
        assert [(one.key, one.kind) for one in gone.damage] == [(largest, "missing")]
        assert gone.lost == bad.lost
        await it.store.put(largest, content)
        assert (await agent.snapshots.verify()).sound
        middle = layout.manifest_key(uid, numbers[-2])
        manifest = await it.store.get(middle)
        await it.store.delete([middle])
        while not [info.key async for info in it.store.list("images/") if info.key.endswith("image.json")]:
            # The image is kept in the background.
            await asyncio.sleep(0.2)
        result = await it.client.snapshots.verify()
        assert not result.sound
        assert result.images is not None
        assert result.images.images == 1
        (one,) = result.agents
        assert (one.agent_id, one.lost[-1]) == (agent.id, numbers[-1])
        assert (middle, "missing") in [(wrong.key, wrong.kind) for wrong in one.damage]
        await it.store.put(middle, manifest)
        assert (await it.client.snapshots.verify()).sound


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_verification_goes_on_with_the_next_worker(
    own: LabFactory, temporal: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    stuck, get = asyncio.Event(), S3Store.get

    async def slow(store: S3Store, key: str) -> bytes:
        if layout.is_pack_key(key):
            read.append(key)
            if not stuck.is_set() and len(read) > READ_BY_THE_FIRST:
                await stuck.wait()
        return await get(store, key)

    async with own([*(shell(_replaced(step)) for step in range(8)), say("done")]) as it:
        agent, uid = await _worked(it)
        packs = sorted(await _packs(it.store, uid))
        assert len(packs) > READ_BY_THE_FIRST
        monkeypatch.setattr(S3Store, "get", slow)
        request = VerifyRequest(agent_uid=uid, agent_id=agent.id)
        handle = await temporal.start_workflow(
            VERIFY_WORKFLOW, request, id=f"verify:{uid}", task_queue=TASK_QUEUE, result_type=VerifyResult
        )
        while await _told(temporal, handle.id) < READ_BY_THE_FIRST:
            await asyncio.sleep(0.1)
    stuck.set()
    read.clear()
    async with own([]):
        result = await handle.result()
    assert result.sound
    assert result.packs == len(packs)
    assert sorted(read) == packs[READ_BY_THE_FIRST:]


async def _told(temporal: Client, workflow_id: str) -> int:
    """How many packs are read, as the heartbeats tell the next attempt."""
    description = await temporal.get_workflow_handle(workflow_id).describe()
    for pending in description.raw_description.pending_activities:
        details = await temporal.data_converter.decode(list(pending.heartbeat_details.payloads))
        return VerifyProgress.model_validate(details[1]).packs if len(details) > 1 else 0
    return 0


@pytest.mark.slow
async def test_the_schedule_prunes_and_collects(own: LabFactory, temporal: Client, clock: Clock) -> None:
    keep_one = own.settings.snapshot_keep
    assert keep_one is not None
    own.settings = own.settings.model_copy(update={"snapshot_keep": keep_one.model_copy(update={"last": 1})})
    async with own([shell(_replaced(0)), say("done")]) as it:
        await _worked(it)
        clock.forward(hours=2)
        handle = temporal.get_schedule_handle(COLLECTION_SCHEDULE)
        schedule = (await handle.describe()).schedule
        assert [interval.every for interval in schedule.spec.intervals] == [timedelta(hours=24)]
        assert schedule.policy.overlap is ScheduleOverlapPolicy.SKIP
        await ensure_collection(temporal, timedelta(hours=3))
        assert (await handle.describe()).schedule.spec.intervals == schedule.spec.intervals
        ran = {run.id async for run in temporal.list_workflows("WorkflowType = 'CollectionWorkflow'")}
        await handle.trigger(overlap=ScheduleOverlapPolicy.ALLOW_ALL)
        while True:
            runs = [run async for run in temporal.list_workflows("WorkflowType = 'CollectionWorkflow'")]
            if new := [run.id for run in runs if run.id not in ran]:
                break
            await asyncio.sleep(0.2)
        assert new[0].startswith(COLLECTION_SCHEDULE)
        result = await temporal.get_workflow_handle(new[0], result_type=CollectionResult).result()
        assert result.agents >= 1
        assert result.collected.manifests_seen >= 1
        assert "snapshots in the store" in result.summary or "snapshot in the store" in result.summary


async def _audit(store: ObjectStore) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    async for info in store.list("audit/2"):
        found += [json.loads(line) for line in (await store.get(info.key)).splitlines()]
    return found
