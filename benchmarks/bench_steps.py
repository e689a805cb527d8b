"""What a step costs beside the model and the command: time, events, history bytes; and the way to the first exec.

One agent takes many steps of one shell call (`true`) each, against real Temporal, S3 and Docker; the worker is a
process of its own. Overhead is the time from one kept reply to the next, less what the provider took and less what the
command took.
"""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

from benchmarks.report import machine, middle, write
from examples.scripted_model import Conversation, Reply, ScriptedModel, say, shell
from hibernaut import AgentClient, AgentSpec
from hibernaut.agent import AgentHandle
from hibernaut.models import Event, EventKind
from workers.devstack.settings import Component, Ports
from workers.devstack.stack import DevStack
from workers.settings import Settings
from workers.worker import connect

STEPS = 510
POINTS = (10, 100, 500)
AROUND = 5
"""Steps on either side of a point that its figure is the median of."""
FIRST_RUNS = 7
BURST = f"take {STEPS} steps"


def _script(conversation: Conversation) -> Reply:
    """As many steps as the newest message asks for, then an answer."""
    wanted = next(said.text for said in reversed(conversation.said("user")))
    calls_since = 0
    for entry in reversed(conversation.entries):
        if entry == conversation.said("user")[-1]:
            break
        calls_since += entry in conversation.calls
    steps = int(wanted.split()[1])
    return shell("true") if calls_since < steps else say("done")


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one step left in the history."""

    events: int
    size: int
    """Bytes."""


async def history_of(client: Client, agent_id: str) -> list[HistoryEvent]:
    """Every event of every run, oldest first."""
    runs = [found async for found in client.list_workflows(f"WorkflowId = '{agent_id}'")]
    events: list[HistoryEvent] = []
    for run in sorted(runs, key=lambda found: found.start_time):
        handle = client.get_workflow_handle(agent_id, run_id=run.run_id)
        events += [event async for event in handle.fetch_history_events()]
    return events


def _costs(history: Sequence[HistoryEvent]) -> list[StepCost]:
    """Cut the history at each scheduled model call."""
    costs: list[StepCost] = []
    events = size = 0
    for event in history:
        scheduled = event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        if scheduled and event.activity_task_scheduled_event_attributes.activity_type.name == "model.call":
            costs.append(StepCost(events, size))
            events = size = 0
        events += 1
        size += event.ByteSize()
    return costs[1:]


def _overheads(events: Sequence[Event]) -> list[float]:
    """Milliseconds of each step that neither the provider nor the command took."""
    overheads: list[float] = []
    last: Event | None = None
    busy = 0.0
    for event in events:
        if event.kind is EventKind.COMMAND:
            busy += float(str(event.data["duration_ms"]))
        elif event.kind is EventKind.REPLY:
            busy += float(str(event.data["duration_ms"]))
            if last is not None:
                overheads.append((event.at - last.at).total_seconds() * 1000 - busy)
            last, busy = event, 0.0
    return overheads


async def _first_exec(agent: AgentHandle) -> float:
    """Milliseconds from sending a message to the start of its first command."""
    since = (await agent.status()).last_event
    sent = time.time()
    await agent.send("take 1 step", timeout=120)
    async for event in agent.events(since=since, follow=False):
        if event.kind is EventKind.COMMAND:
            return (event.at.timestamp() - sent) * 1000 - float(str(event.data["duration_ms"]))
    raise RuntimeError("no command was run")


async def _first_execs(client: AgentClient, spec: AgentSpec) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {"fresh": [], "running": [], "hibernated": []}
    for _ in range(FIRST_RUNS):
        agent = await client.start(f"first-{uuid4().hex[:8]}", spec)
        figures["fresh"].append(await _first_exec(agent))
        figures["running"].append(await _first_exec(agent))
        await agent.hibernate(timeout=60)
        figures["hibernated"].append(await _first_exec(agent))
        await agent.close()
    return figures


async def measure() -> None:
    """Run everything and write `results/steps.json` and `results/steps.md`."""
    with tempfile.TemporaryDirectory(prefix="hibernaut-bench-") as folder:
        async with ScriptedModel(_script) as model:
            settings = {
                "OPENAI_API_KEY": model.api_key,
                "OPENAI_BASE_URL": model.base_url,
                "HIBERNAUT_HOST_ID": f"bench-{uuid4().hex[:6]}",
            }
            parts = {Component.TEMPORAL, Component.STORE, Component.WORKER, Component.GATEWAY}
            stack = DevStack(Path(folder), ports=Ports.free(), components=parts, settings=settings)
            async with stack:
                temporal = await connect(Settings.load({**stack.env, **settings}))
                client = AgentClient.over(
                    temporal,
                    gateway_url=stack.env.get("HIBERNAUT_GATEWAY_URL"),
                    gateway_token=stack.env.get("HIBERNAUT_GATEWAY_TOKEN"),
                )
                spec = AgentSpec(model=model.model, max_steps=STEPS + 10)
                first = await _first_execs(client, spec)
                agent = await client.start("bench-steps", spec)
                await agent.send(BURST, timeout=1200)
                events = [event async for event in agent.events(follow=False)]
                await agent.close()
                costs = _costs(await history_of(temporal, "bench-steps"))
    _report(costs, _overheads(events), first)


def _report(costs: Sequence[StepCost], overheads: Sequence[float], first: dict[str, list[float]]) -> None:
    around = {point: costs[max(0, point - AROUND) : point + AROUND] for point in POINTS}
    figures = {
        "overhead_ms": middle(overheads),
        "events_per_step": middle([cost.events for cost in costs]),
        "history_bytes_per_step": {
            str(point): int(middle([cost.size for cost in some])) for point, some in around.items()
        },
        "first_exec_ms": {name: middle(values) for name, values in first.items()},
        "n": {"steps": len(overheads), "first_exec": FIRST_RUNS},
        "machine": machine(),
    }
    rows = [
        ("figure", "median", "n"),
        ("engine overhead per step, ms", f"{figures['overhead_ms']}", str(len(overheads))),
        ("events per step, snapshot included", f"{figures['events_per_step']}", str(len(costs))),
        *(
            (f"history bytes of a step, at step {point}", f"{middle([cost.size for cost in some]):.0f}", str(len(some)))
            for point, some in around.items()
        ),
        *(
            (f"message to first exec, {name} agent, ms", f"{middle(times)}", str(FIRST_RUNS))
            for name, times in first.items()
        ),
    ]
    write("steps", figures, rows)


def main() -> None:
    """Entry point."""
    asyncio.run(measure())
