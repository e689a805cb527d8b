"""A life of 10,000 steps in 60 days of workflow time: what each step leaves in the history, early and late.

The workflow is the real one, on a server that skips time; activities pretend. Each day messages arrive at once, are
answered one after the other, and the idle timer puts the agent to sleep until the next day. On some days one turn is so
long that its run ends in the middle of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import mean, median
from typing import Any

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import EventType, IndexedValueType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.testservice.v1 import SleepRequest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.worker import Replayer, Worker

from benchmarks.weeks_plan import Life
from benchmarks.weeks_results import tell
from hibernaut import contracts as c
from hibernaut._temporal import Workflows
from hibernaut.models import AgentState, Answer, AnswerState, EventsPage, SendRequest, Ticket
from tests.support.histories import chain, size, started
from tests.support.skipping import time_skipping
from tests.workflows.conftest import SEARCH_ATTRIBUTES, Rig
from tests.workflows.world import HOST, World, say, shell
from workers.registry import WORKFLOWS, workflow_runner

DAY = timedelta(days=1)
IDLE = timedelta(minutes=10)
EVENTS_LIMIT, BYTES_LIMIT = 10_000, 10_000_000
"""What no run may reach."""
FEWEST = 10
"""Steps of a "last tenth" at least: single steps differ too much."""


class _Requests(Workflows):
    """Sends to agents; the time-skipping server cannot tell who polls."""

    async def require_worker(self) -> None:
        """Take it as given."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """What lies between the scheduling of one model call and that of the next, sleeping and waking included."""

    events: int
    size: int
    """Bytes."""


def costs_of(runs: Sequence[WorkflowHistory]) -> list[StepCost]:
    """Cut the histories of a life behind the step before each scheduled model call; the last has the rest."""
    costs: list[StepCost] = []
    events = length = 0
    for event in itertools.chain.from_iterable(run.events for run in runs):
        if _asks(event) and events:
            costs.append(StepCost(events, length))
            events = length = 0
        events += 1
        length += event.ByteSize()
    # What comes before the first model call belongs to the first step.
    first, second, *others = [*costs, StepCost(events, length)]
    return [StepCost(first.events + second.events, first.size + second.size), *others]


def _asks(event: HistoryEvent) -> bool:
    scheduled = event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    return scheduled and event.activity_task_scheduled_event_attributes.activity_type.name == c.MODEL_CALL.name


@asynccontextmanager
async def pretended() -> AsyncGenerator[Rig]:
    """A time-skipping server and a worker whose activities are a scripted world."""
    world = World()
    activities = list(world.activities())
    async with AsyncExitStack() as stack:
        environment = await stack.enter_async_context(time_skipping())
        client = environment.client
        kinds = {key.name: IndexedValueType.ValueType(key.indexed_value_type) for key in SEARCH_ATTRIBUTES}
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=kinds)
        )
        runner: Any = {"workflows": list(WORKFLOWS), "workflow_runner": workflow_runner()}
        await stack.enter_async_context(Worker(client, task_queue=c.TASK_QUEUE, activities=activities, **runner))
        for queue in (c.host_queue(HOST), c.control_queue(HOST), c.PLACEMENT_QUEUE):
            await stack.enter_async_context(Worker(client, task_queue=queue, activities=activities))
        yield Rig(environment, world)


class Lived:
    """One agent, day by day."""

    def __init__(self, rig: Rig, plan: Life) -> None:
        """The agent is born with `live`."""
        self._rig, self._plan = rig, plan
        self._requests = _Requests(rig.client)
        self.turns: list[int] = []
        self.born = datetime.now(UTC)

    async def live(self) -> list[WorkflowHistory]:
        """Live all days; the histories of all runs, the oldest first.

        Raises:
            RuntimeError: A message was lost, doubled, or not answered by the steps it should take.
        """
        rig, plan = self._rig, self._plan
        spec: dict[str, Any] = {"instructions": "live long", "max_steps": plan.long_turn + 1}
        agent = await rig.start(**spec, idle_timeout=IDLE.total_seconds())
        self.born = await rig.environment.get_current_time()
        for day in range(plan.days):
            turns = list(self._turns(day))
            for name, steps in turns:
                calls = (shell(f"echo {name} {number}", call_id=f"call_{number}") for number in range(steps - 1))
                rig.world.script += [*calls, say(f"done: {name}")]
            async with asyncio.TaskGroup() as group:
                for name, _ in turns:
                    group.create_task(self._send(agent.id, name))
            for name, _ in turns:
                await self._answered(name, agent.id)
            await self._sleep_until(self.born + (day + 1) * DAY)
            await rig.until(agent, state=AgentState.HIBERNATED)
            if day % 10 == 9 or day + 1 == plan.days:
                tell(f"day {day + 1}, {len(rig.world.requests):,} steps")
        self._check(await rig.query(agent, "events", 0, result_type=EventsPage))
        return await chain(rig.client, agent.id)

    def _turns(self, day: int) -> Iterator[tuple[str, int]]:
        """The messages of a day, with the steps that each is answered by."""
        for number in range(self._plan.turns):
            yield f"d{day}-m{number}", self._plan.steps_a_turn
        if day % self._plan.long_every == 0:
            yield f"d{day}-long", self._plan.long_turn

    async def _send(self, agent_id: str, name: str) -> None:
        request = SendRequest(text=f"message {name}", message_id=name)
        await self._requests.update(agent_id, "send", [request], Ticket)

    async def _answered(self, name: str, agent_id: str) -> None:
        """Wait for the answer, however long the turn is."""
        while True:
            answer = await self._requests.query(agent_id, "answer", [name], Answer)
            if answer.paused_reason is not None:
                raise RuntimeError(f"{name} is held up: {answer.paused_reason}")
            if answer.state not in {AnswerState.QUEUED, AnswerState.RUNNING}:
                break
            await asyncio.sleep(0.2)
        if answer.state is not AnswerState.DONE:
            raise RuntimeError(f"{name} was answered by {answer}")
        self.turns.append(answer.turn)

    async def _sleep_until(self, wanted: datetime) -> None:
        """Let time pass; the server now and then refuses, or drops the connection over it, and is asked again."""
        while (left := wanted - await self._rig.environment.get_current_time()) > timedelta(0):
            duration = Duration()
            duration.FromTimedelta(left)
            with contextlib.suppress(RPCError):
                await self._rig.environment.client.test_service.unlock_time_skipping_with_sleep(
                    SleepRequest(duration=duration), timeout=timedelta(seconds=4)
                )

    def _check(self, page: EventsPage) -> None:
        world, plan = self._rig.world, self._plan
        asked = [item.message_id for one in world.requests for item in one.new_items if item.kind == "user"]
        if len(asked) != len(set(asked)) or len(asked) != len(self.turns):
            raise RuntimeError(
                f"of {len(self.turns)} messages the model saw {len(asked)}, {len(set(asked))} of them once"
            )
        if len(world.requests) != plan.steps or sorted(self.turns) != list(range(1, len(self.turns) + 1)):
            raise RuntimeError(f"{len(world.requests)} steps instead of {plan.steps}, or turns that are missing")
        if {event.seq for event in page.events} | set(world.events) != set(range(1, page.last + 1)):
            raise RuntimeError("events are missing")


async def replayed(runs: Sequence[WorkflowHistory]) -> int:
    """Replay every run; how many those are.

    Raises:
        NondeterminismError: One does not replay.
    """
    replayer = Replayer(
        workflows=list(WORKFLOWS), data_converter=pydantic_data_converter, workflow_runner=workflow_runner()
    )
    for run in runs:
        await replayer.replay_workflow(run)
    return len(runs)


def figures_of(runs: Sequence[WorkflowHistory], plan: Life) -> dict[str, Any]:
    """What the histories of a life say of its cost."""
    costs = costs_of(runs)
    if len(costs) != plan.steps:
        raise RuntimeError(f"the histories have {len(costs)} steps instead of {plan.steps}")
    largest = {"events": max(len(run.events) for run in runs), "bytes": max(size(run) for run in runs)}
    return {
        "days": plan.days,
        "steps": plan.steps,
        "runs": len(runs),
        "events": sum(len(run.events) for run in runs),
        "bytes": sum(size(run) for run in runs),
        "largest_run": largest,
        "bounded": largest["events"] < EVENTS_LIMIT and largest["bytes"] < BYTES_LIMIT,
        "sleeping_run": {"events": len(runs[-1].events), "bytes": size(runs[-1])},
        "carried_bytes": {
            "first": started(runs[1]).ByteSize(),
            "largest": max(started(run).ByteSize() for run in runs),
            "last": started(runs[-1]).ByteSize(),
        },
        "per_step": {str(point): _at(costs, point) for point in plan.points},
    }


def _at(costs: Sequence[StepCost], point: int) -> dict[str, dict[str, float]]:
    """The mean of all steps up to this one, the mean and the median of the last tenth of them."""
    tenth = costs[max(0, point - max(FEWEST, point // 10)) : point]
    figures: dict[str, dict[str, float]] = {}
    for name in ("events", "size"):
        values = [float(getattr(cost, name)) for cost in costs[:point]]
        late = values[-len(tenth) :]
        figures["bytes" if name == "size" else name] = {
            "mean": round(mean(values), 1),
            "last_tenth": round(mean(late), 1),
            "last_tenth_median": round(median(late), 1),
        }
    return figures


async def measure(plan: Life) -> dict[str, Any]:
    """Live, and look at what is left of it."""
    began = time.monotonic()
    async with pretended() as rig:
        life = Lived(rig, plan)
        runs = await life.live()
        lived = time.monotonic()
        clock = await rig.environment.get_current_time()
        figures = figures_of(runs, plan)
    count = await replayed(runs)
    tell(f"{count} runs replayed")
    return {
        **figures,
        "clock_days": round((clock - life.born) / DAY, 1),
        "turns": len(life.turns),
        "replayed_runs": count,
        "seconds": {"living": round(lived - began), "replaying": round(time.monotonic() - lived)},
    }
