"""A rig whose agents may start others: each has a script of its own, found by the first thing that it is told."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.children import ChildActivities
from hibernaut import AgentClient, contracts as c
from hibernaut.models import AgentStatus, BudgetStatus, ChildStatus, EventsPage, ToolCall
from tests.workflows.branch_world import BranchWorld
from tests.workflows.conftest import Rig
from tests.workflows.world import HOST, Step
from workers.interceptor import ErrorInterceptor
from workers.registry import WORKFLOWS, workflow_runner

Agent = WorkflowHandle[Any, Any]
ResultT = TypeVar("ResultT")


@dataclass
class FamilyWorld(BranchWorld):
    """Containers of several agents at once; a model for each."""

    scripts: dict[str, list[Step]] = field(default_factory=dict[str, list[Step]])
    """What the agent does whose newest message this is."""
    speakers: dict[str, list[c.ModelRequest]] = field(default_factory=dict[str, list[c.ModelRequest]])
    """What each of them was asked."""
    _whose: dict[str, str] = field(default_factory=dict[str, str])
    hang: str | None = None
    """The message whose model does not answer."""
    pause_after: str | None = None
    """The message whose model answers once."""

    @activity.defn(name=c.MODEL_CALL.name)
    async def call(self, request: c.ModelRequest) -> c.ModelReply:
        said = [
            item.text for item in request.new_items if isinstance(item, c.UserMessage) and item.text in self.scripts
        ]
        whose = self._whose[request.agent_uid] = said[-1] if said else self._whose[request.agent_uid]
        self.speakers.setdefault(whose, []).append(request)
        if whose == self.pause_after and len(self.speakers[whose]) > 1:
            self.hang = whose
        while whose == self.hang:
            activity.heartbeat()
            await asyncio.sleep(0.05)
        self.script = self.scripts[whose]
        return await super().call(request)

    @activity.defn(name=c.SANDBOX_ACQUIRE.name)
    async def acquire(self, request: c.AcquireRequest) -> c.AcquireResult:
        result = await super().acquire(request)
        self.live = set(range(100))
        return result

    @activity.defn(name=c.SANDBOX_DESTROY.name)
    async def destroy(self, request: c.DestroyRequest) -> c.DestroyResult:
        self.destroyed.append(request)
        return c.DestroyResult(removed=(request.lease.sandbox_id,))

    def told(self, whose: str, request: int) -> dict[str, Any]:
        """What the tool told the model of an agent in one of its requests."""
        found = next(item for item in self.speakers[whose][request].new_items if isinstance(item, c.ToolResult))
        assert isinstance(found.output, dict), found.error
        return found.output

    def refused(self, whose: str, request: int) -> str:
        found = next(item for item in self.speakers[whose][request].new_items if isinstance(item, c.ToolResult))
        return found.error or ""

    def heard(self, whose: str) -> list[str]:
        """All notes and messages that an agent's model was told."""
        items = [item for request in self.speakers[whose] for item in request.new_items]
        return [item.text for item in items if isinstance(item, c.UserMessage | c.Note)]


class FamilyRig(Rig):
    """Asks for children as well."""

    @property
    def family(self) -> FamilyWorld:
        assert isinstance(self.world, FamilyWorld)
        return self.world

    async def start_parent(self, **spec: object) -> Agent:
        return await self.start(**{"tools": ["sleep", "start_agent"], **spec})

    async def eventually(self, look: Callable[[], Awaitable[ResultT | None]]) -> ResultT:
        for _ in range(600):
            if (found := await look()) is not None:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError("it never came")

    async def child(self, agent: Agent, number: int = 1, **wanted: object) -> ChildStatus:
        """One of an agent's children, as soon as it is like that."""

        async def there() -> ChildStatus | None:
            known = (await self.status(agent)).children
            found = [one for one in known if one.agent_id.split("-")[-2] == str(number)]
            fits = found and all(getattr(found[0], name) == value for name, value in wanted.items())
            return found[0] if fits else None

        return await self.eventually(there)

    async def asked(self, whose: str, times: int = 1) -> None:
        """Wait until the model of the agent with this message has been asked so often."""

        async def there() -> bool | None:
            return len(self.family.speakers.get(whose, [])) >= times or None

        await self.eventually(there)

    async def status_of(self, agent_id: str) -> AgentStatus:
        return await self.status(self.client.get_workflow_handle(agent_id))

    async def spent(self, agent: Agent) -> BudgetStatus:
        return await self.query(agent, "budget", result_type=BudgetStatus)

    async def kinds(self, agent: Agent) -> list[str]:
        page = await self.query(agent, "events", 0, result_type=EventsPage)
        return [event.kind.value for event in page.events]


def start(task: str, **arguments: Any) -> c.ModelReply:  # noqa: ANN401  # JSON
    """A reply that starts an agent."""
    asked = {"task": task, "name": "", "computer": "new", "wait": True, **arguments}
    call = ToolCall(call_id="call_1", kind="function_call", tool="start_agent", arguments=asked)
    return c.ModelReply(segment_ref="", tool_calls=(call,))


def child_activities(client: Client) -> Sequence[Callable[..., Any]]:
    real = ChildActivities(AgentClient.over(client))
    return real.wait, real.close, real.find


@asynccontextmanager
async def family_rig(environment: WorkflowEnvironment, folder: Path) -> AsyncGenerator[FamilyRig]:
    """Workers on a server of any kind; what is left open at the end is terminated."""
    world, client = FamilyWorld(folder=folder), environment.client
    activities = [*world.activities(), *child_activities(client)]
    quick = timedelta(milliseconds=50)
    common: dict[str, Any] = {
        "max_heartbeat_throttle_interval": quick,
        "default_heartbeat_throttle_interval": quick,
        "interceptors": [ErrorInterceptor()],
    }
    async with (
        Worker(
            client,
            task_queue=c.TASK_QUEUE,
            workflows=list(WORKFLOWS),
            activities=activities,
            workflow_runner=workflow_runner(),
            **common,
        ),
        Worker(client, task_queue=c.host_queue(HOST), activities=activities, **common),
        Worker(client, task_queue=c.PLACEMENT_QUEUE, activities=activities, **common),
    ):
        yield FamilyRig(environment, world)
        world.hang = None
        if not environment.supports_time_skipping:
            async for run in client.list_workflows("ExecutionStatus = 'Running'"):
                with contextlib.suppress(RPCError):
                    await client.get_workflow_handle(run.id).terminate("its test is over")
