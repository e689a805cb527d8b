"""What the snapshot after every call costs a step: it is taken while the model thinks.

An agent writes a file of 1 MiB and changes 20 small ones in each step; the model takes a while to answer. Measured from
the workflow's history: how long each snapshot took, and how long the next call's command had to wait for it after the
model's reply was there. Snapshot and model call in sequence would have cost the snapshot's whole duration.
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

from benchmarks.bench_steps import history_of
from benchmarks.report import machine, middle, write
from examples.scripted_model import Conversation, Reply, ScriptedModel, say, shell
from hibernaut import AgentClient, AgentSpec
from workers.devstack.settings import Component, Ports
from workers.devstack.stack import DevStack
from workers.settings import Settings
from workers.worker import connect

STEPS = 60
THINKING_S = 0.5
"""A fast model's time to a tool call."""
WORK = (
    "head -c 1048576 /dev/urandom > /root/data; "
    "for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do date > /root/small.$i; done"
)


def _script(conversation: Conversation) -> Reply:
    time.sleep(THINKING_S)
    return shell(WORK) if len(conversation.calls) < STEPS else say("done")


@dataclass(frozen=True, slots=True)
class Span:
    """One activity, in seconds of the server's clock."""

    name: str
    scheduled: float
    closed: float


def _spans(history: Sequence[HistoryEvent]) -> list[Span]:
    begun: dict[int, tuple[str, float]] = {}
    spans: list[Span] = []
    for event in history:
        at = event.event_time.ToMicroseconds() / 1e6
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            begun[event.event_id] = (event.activity_task_scheduled_event_attributes.activity_type.name, at)
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            name, scheduled = begun[event.activity_task_completed_event_attributes.scheduled_event_id]
            spans.append(Span(name, scheduled, at))
    return sorted(spans, key=lambda span: span.scheduled)


def _waits(spans: Sequence[Span]) -> list[float]:
    """Milliseconds from each model reply to the exec it asked for."""
    waits: list[float] = []
    replied: float | None = None
    for span in spans:
        if span.name == "model.call":
            replied = span.closed
        elif span.name == "shell.exec" and replied is not None:
            waits.append((span.scheduled - replied) * 1000)
            replied = None
    # The first call of a turn waits for its container, not for a snapshot.
    return waits[1:]


async def measure() -> None:
    """Run, and write `results/overlap.json` and `results/overlap.md`."""
    with tempfile.TemporaryDirectory(prefix="hibernaut-bench-") as folder:
        async with ScriptedModel(_script) as model:
            settings = {
                "OPENAI_API_KEY": model.api_key,
                "OPENAI_BASE_URL": model.base_url,
                "HIBERNAUT_HOST_ID": f"bench-{uuid4().hex[:6]}",
            }
            parts = {Component.TEMPORAL, Component.STORE, Component.WORKER}
            async with DevStack(Path(folder), ports=Ports.free(), components=parts, settings=settings) as stack:
                temporal = await connect(Settings.load({**stack.env, **settings}))
                client = AgentClient.over(temporal)
                agent = await client.start("bench-overlap", AgentSpec(model=model.model, max_steps=STEPS + 10))
                await agent.send("go", timeout=600)
                await agent.close()
                spans = _spans(await history_of(temporal, "bench-overlap"))
    taken = [(span.closed - span.scheduled) * 1000 for span in spans if span.name == "snapshot.take"]
    waits = _waits(spans)
    figures = {
        "snapshot_ms": middle(taken),
        "wait_ms": middle(waits),
        "wait_ms_longest": round(max(waits), 1),
        "ratio_wait": round(middle(waits) / middle(taken), 3),
        "model_ms": THINKING_S * 1000,
        "n": {"steps": len(waits), "snapshots": len(taken)},
        "machine": machine(),
    }
    rows = [
        ("figure", "median", "n"),
        ("a snapshot of 1 MiB and 20 small files, activity and all, ms", f"{middle(taken)}", str(len(taken))),
        ("reply to the next command's start, ms (workflow task included)", f"{middle(waits)}", str(len(waits))),
        ("the same over the snapshot's time: what in sequence would be over 1", f"{figures['ratio_wait']}", ""),
    ]
    write("overlap", figures, rows)


def main() -> None:
    """Entry point."""
    asyncio.run(measure())
