"""A step of the nearest peer beside one of ours: same Temporal and Docker daemon, image, command and scripted model.

Both engines are timed by the model's server: a step's overhead is the time from an answer to the next request, less
the command's own time, which is measured once and taken from both. So it holds what each engine's HTTP client takes
as well. The engines work in turn, a step each, so that both meet the machine in the same mood; while one works, the
other waits for its model. Our steps take a snapshot each, while the model thinks; the peer's take none.
A turn's cost is the time from a message to its answer when the model answers at once, less the model's time.
"""

import asyncio
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any
from uuid import uuid4

import docker
from temporalio.client import Client

from benchmarks.model_clock import Alternation, ModelCall, TimedModel, between
from benchmarks.peer_environment import peer_python
from benchmarks.report import extend, machine, middle
from deploy.setup.console import SetupError
from examples.scripted_model import CallSpec, Conversation, Reply, calls, say, shell
from hibernaut import AgentClient, AgentSpec
from hibernaut.models.spec import DEFAULT_IMAGE
from workers.devstack.settings import Ports
from workers.devstack.stack import DevStack
from workers.settings import Settings
from workers.worker import connect

STEPS = 40
TURNS = 2
PAUSE = 0.3
"""Seconds that a model thinks at least."""
POINTS = (10, STEPS)
AROUND = 3
"""Steps before a point and after it that its figure is the median of."""
COMMAND = "true"
PEER = "openai-agents 0.22.3 on temporalio-openai-agents 1.1.0, Docker sandbox"
PEER_SCRIPT = Path(__file__).parent / "peers" / "openai_agents_steps.py"
PATIENCE = 300.0
"""Seconds for one turn of either engine."""
BURST, NOTHING = f"take {STEPS} steps", "take 0 steps"
TIME_COMMAND = f"""
import statistics, subprocess, time
times = []
for _ in range(50):
    began = time.monotonic()
    subprocess.run(["sh", "-c", "{COMMAND}"], check=True)
    times.append(time.monotonic() - began)
print(statistics.median(times) * 1000)
"""


@dataclass(slots=True)
class Taken:
    """What one engine took."""

    steps: list[float] = field(default_factory=list[float])
    """Milliseconds from an answer to the next request, the command's time included."""
    turns: list[float] = field(default_factory=list[float])
    """Seconds of a turn without steps, less the model's."""
    turn_events: list[int] = field(default_factory=list[int])


def _steps_left(conversation: Conversation) -> bool:
    return len(conversation.turn_calls) < int(conversation.last_user.split()[1])


def _ours(conversation: Conversation) -> Reply:
    return shell(COMMAND) if _steps_left(conversation) else say("done")


def _peers(conversation: Conversation) -> Reply:
    call = CallSpec(name="exec_command", arguments=json.dumps({"cmd": COMMAND}))
    return calls([call]) if _steps_left(conversation) else say("done")


def _checked(asked: Sequence[ModelCall], steps: int) -> Sequence[ModelCall]:
    """The calls of a turn of so many steps; a retry among them would be counted as a step."""
    if len(asked) != steps + 1:
        raise RuntimeError(f"A turn of {steps} steps asked the model {len(asked)} times, not {steps + 1}.")
    return asked


class _Ours:
    """Our engine: one agent."""

    def __init__(self, client: AgentClient, temporal: Client, model: TimedModel) -> None:
        self.taken = Taken()
        self._client = client
        self._temporal = temporal
        self._model = model
        self.agent_id = f"beside-peer-{uuid4().hex[:8]}"

    async def burst(self, alternation: Alternation) -> None:
        """A turn of many steps, in turn with the other."""
        try:
            agent = await self._client.start(self.agent_id, AgentSpec(model=self._model.model))
            await agent.send(BURST, timeout=PATIENCE)
        finally:
            alternation.leave("ours")
        self.taken.steps += between(_checked(self._model.taken(), STEPS))

    async def turn(self) -> None:
        """A turn without steps; the agent's computer runs."""
        agent, workflow = self._client.get(self.agent_id), self._temporal.get_workflow_handle(self.agent_id)
        before = (await workflow.describe()).history_length
        began = monotonic()
        await agent.send(NOTHING, timeout=PATIENCE)
        seconds = monotonic() - began
        self.taken.turns.append(seconds - _checked(self._model.taken(), 0)[0].seconds)
        self.taken.turn_events.append((await workflow.describe()).history_length - before)

    async def close(self) -> None:
        """Give the computer up."""
        await self._client.get(self.agent_id).close()


class _Peer:
    """The peer: a process for each turn."""

    def __init__(self, python: Path, stack: DevStack, model: TimedModel) -> None:
        self.taken = Taken()
        self.history: list[dict[str, Any]] = []
        """What each step left: events and size in bytes."""
        self._python = python
        self._stack = stack
        self._model = model

    async def burst(self, alternation: Alternation) -> None:
        """A turn of many steps, in turn with the other."""
        try:
            run = await _run_peer(self._python, self._stack, self._model, BURST)
        finally:
            alternation.leave("peer")
        self.taken.steps += between(_checked(self._model.taken(), STEPS))
        self.history += run["steps"]

    async def turn(self) -> None:
        """A turn without steps."""
        run = await _run_peer(self._python, self._stack, self._model, NOTHING)
        self.taken.turns.append(run["seconds"] - _checked(self._model.taken(), 0)[0].seconds)
        self.taken.turn_events.append(run["events"])


