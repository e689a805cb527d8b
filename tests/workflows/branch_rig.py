"""A rig that asks for checkpoints, forks and rewinds as well."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Interceptor, Worker

from activities.checkpoints import Checkpoints
from hibernaut import contracts as c
from hibernaut.models import AgentStatus
from tests.workflows.branch_world import BranchWorld
from tests.workflows.conftest import Rig
from tests.workflows.world import HOST
from workers.interceptor import ErrorInterceptor
from workers.registry import WORKFLOWS, workflow_runner

Agent = WorkflowHandle[Any, Any]


class BranchRig(Rig):
    """Asks for checkpoints as well."""

    @property
    def branches(self) -> BranchWorld:
        assert isinstance(self.world, BranchWorld)
        return self.world

    async def standpoint(self, agent: Agent) -> c.Standpoint:
        return await self.query(agent, "standpoint", result_type=c.Standpoint)

    async def points(self, agent: Agent) -> dict[str, int | None]:
        """The number of the snapshot of each checkpoint."""
        found = await Checkpoints(self.branches.store).all(await self.standpoint(agent))
        return {point.name: point.snapshot.number if point.snapshot else None for point in found}

    async def rewind(self, agent: Agent, step: int, **more: int | bool) -> AgentStatus:
        request = c.RewindRequest.model_validate({"step": step, **more})
        status = await self.order(agent, "rewind", request)
        assert status.rewinding is not None
        return await self.until(agent, rewinding=None)

    async def refusal(self, agent: Agent, request: c.RewindRequest) -> ApplicationError:
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await self.order(agent, "rewind", request)
        cause = caught.value.cause
        assert isinstance(cause, ApplicationError)
        return cause

    async def fork(self, agent: Agent, new_id: str, step: int | None = None) -> c.ForkResult:
        return await self.ask_fork(c.ForkRequest(source=await self.standpoint(agent), new_id=new_id, step=step))

    async def ask_fork(self, request: c.ForkRequest) -> c.ForkResult:
        return await self.client.execute_workflow(
            c.FORK_WORKFLOW, request, id=f"fork:{request.new_id}", task_queue=c.TASK_QUEUE, result_type=c.ForkResult
        )


@asynccontextmanager
async def branch_rig(
    skipping: WorkflowEnvironment, folder: Path, *interceptors: Interceptor
) -> AsyncGenerator[BranchRig]:
    world = BranchWorld(folder=folder)
    activities = list(world.activities())
    quick = timedelta(milliseconds=50)
    common: dict[str, Any] = {
        "max_heartbeat_throttle_interval": quick,
        "default_heartbeat_throttle_interval": quick,
        "interceptors": [ErrorInterceptor(), *interceptors],
    }
    async with (
        Worker(
            skipping.client,
            task_queue=c.TASK_QUEUE,
            workflows=list(WORKFLOWS),
            activities=activities,
            workflow_runner=workflow_runner(),
            **common,
        ),
        Worker(skipping.client, task_queue=c.host_queue(HOST), activities=activities, **common),
        Worker(skipping.client, task_queue=c.PLACEMENT_QUEUE, activities=activities, **common),
    ):
        yield BranchRig(skipping, world)
