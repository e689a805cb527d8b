"""HousekeepingWorkflow: every host is swept, and one that is gone or in trouble holds nobody up."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from hibernaut import contracts as c
from workers.registry import WORKFLOWS, workflow_runner


@dataclass
class Fleet:
    """Hosts that pretend to sweep."""

    hosts: tuple[str, ...] = ()
    failures: dict[str, list[BaseException]] = field(default_factory=dict[str, list[BaseException]])
    hopeless: set[str] = field(default_factory=set[str])
    requests: list[c.SweepRequest] = field(default_factory=list[c.SweepRequest])

    @activity.defn(name=c.HOSTS_LIST.name)
    async def list(self, request: c.HostsRequest) -> c.HostsResult:
        del request
        return c.HostsResult(hosts=self.hosts)

    @activity.defn(name=c.SANDBOX_SWEEP.name)
    async def sweep(self, request: c.SweepRequest) -> c.SweepResult:
        assert activity.info().task_queue == c.host_queue(request.host_id)
        self.requests.append(request)
        if request.host_id in self.hopeless:
            raise ApplicationError("the daemon is down", type="SandboxUnavailable")
        if failures := self.failures.get(request.host_id):
            raise failures.pop(0)
        return c.SweepResult(kept=len(request.host_id))


@dataclass
class Rig:
    environment: WorkflowEnvironment
    fleet: Fleet

    async def housekeeping(self, *hosts: str) -> c.HousekeepingResult:
        self.fleet.hosts = hosts
        return await self.environment.client.execute_workflow(
            c.HOUSEKEEPING_WORKFLOW,
            id=f"{c.HOUSEKEEPING_SCHEDULE}-{uuid4().hex[:6]}",
            task_queue=c.TASK_QUEUE,
            result_type=c.HousekeepingResult,
        )


@pytest.fixture
async def rig(skipping: WorkflowEnvironment) -> AsyncIterator[Rig]:
    fleet = Fleet()
    client = skipping.client
    async with AsyncExitStack() as stack:
        control = Worker(
            client,
            task_queue=c.TASK_QUEUE,
            workflows=list(WORKFLOWS),
            activities=[fleet.list],
            workflow_runner=workflow_runner(),
        )
        await stack.enter_async_context(control)
        for host in ("a", "bb"):
            queue = c.host_queue(host)
            await stack.enter_async_context(Worker(client, task_queue=queue, activities=[fleet.sweep]))
        yield Rig(skipping, fleet)


async def test_every_host_sweeps_on_its_own_queue(rig: Rig) -> None:
    result = await rig.housekeeping("a", "bb")
    assert {host: swept.kept for host, swept in result.swept.items()} == {"a": 1, "bb": 2}
    assert result.silent == ()
    assert len({request.sweep_id for request in rig.fleet.requests}) == 1


@pytest.mark.slow
async def test_a_host_that_does_not_answer_is_named_and_the_others_are_swept(rig: Rig) -> None:
    # The server skips no time while it holds a task: this takes the 30 seconds that a host is given.
    result = await rig.housekeeping("a", "switched-off", "bb")
    assert set(result.swept) == {"a", "bb"}
    assert result.silent == ("switched-off",)


async def test_a_failure_is_retried_under_the_same_sweep_id(rig: Rig) -> None:
    rig.fleet.failures["a"] = [ApplicationError("store away", type="StoreUnavailable")] * 2
    result = await rig.housekeeping("a")
    assert set(result.swept) == {"a"}
    assert len(rig.fleet.requests) == 3
    assert len({request.sweep_id for request in rig.fleet.requests}) == 1


async def test_a_host_in_lasting_trouble_is_given_up_until_the_next_time(rig: Rig) -> None:
    rig.fleet.hopeless.add("a")
    result = await rig.housekeeping("a", "bb")
    assert (set(result.swept), result.silent) == ({"bb"}, ("a",))


async def test_without_hosts_there_is_nothing_to_do(rig: Rig) -> None:
    result = await rig.housekeeping()
    assert (result.swept, result.silent) == ({}, ())
