"""Deletions that are broken off, overtaken by a new agent of the same id, or whose host is gone for ever."""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from hibernaut import AgentSpec, _deletion, contracts as c, errors
from hibernaut._deletion import delete_closed, deletion_id, deletion_step
from hibernaut._temporal import Workflows
from hibernaut.client import AgentClient
from hibernaut.contracts import deletion, stubs
from hibernaut.models import LeaseStatus
from tests.support.scripted_agents import Script, temporal_server, working
from workers.bearing import Bearing
from workers.runs import RunEraser
from workflows.record import AgentRecord

SPEC = AgentSpec(model="scripted")


class Desk(Script):
    """The real erasing of runs; certificates are pretended, and fail when told to."""

    temporal: Client
    broken: bool = False
    gate_certify: asyncio.Event | None = None
    begun_certify: asyncio.Event

    @activity.defn(name=c.AGENT_FORGET.name)
    async def forget(self, request: c.ForgetRequest) -> c.ForgetResult:
        self.forgotten.append(request.agent_id)
        found = await RunEraser(self.temporal).forget(request.agent_id, request.agent_uid, request.started_before)
        return c.ForgetResult(runs=sum(found.values()), by_kind=found)

    @activity.defn(name=stubs.AGENT_CERTIFY.name)
    async def certify(self, request: deletion.CertifyRequest) -> deletion.CertifyResult:
        self.certified.append(request)
        self.begun_certify.set()
        if self.gate_certify is not None:
            while not self.gate_certify.is_set():
                activity.heartbeat()
                await asyncio.sleep(0.05)
        if self.broken:
            raise ApplicationError("the certificate cannot be read", type="Odd", non_retryable=True)
        return deletion.CertifyResult(
            ref=c.StoreKeys.certificate(request.name), digest="0" * 64, remnants=request.remnants
        )


@pytest.fixture(scope="module")
async def server() -> AsyncGenerator[WorkflowEnvironment]:
    async with temporal_server() as env:
        yield env


@pytest.fixture
async def desk(server: WorkflowEnvironment) -> AsyncGenerator[Desk]:
    one = Desk()
    one.temporal = server.client
    one.begun_certify = asyncio.Event()
    async with working(server.client, one):
        yield one
        one.gate.set()


@pytest.fixture
def client(server: WorkflowEnvironment) -> AgentClient:
    return AgentClient.over(server.client)


@pytest.fixture
def name() -> str:
    return f"agent-{uuid.uuid4().hex[:8]}"


async def test_a_deletion_that_failed_after_the_runs_were_gone_goes_on(
    client: AgentClient, desk: Desk, name: str
) -> None:
    agent = await client.start(name, SPEC)
    uid = (await agent.status()).agent_uid
    desk.broken = True
    with pytest.raises(errors.DeletionFailed, match="the certificate cannot be read"):
        await agent.delete(by="ann")
    with pytest.raises(errors.AgentNotFound):
        await agent.status()
    desk.broken = False
    done = await agent.delete(by="bob")
    assert (done.agent_uid, done.certificate) == (uid, f"certificates/{uid}.json")
    # It is the same deletion: of the same agent, asked by the same person, and of runs as old.
    assert len({(one.name, one.asked_by, one.asked_at, one.begun_at) for one in desk.certified}) == 1
    assert await agent.delete() == done


async def test_a_deletion_that_somebody_terminated_goes_on(client: AgentClient, desk: Desk, name: str) -> None:
    agent = await client.start(name, SPEC)
    uid = (await agent.status()).agent_uid
    desk.gate_certify = asyncio.Event()
    asked = asyncio.create_task(agent.delete())
    await desk.begun_certify.wait()
    assert (await deletion_step(Workflows(desk.temporal), name) or "").startswith("agent.certify")
    await desk.temporal.get_workflow_handle(deletion_id(name)).terminate("by mistake")
    with pytest.raises(errors.DeletionFailed):
        await asked
    desk.gate_certify.set()
    assert (await agent.delete()).agent_uid == uid


async def test_a_new_agent_of_the_same_id_is_deleted_too_and_not_taken_for_the_old_one(
    client: AgentClient, desk: Desk, name: str
) -> None:
    desk.gate_certify = asyncio.Event()
    old = await client.start(name, SPEC)
    old_uid = (await old.status()).agent_uid
    first = asyncio.create_task(old.delete())
    await desk.begun_certify.wait()
    new = await client.start(name, SPEC)
    new_uid = (await new.status()).agent_uid
    second = asyncio.create_task(new.delete())
    desk.gate_certify.set()
    assert (await first).agent_uid == old_uid
    assert (await second).agent_uid == new_uid
    assert [one.agent_uid for one in desk.purged] == [old_uid, new_uid]
    with pytest.raises(errors.AgentNotFound):
        await new.status()


