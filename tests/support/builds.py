"""Several builds of the worker on one Temporal server; sandbox hosts belong to none of them."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.api.deployment.v1 import WorkerDeploymentVersion as WireVersion, WorkerDeploymentVersionInfo
from temporalio.api.enums.v1 import RoutingConfigUpdateState, VersionDrainageStatus
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentVersionRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from hibernaut import contracts as c
from tests.workflows.conftest import SEARCH_ATTRIBUTES, Rig
from tests.workflows.world import HOST, World
from workers.registry import WORKFLOWS, workflow_runner
from workers.versioning import PinningRunner, deployment

TEMPORAL = Path(sys.executable).with_name("temporal")
DEPLOYMENT = "hibernaut"
DRAINAGE = ("VersionDrainageStatusVisibilityGracePeriod", "VersionDrainageStatusRefreshInterval")
ROUTED = RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_COMPLETED
DRAINED = VersionDrainageStatus.VERSION_DRAINAGE_STATUS_DRAINED


@dataclass
class Builds:
    """Starts and stops builds; each has a world of its own for what the control queue does."""

    environment: WorkflowEnvironment
    hosts: World = field(default_factory=World)

    def rig(self, world: World) -> Rig:
        """To talk to agents."""
        return Rig(self.environment, world)

    @asynccontextmanager
    async def build(
        self,
        build_id: str | None,
        world: World,
        agent: type | None = None,
        more: Sequence[Callable[..., Any]] = (),
    ) -> AsyncGenerator[Worker]:
        """Run the control queue's worker of a build: with another AgentWorkflow, and with more activities, if any."""
        known = [agent or one if one.__name__ == c.AGENT_WORKFLOW else one for one in WORKFLOWS]
        versioned: dict[str, Any] = {"workflow_runner": workflow_runner()}
        if build_id is not None:
            versioned = {
                "workflow_runner": PinningRunner(workflow_runner()),
                "deployment_config": deployment(DEPLOYMENT, build_id),
            }
        async with Worker(
            self.environment.client,
            task_queue=c.TASK_QUEUE,
            workflows=known,
            activities=[*world.activities(), *more],
            **versioned,
        ) as worker:
            yield worker

    async def make_current(self, build_id: str) -> None:
        """What `temporal worker deployment set-current-version` does; returns when every task is routed by it."""
        service, namespace = self.environment.client.workflow_service, self.environment.client.namespace
        change = SetWorkerDeploymentCurrentVersionRequest(
            namespace=namespace, deployment_name=DEPLOYMENT, build_id=build_id, identity="test"
        )
        ask = DescribeWorkerDeploymentRequest(namespace=namespace, deployment_name=DEPLOYMENT)
        error: RPCError | None = None
        for _ in range(300):
            try:
                await service.set_worker_deployment_current_version(change)
                found = (await service.describe_worker_deployment(ask)).worker_deployment_info
            except RPCError as refusal:
                # A build is known a moment after its worker began to poll.
                error = refusal
            else:
                current = found.routing_config.current_deployment_version.build_id
                if current == build_id and found.routing_config_update_state == ROUTED:
                    return
            await asyncio.sleep(0.1)
        raise AssertionError(f"build {build_id} is not current: {error}")

    async def describe(self, build_id: str) -> WorkerDeploymentVersionInfo:
        """What the server knows of a build."""
        client = self.environment.client
        request = DescribeWorkerDeploymentVersionRequest(
            namespace=client.namespace,
            deployment_version=WireVersion(deployment_name=DEPLOYMENT, build_id=build_id),
        )
        reply = await client.workflow_service.describe_worker_deployment_version(request)
        return reply.worker_deployment_version_info

    async def pinned(self, build_id: str, count: int) -> None:
        """Wait until so many agents are pinned to a build, as `docs/upgrading.md` asks for them."""
        query = (
            f"WorkflowType = '{c.AGENT_WORKFLOW}' AND ExecutionStatus = 'Running' AND "
            f"TemporalWorkerDeploymentVersion = '{DEPLOYMENT}:{build_id}' AND "
            "TemporalWorkflowVersioningBehavior = 'Pinned'"
        )
        found = -1
        for _ in range(100):
            found = (await self.environment.client.count_workflows(query)).count
            if found == count:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{found} agents are pinned to build {build_id}")

    async def drained(self, build_id: str) -> None:
        """Wait until no run is pinned to a build any more."""
        status = None
        for _ in range(300):
            status = (await self.describe(build_id)).drainage_info.status
            if status == DRAINED:
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"build {build_id} is not drained: {status}")


@asynccontextmanager
async def builds() -> AsyncGenerator[Builds]:
    """A real server that looks for drained builds all the time, and a sandbox host."""
    settings = [word for key in DRAINAGE for word in ("--dynamic-config-value", f'matching.wv.{key}="1s"')]
    environment = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(TEMPORAL),
        data_converter=pydantic_data_converter,
        search_attributes=list(SEARCH_ATTRIBUTES),
        dev_server_extra_args=settings,
    )
    async with environment, AsyncExitStack() as stack:
        one = Builds(environment)
        queues: Sequence[str] = (c.host_queue(HOST), c.control_queue(HOST), c.PLACEMENT_QUEUE)
        for queue in queues:
            await stack.enter_async_context(
                Worker(environment.client, task_queue=queue, activities=list(one.hosts.activities()))
            )
        yield one