async def _run_peer(python: Path, stack: DevStack, model: TimedModel, message: str) -> dict[str, Any]:
    """One turn of the peer, in a process of its own that leaves no container behind."""
    label = f"hibernaut.benchmark.{uuid4().hex[:8]}"
    job = {
        "temporal_address": stack.temporal_address,
        "temporal_namespace": stack.namespace,
        "image": DEFAULT_IMAGE,
        "label": label,
        "messages": [message],
    }
    settings = {
        "OPENAI_API_KEY": model.api_key,
        "OPENAI_BASE_URL": model.base_url,
        "OPENAI_DEFAULT_MODEL": model.model,
        # Its traces would go to a service on the internet.
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(python), str(PEER_SCRIPT), json.dumps(job), env={**os.environ, **settings}, stdout=pipe, stderr=pipe
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await asyncio.to_thread(_remove, label)
    if process.returncode != 0:
        raise RuntimeError(f"The peer ended with {process.returncode}: {err.decode(errors='replace')[-2000:]}")
    return json.loads(out)["runs"][0]


def _remove(label: str) -> None:
    """Remove what an engine that failed has left."""
    engine = docker.from_env()
    try:
        for container in engine.containers.list(all=True, filters={"label": label}):
            container.remove(force=True, v=True)
    finally:
        engine.close()


def _command_ms() -> float:
    """The command's own time in the sandbox's image, with the shell that it needs and without any engine."""
    engine = docker.from_env()
    try:
        command = ["python3", "-c", TIME_COMMAND]
        return float(engine.containers.run(DEFAULT_IMAGE, command, remove=True, network_mode="none"))
    finally:
        engine.close()


async def _run_both(ours: _Ours, peer: _Peer, alternation: Alternation) -> None:
    alternation.join("ours", "peer")
    async with asyncio.TaskGroup() as both:
        both.create_task(ours.burst(alternation))
        both.create_task(peer.burst(alternation))
    for _ in range(TURNS):
        await ours.turn()
        await peer.turn()
    await ours.close()


async def measure(python: Path) -> None:
    """Run both engines and add the figures to `results/steps.json` and `results/steps.md`."""
    command_ms = await asyncio.to_thread(_command_ms)
    alternation = Alternation(PAUSE)
    with tempfile.TemporaryDirectory(prefix="hibernaut-bench-") as folder:
        async with (
            TimedModel(_ours, engine="ours", alternation=alternation) as our_model,
            TimedModel(_peers, engine="peer", alternation=alternation) as peer_model,
        ):
            settings = {
                "OPENAI_API_KEY": our_model.api_key,
                "OPENAI_BASE_URL": our_model.base_url,
                "HIBERNAUT_HOST_ID": f"bench-{uuid4().hex[:6]}",
            }
            async with DevStack(Path(folder), ports=Ports.free(), settings=settings) as stack:
                temporal = await connect(Settings.load({**stack.env, **settings}))
                client = AgentClient.over(
                    temporal,
                    gateway_url=stack.env.get("HIBERNAUT_GATEWAY_URL"),
                    gateway_token=stack.env.get("HIBERNAUT_GATEWAY_TOKEN"),
                )
                ours, peer = _Ours(client, temporal, our_model), _Peer(python, stack, peer_model)
                try:
                    await _run_both(ours, peer, alternation)
                finally:
                    await asyncio.to_thread(_remove, f"hibernaut.agent={ours.agent_id}")
    _report(ours.taken, peer.taken, peer.history, command_ms)


def _report(ours: Taken, peer: Taken, history: Sequence[dict[str, Any]], command_ms: float) -> None:
    mine, theirs = (middle([gap - command_ms for gap in taken.steps]) for taken in (ours, peer))
    our_turn, peer_turn = (round(median(taken.turns), 3) for taken in (ours, peer))
    our_events, peer_events = (middle(taken.turn_events) for taken in (ours, peer))
    events = middle([step["events"] for step in history])
    around = {point: history[max(0, point - AROUND) : point + AROUND] for point in POINTS}
    sizes = {str(point): int(median(step["size"] for step in some)) for point, some in around.items()}
    ratio = round(mine / theirs, 2)
    figures = {
        "peer": {
            "name": PEER,
            "overhead_ms": theirs,
            "events_per_step": events,
            "history_bytes_per_step": sizes,
            "turn": {"seconds": peer_turn, "events": peer_events},
            "ours": {"overhead_ms": mine, "turn": {"seconds": our_turn, "events": our_events}},
            "command_ms": round(command_ms, 1),
            "n": {"steps": len(peer.steps), "turns": len(peer.turns)},
            "machine": machine(),
        },
        "ratio_overhead": ratio,
    }
    steps, turns = str(len(peer.steps)), str(len(peer.turns))
    rows = [
        ("side by side, by the model's clock: overhead per step, ms: ours", f"{mine}", steps),
        (f"the same: peer ({PEER})", f"{theirs}", steps),
        ("the same: ours / peer", f"{ratio}", steps),
        ("peer: events per step, no snapshot among them", f"{events}", steps),
        *(
            (f"peer: history bytes of a step, at step {point}", str(sizes[str(point)]), str(len(some)))
            for point, some in around.items()
        ),
        ("a turn without steps on a running agent, s (events): ours", f"{our_turn} ({our_events:.0f})", turns),
        ("a turn without steps, s (events): peer", f"{peer_turn} ({peer_events:.0f})", turns),
    ]
    extend("steps", figures, rows)


def main() -> None:
    """Entry point; where the peer cannot be installed, the results say so."""
    try:
        python = peer_python()
    except SetupError as error:
        extend("steps", {"peer": {"name": PEER, "not_measured": str(error)}}, [(f"peer ({PEER})", "not measured", "0")])
        return
    asyncio.run(measure(python))