@pytest.mark.parametrize("off", [timedelta(hours=-1), timedelta(hours=1)], ids=["behind", "ahead"])
async def test_the_clock_of_who_asks_decides_nothing(
    client: AgentClient, desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch, off: timedelta
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # pyright: ignore[reportIncompatibleMethodOverride]
            del tz
            return datetime.now(UTC) + off

    monkeypatch.setattr(_deletion, "datetime", Clock)
    agent = await client.start(name, SPEC)
    desk.gate_certify = asyncio.Event()
    asked = asyncio.create_task(agent.delete())
    await desk.begun_certify.wait()
    new = await client.start(name, SPEC)
    uid = (await new.status()).agent_uid
    desk.gate_certify.set()
    await asked
    # The old one is gone (else its id would be taken), and the new one is there, when it is looked for runs again.
    certified = desk.certified[-1]
    before = certified.begun_at or certified.asked_at
    assert await RunEraser(desk.temporal).erase(name, before) == 0
    assert (await new.status()).agent_uid == uid


async def test_a_host_that_is_gone_for_ever_keeps_no_agent_from_being_deleted(
    client: AgentClient, desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await client.start(name, SPEC)
    uid = (await agent.status()).agent_uid
    await agent.close(timeout=20)
    lease = LeaseStatus(
        generation=1, host_id="gone", task_queue=c.host_queue("gone"), sandbox_id="ab" * 32, image_id="sha256:i"
    )
    monkeypatch.setattr("workflows.delete.TRIES", 1)
    done = await delete_closed(Workflows(desk.temporal), name, uid, lease)
    assert done.agent_uid == uid
    (remnant,) = done.remnants
    assert "gone: the host does not answer" in remnant


async def test_a_run_that_nobody_can_read_keeps_no_agent_from_being_deleted(
    client: AgentClient, desk: Desk, name: str
) -> None:
    # Somebody started a fork by hand, with what is no JSON.
    input_ = RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"\xff{"))
    odd = await desk.temporal.start_workflow(c.FORK_WORKFLOW, input_, id=f"odd-{name}", task_queue="nobody's")
    try:
        agent = await client.start(name, SPEC)
        async with asyncio.timeout(60):
            while not [run async for run in desk.temporal.list_workflows(f"WorkflowId = 'odd-{name}'")]:
                await asyncio.sleep(0.1)
        found = await Bearing(desk.temporal).find(name, (await agent.status()).agent_uid, None)
        assert found["forks"] == set()
    finally:
        await odd.terminate()


@pytest.mark.parametrize("uid", ["", "ab" * 16], ids=["started", "forked"])
async def test_an_agent_that_no_worker_ever_took_up_can_be_deleted(
    client: AgentClient, server: WorkflowEnvironment, name: str, uid: str
) -> None:
    # A fork begins with what was written for it in the store.
    carried = [AgentRecord(uid=uid, born_at=datetime.now(UTC))] if uid else []
    await server.client.start_workflow(c.AGENT_WORKFLOW, args=[SPEC, *carried], id=name, task_queue=c.TASK_QUEUE)
    agent = client.get(name)
    await server.client.get_workflow_handle(name).terminate("nobody is there")
    desk = Desk()
    desk.temporal = server.client
    desk.begun_certify = asyncio.Event()
    async with working(server.client, desk):
        done = await agent.delete()
        assert done.agent_uid == uid or done.agent_uid.startswith("none-")
        assert [one.agent_uid for one in desk.purged] == ([uid] if uid else [])
        with pytest.raises(errors.AgentNotFound):
            await agent.status()


async def test_what_is_no_agent_is_not_deleted_as_one_that_never_began(
    client: AgentClient, desk: Desk, name: str
) -> None:
    other = await desk.temporal.start_workflow("SomebodysWorkflow", id=name, task_queue="nobody's")
    await other.terminate()
    with pytest.raises(errors.AgentNotFound):
        await client.get(name).delete()
    assert (await other.describe()).status is WorkflowExecutionStatus.TERMINATED
    assert desk.forgotten == []


async def test_two_who_delete_at_once_get_the_same_certificate(client: AgentClient, desk: Desk, name: str) -> None:
    agent = await client.start(name, SPEC)
    uid = (await agent.status()).agent_uid
    done = await asyncio.gather(*(agent.delete(by=str(number)) for number in range(4)))
    assert {(one.agent_uid, one.certificate) for one in done} == {(uid, f"certificates/{uid}.json")}
    assert {one.name for one in desk.certified} == {uid}
