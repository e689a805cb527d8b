"""host.ping and the lease on a real Temporal: a host that is full still answers, one that is cut off does not."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.host import AssessActivities
from hibernaut.contracts import (
    HOST_PING,
    SANDBOX_ASSESS,
    AssessRequest,
    PingRequest,
    PingResult,
    control_queue,
    host_queue,
)
from hibernaut.models import LeaseStatus
from tests.chaos.link import Link
from tests.support.hosts import until
from workers import worker
from workers.devstack.stack import DevStack
from workers.lease import LeaseKeeper, first_lease
from workers.settings import Settings
from workers.watchdog.folder import HostFolder, since_boot
from workers.worker import connect, running


@workflow.defn(name="AskHost")
class AskHost:
    """Fills the host's own queue, then pings it."""

    def __init__(self) -> None:
        self.ended = False

    @workflow.signal
    def end(self) -> None:
        self.ended = True

    @workflow.run
    async def run(self, host_id: str, fill: int) -> PingResult:
        lease = LeaseStatus(generation=1, host_id=host_id, task_queue="", sandbox_id="c" * 64, image_id="")
        for _ in range(fill):
            workflow.start_activity(
                SANDBOX_ASSESS.name,
                AssessRequest(agent_uid="u", lease=lease),
                task_queue=host_queue(host_id),
                start_to_close_timeout=timedelta(minutes=1),
            )
        await workflow.sleep(0.2)
        answer = await workflow.execute_activity(
            HOST_PING.name,
            PingRequest(host_id=host_id),
            task_queue=control_queue(host_id),
            result_type=PingResult,
            schedule_to_close_timeout=timedelta(seconds=20 if fill else 2),
        )
        await workflow.wait_condition(lambda: self.ended or not fill)
        return answer


@pytest.mark.slow
async def test_a_full_host_answers(settings: Settings, temporal: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    holding, let_go = asyncio.Semaphore(0), asyncio.Event()

    async def held(self: AssessActivities, *_: object) -> object:
        del self
        holding.release()
        await let_go.wait()
        raise AssertionError

    monkeypatch.setattr(worker, "HOST_SLOTS", 2)
    monkeypatch.setattr(AssessActivities, "_look", held)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    mine = settings.model_copy(update={"host_id": f"full-{uuid4().hex[:6]}", "lease_seconds": 5.0})
    queue = f"ask-{uuid4().hex[:6]}"
    ask = Worker(temporal, task_queue=queue, workflows=[AskHost], workflow_runner=UnsandboxedWorkflowRunner())
    async with ask, running(mine, temporal):
        handle = await temporal.start_workflow(AskHost.run, args=[mine.host_id, 4], id=queue, task_queue=queue)
        async with asyncio.timeout(30):
            await holding.acquire()
            await holding.acquire()
        await handle.signal(AskHost.end)
        assert await handle.result() == PingResult(host_id=mine.host_id, sandboxes=0)
        with pytest.raises(WorkflowFailureError):
            await temporal.execute_workflow(AskHost.run, args=["nobody", 0], id=f"{queue}-2", task_queue=queue)
        let_go.set()


async def test_the_lease_is_renewed_by_contact_alone(stack: DevStack, settings: Settings, tmp_path: Path) -> None:
    folder = HostFolder(tmp_path, "linked")
    thawed = asyncio.Event()

    async def thaw() -> None:
        thawed.set()

    async with Link(stack.ports.temporal) as link:
        linked = replace(settings.connection, address=link.address)
        client = await connect(settings.model_copy(update={"connection": linked}))
        lease = first_lease(folder, 2.0, "namespace", holding=False)
        async with LeaseKeeper(client, folder, "linked", lease, thaw).kept():
            first = folder.lease()
            assert first is not None
            assert 0 <= first.age < 2.0
            await until(lambda: _contact(folder) > first.contact, "a renewal")
            link.cut()
            await until(lambda: _expired(folder), "the end of the lease")
            cut = _contact(folder)
            assert not thawed.is_set()
            folder.mark("c" * 64)
            before = since_boot()
            link.mend()
            await until(lambda: _contact(folder) > cut, "contact")
            assert _contact(folder) >= before - 2.0 / 5, "when it was asked for, not when it was answered"
            async with asyncio.timeout(10):
                await thawed.wait()
        kept = folder.lease()
        assert kept is not None
        assert kept.stopped
    # Agents count on what they were told: it grows only once no sandbox is left.
    assert first_lease(folder, 60.0, "namespace", holding=True).seconds == 2.0
    assert first_lease(folder, 1.5, "namespace", holding=True).seconds == 1.5
    assert first_lease(folder, 60.0, "namespace", holding=False).seconds == 60.0
    assert first_lease(folder, 60.0, "another deployment", holding=True).seconds == 60.0


def _contact(folder: HostFolder) -> float:
    lease = folder.lease()
    return lease.contact if lease is not None else 0.0


def _expired(folder: HostFolder) -> bool:
    lease = folder.lease()
    return lease is not None and lease.expired
