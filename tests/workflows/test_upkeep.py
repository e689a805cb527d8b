"""Verify, prune, collect and name as workflows: real activities over a pretended store of snapshots."""

import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest
from pydantic import BaseModel
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.adapters.local_store import LocalStore
from activities.errors import SnapshotDamaged, SnapshotSealed, StoreUnavailable
from activities.ports.upkeep import Damage, Retention
from hibernaut import contracts as c
from tests.support.pretended_upkeep import NOTHING, PretendedUpkeep, ref, upkeep_activities
from workers.interceptor import ErrorInterceptor
from workers.registry import WORKFLOWS, workflow_runner

ResultT = TypeVar("ResultT", bound=BaseModel)
OWNERS = Retention(last=2)


@dataclass
class Rig:
    environment: WorkflowEnvironment
    upkeep: PretendedUpkeep
    store: LocalStore
    folder: Path
    """The store's."""

    async def run(self, workflow: str, request: BaseModel, result: type[ResultT]) -> ResultT:
        return await self.environment.client.execute_workflow(
            workflow, request, id=f"upkeep-{uuid4().hex[:8]}", task_queue=c.TASK_QUEUE, result_type=result
        )

    async def verify(self, uid: str | None, *, images: bool = False) -> c.VerifyResult:
        return await self.run(c.VERIFY_WORKFLOW, c.VerifyRequest(agent_uid=uid, images=images), c.VerifyResult)

    async def prune(self, uid: str, last: int | None = None, *, dry_run: bool = False) -> c.PruneResult:
        keep = None if last is None else c.Retention(last=last)
        request = c.PruneRequest(agent_uid=uid, agent_id="bob", keep=keep, dry_run=dry_run)
        return await self.run(c.PRUNE_WORKFLOW, request, c.PruneResult)

    async def collection(self, **request: object) -> c.CollectionResult:
        return await self.run(c.COLLECTION_WORKFLOW, c.CollectionRequest.model_validate(request), c.CollectionResult)

    async def refused(self, workflow: str, request: BaseModel) -> str | None:
        """The type of the error that a workflow ends with."""
        with pytest.raises(WorkflowFailureError) as caught:
            await self.run(workflow, request, c.NameResult)
        cause = caught.value.cause
        assert isinstance(cause, ActivityError)
        assert isinstance(cause.cause, ApplicationError)
        return cause.cause.type

    async def audit(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = []
        async for info in self.store.list("audit/"):
            found += [json.loads(line) for line in (await self.store.get(info.key)).splitlines()]
        return found


@pytest.fixture
async def rig(skipping: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[Rig]:
    upkeep, store = PretendedUpkeep(), LocalStore(tmp_path)
    worker = Worker(
        skipping.client,
        task_queue=c.TASK_QUEUE,
        workflows=list(WORKFLOWS),
        workflow_runner=workflow_runner(),
        activities=upkeep_activities(upkeep, store, OWNERS),
        interceptors=[ErrorInterceptor()],
        # Every task replays the history from its beginning: what is not deterministic fails.
        max_cached_workflows=0,
        max_heartbeat_throttle_interval=timedelta(milliseconds=1),
        default_heartbeat_throttle_interval=timedelta(milliseconds=1),
    )
    async with worker:
        yield Rig(skipping, upkeep, store, tmp_path)


async def test_one_agent_is_verified(rig: Rig) -> None:
    rig.upkeep.snapshots = {"u1": [1, 2], "u2": [1]}
    rig.upkeep.damage["u1"] = (Damage(key="x", kind="missing", detail="It is gone.", snapshots=(ref("u1", 2),)),)
    result = await rig.verify("u1")
    (one,) = result.agents
    assert (one.snapshots, one.packs, one.lost, one.damage[0].snapshots) == (2, 2, (2,), (2,))
    assert (result.sound, result.damaged, result.losses, result.images) == (False, 1, 1, None)
    assert (await rig.verify("u2")).sound
    (nothing,) = (await rig.verify("u3")).agents
    assert (nothing.snapshots, nothing.sound) == (0, True)


@pytest.mark.slow
async def test_a_retry_reads_no_pack_again(rig: Rig) -> None:
    rig.upkeep.snapshots = {"u1": [1, 2, 3]}
    rig.upkeep.failures["u1"] = [StoreUnavailable("away")]
    # Longer than from one heartbeat to the next.
    rig.upkeep.slowness = 1.5
    (one,) = (await rig.verify("u1")).agents
    assert rig.upkeep.packs_read == [f"u1-pack-{number:08d}" for number in (1, 2, 3)]
    assert one.packs == 3
    first, second = rig.upkeep.resumed
    assert first is None
    assert second is not None
    assert (second.after, second.packs) == ("u1-pack-00000001", 1)


@pytest.mark.slow
async def test_all_agents_are_verified_page_by_page_a_few_at_a_time(rig: Rig) -> None:
    rig.upkeep.snapshots = {f"u{number:03d}": [1] for number in range(130)}
    rig.upkeep.snapshots["u050"] = []
    rig.upkeep.failures = {"u007": [SnapshotSealed("no key k1")]}
    rig.upkeep.damage["u129"] = (
        Damage(key="x", kind="damaged", detail="It is bad.", snapshots=(ref("u129", 1),)),
        Damage(key="y", kind="damaged", detail="It is of no snapshot.", snapshots=()),
    )
    result = await rig.verify(None, images=True)
    assert (result.checked, result.failed, result.damaged, result.losses, result.snapshots) == (129, 1, 1, 1, 128)
    assert not result.sound
    assert {one.agent_uid: one.error for one in result.agents if one.error} == {"u007": "no key k1"}
    assert [one.agent_uid for one in result.agents if one.damages] == ["u129"]
    assert "u050" not in {one.agent_uid for one in result.agents}, "it has nothing to list"
    assert 1 < rig.upkeep.most_running <= 4
    assert result.images == c.VerifiedImages()


async def test_a_run_goes_on_with_what_the_one_before_found(rig: Rig) -> None:
    rig.upkeep.snapshots = {"a": [1], "b": [1]}
    so_far = c.VerifyResult(checked=7, losses=3)
    request = c.VerifyRequest(after="a", so_far=so_far)
    result = await rig.run(c.VERIFY_WORKFLOW, request, c.VerifyResult)
    assert (result.checked, result.losses, [one.agent_uid for one in result.agents]) == (8, 3, ["b"])
    pruned = await rig.collection(after="a", so_far=c.CollectionResult(agents=7, kept=5).model_dump(), audit_id="x")
    assert (pruned.agents, pruned.kept) == (8, 6)


async def test_agents_are_called_by_the_name_that_their_first_event_tells(rig: Rig) -> None:
    rig.upkeep.snapshots = {"u1": [1], "u2": [1]}
    born = {"seq": 1, "at": "2026-01-01T00:00:00Z", "kind": "started", "summary": "agent weekly-report"}
    await rig.store.put(c.StoreKeys.events("u1", 1), json.dumps([born]).encode())
    assert [one.agent_id for one in (await rig.verify(None)).agents] == ["weekly-report", ""]


async def test_what_is_pruned_is_written_down_before_it_goes(rig: Rig) -> None:
    rig.upkeep.snapshots = {"u1": [1, 2, 3, 4]}
    seen: list[int] = []
    rig.upkeep.on_remove = lambda: seen.append(len(list(rig.folder.glob("audit/*/*.jsonl"))))
    plan = await rig.prune("u1", 1, dry_run=True)
    assert (plan.removed, plan.audit_ref, rig.upkeep.snapshots["u1"]) == ((1, 2, 3), None, [1, 2, 3, 4])
    assert await rig.audit() == []
    result = await rig.prune("u1", 1)
    assert (result.removed, result.removed_count, result.kept_count, result.keep) == ((1, 2, 3), 3, 1, "last=1")
    assert result.kept == (c.KeptSnapshot(number=4, rules=("last",)),)
    assert seen == [1, 1, 1], "the file was there each time"
    (line,) = await rig.audit()
    assert (line["action"], line["agent_uid"], line["agent_id"]) == ("snapshots.prune", "u1", "bob")
    assert (line["snapshots"], line["actor"], line["keep"]) == ([1, 2, 3], "operator", "last=1")


async def test_a_retry_tells_what_all_attempts_removed(rig: Rig) -> None:
    rig.upkeep.snapshots = {"u1": [1, 2, 3, 4]}
    rig.upkeep.failures["u1"] = [StoreUnavailable("away")]
    result = await rig.prune("u1", 2)
    assert (result.removed, rig.upkeep.snapshots["u1"]) == ((1, 2), [3, 4])
    assert [line["snapshots"] for line in await rig.audit()] == [[1, 2], [2]]


async def test_without_rules_the_owners_hold(rig: Rig) -> None:
    rig.upkeep.snapshots = {"u1": [1, 2, 3, 4]}
    result = await rig.prune("u1")
    assert (result.keep, result.removed, rig.upkeep.keeps) == ("last=2", (1, 2), [OWNERS])
    assert (await rig.prune("u1")).removed_count == 0, "there is nothing left to prune"
    assert (await rig.prune("nobody")).kept_count == 0


async def test_the_collection_prunes_everybody_and_passes_until_nothing_is_left(rig: Rig) -> None:
    rig.upkeep.snapshots = {f"u{number:03d}": [1, 2, 3] for number in range(120)}
    rig.upkeep.snapshots["u010"] = []
    rig.upkeep.failures = {
        "u005": [SnapshotDamaged("manifest 2 cannot be read")],
        "u110": [StoreUnavailable("away")],
    }
    rig.upkeep.passes = [
        NOTHING.model_copy(update={"swept": 5, "bytes_swept": 50, "more": True, "condemned": 1}),
        NOTHING.model_copy(update={"swept": 2, "bytes_swept": 20, "packs_seen": 9, "waiting": 1}),
    ]
    result = await rig.collection()
    assert (result.agents, result.failures) == (120, 1)
    assert [one.agent_uid for one in result.failed] == ["u005"]
    assert all(numbers == [2, 3] for numbers in rig.upkeep.snapshots.values() if numbers)
    done = result.collected
    assert (done.passes, done.swept, done.bytes_swept, done.condemned, done.packs_seen) == (2, 7, 70, 1, 9)
    assert result.summary.startswith("118 snapshots of 120 agents removed, 236 kept, 1 agent could not be pruned.")
    lines = await rig.audit()
    assert {line["actor"] for line in lines} == {"collection"}
    assert [line["action"] for line in lines].count("packs.collect") == 2
    assert len({line["run"] for line in lines}) == 1


async def test_a_collection_alone_prunes_nobody(rig: Rig) -> None:
    rig.upkeep.snapshots = {"u1": [1, 2, 3]}
    result = await rig.collection(prune=False)
    assert (result.agents, result.collected.passes, rig.upkeep.snapshots) == (0, 1, {"u1": [1, 2, 3]})


async def test_images_in_trouble_fail_no_collection(rig: Rig) -> None:
    image = "0" * 64
    await rig.store.put(f"images/{image}/image.json", b"no manifest")
    await rig.store.put(f"images/packs/{image}", b"a pack")
    os.utime(rig.folder / f"images/packs/{image}", (0, 0))
    verified = await rig.verify(None, images=True)
    assert verified.images is not None
    assert (verified.images.damages, verified.images.lost, verified.sound) == (1, (f"sha256:{image}",), False)
    result = await rig.collection()
    assert result.collected.passes == 1
    assert "manifest" in result.images_failure


async def test_a_snapshot_is_named(rig: Rig) -> None:
    rig.upkeep.snapshots = {"u1": [1, 2]}

    def request(**update: object) -> c.NameRequest:
        return c.NameRequest.model_validate({"agent_uid": "u1", "name": "good", "number": 1, **update})

    async def name(**update: object) -> c.NameResult:
        return await rig.run(c.NAME_SNAPSHOT_WORKFLOW, request(**update), c.NameResult)

    assert (await name()).number == 1
    assert (await name()).changed
    assert await rig.refused(c.NAME_SNAPSHOT_WORKFLOW, request(number=2)) == "SnapshotNameTaken"
    assert (await name(number=2, move=True)).number == 2
    assert rig.upkeep.names == {("u1", "good"): 2}
    assert await rig.refused(c.NAME_SNAPSHOT_WORKFLOW, request(number=3)) == "SnapshotNotFound"
    assert await rig.refused(c.NAME_SNAPSHOT_WORKFLOW, request(name="../x")) == "InvalidSnapshotName"
    assert (await name(number=None)).changed
    assert not (await name(number=None)).changed
