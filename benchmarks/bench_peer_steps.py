"""A step of the nearest peer beside one of ours: same model server, Temporal server, Docker daemon, image and command.

Both engines are timed by the model's server: a step's overhead is the time from an answer to the next request, less the
command's own time, which is measured once and taken from both. So it holds what each engine's HTTP client takes as well.
A turn's cost is the time from a message to its answer when the model answers at once, less the model's time. Ours takes
snapshots meanwhile, the peer none during a turn. The engines take turns, so that both meet the machine in the same mood.
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

from benchmarks.model_clock import ModelCall, TimedModel, between
from benchmarks.peer_environment import peer_python
from benchmarks.report import extend, machine, middle
from deploy.setup.console import SetupError
from examples.scripted_model import Conversation, Reply, malformed, say, shell
from hibernaut import AgentClient, AgentSpec
from hibernaut.models.spec import DEFAULT_IMAGE
from workers.devstack.settings import Component, Ports
from workers.devstack.stack import DevStack
from workers.settings import Settings
from workers.worker import connect

STEPS = 30
ROUNDS = 2
POINTS = (10, STEPS)
AROUND = 3
"""Steps before a point and after it that its figure is the median of."""
COMMAND = "true"
PEER = "openai-agents 0.22.3 on temporalio-openai-agents 1.1.0, Docker sandbox"
PEER_SCRIPT = Path(__file__).parent / "peers" / "openai_agents_steps.py"
PEER_SECONDS = 300.0
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
    """What one engine took, over all rounds."""

    steps: list[float] = field(default_factory=list[float])
    """Milliseconds from an answer to the next request, the command's time included."""
    turns: list[float] = field(default_factory=list[float])
    """Seconds of a turn without steps, less the model's."""
    turn_events: list[int] = field(default_factory=list[int])


@dataclass(slots=True)
class PeerHistory:
    """What the peer left in its history, over all rounds."""

    events: list[int] = field(default_factory=list[int])
    sizes: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    """Bytes of the steps around each point."""


def _steps_left(conversation: Conversation) -> bool:
    return len(conversation.turn_calls) < int(conversation.last_user.split()[1])


def _ours(conversation: Conversation) -> Reply:
    return shell(COMMAND) if _steps_left(conversation) else say("done")


def _peers(conversation: Conversation) -> Reply:
    arguments = json.dumps({"cmd": COMMAND})
    return malformed(arguments, name="exec_command") if _steps_left(conversation) else say("done")


def _checked(calls: Sequence[ModelCall], steps: int) -> Sequence[ModelCall]:
    """The calls of a turn of so many steps; a retry among them would be counted as a step."""
    if len(calls) != steps + 1:
        raise RuntimeError(f"A turn of {steps} steps asked the model {len(calls)} times, not {steps + 1}.")
    return calls


async def _take_ours(client: AgentClient, temporal: Client, model: TimedModel, taken: Taken) -> None:
    agent = await client.start(f"peer-ours-{uuid4().hex[:8]}", AgentSpec(model=f"{model.model}:ours"))
    workflow = temporal.get_workflow_handle(agent.id)
    await agent.send(BURST, timeout=300)
    taken.steps += between(_checked(model.taken(), STEPS))
    before = (await workflow.describe()).history_length
    began = monotonic()
    await agent.send(NOTHING, timeout=60)
    seconds = monotonic() - began
    taken.turns.append(seconds - _checked(model.taken(), 0)[0].seconds)
    taken.turn_events.append((await workflow.describe()).history_length - before)
    await agent.close()


async def _take_peers(python: Path, stack: DevStack, model: TimedModel, taken: Taken, history: PeerHistory) -> None:
    burst = (await _run_peer(python, stack, model, BURST))["steps"]
    taken.steps += between(_checked(model.taken(), STEPS))
    history.events += [step["events"] for step in burst]
    for point in POINTS:
        around = burst[max(0, point - AROUND) : point + AROUND]
        history.sizes.setdefault(point, []).extend(step["size"] for step in around)
    turn = await _run_peer(python, stack, model, NOTHING)
    taken.turns.append(turn["seconds"] - _checked(model.taken(), 0)[0].seconds)
    taken.turn_events.append(turn["events"])


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
        "OPENAI_DEFAULT_MODEL": f"{model.model}:peer",
        # Its traces would go to a service on the internet.
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(python), str(PEER_SCRIPT), json.dumps(job), env={**os.environ, **settings}, stdout=pipe, stderr=pipe
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), PEER_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await asyncio.to_thread(_remove, label)
    if process.returncode != 0:
        raise RuntimeError(f"The peer ended with {process.returncode}: {err.decode(errors='replace')[-2000:]}")
    return json.loads(out)["runs"][0]


def _remove(label: str) -> None:
    """Remove what a peer that failed has left."""
    engine = docker.from_env()
    try:
        for container in engine.containers.list(all=True, filters={"label": label}):
            container.remove(force=True)
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


async def measure(python: Path) -> None:
    """Run both engines in turn and add the figures to `results/steps.json` and `results/steps.md`."""
    ours, peers, history = Taken(), Taken(), PeerHistory()
    command_ms = await asyncio.to_thread(_command_ms)
    with tempfile.TemporaryDirectory(prefix="hibernaut-bench-") as folder:
        async with TimedModel({"ours": _ours, "peer": _peers}) as model:
            settings = {"OPENAI_API_KEY": model.api_key, "OPENAI_BASE_URL": model.base_url}
            settings["HIBERNAUT_HOST_ID"] = f"bench-{uuid4().hex[:6]}"
            async with DevStack(Path(folder), ports=Ports.free(), components=set(Component), settings=settings) as stack:
                temporal = await connect(Settings.load({**stack.env, **settings}))
                client = AgentClient.over(
                    temporal,
                    gateway_url=stack.env.get("HIBERNAUT_GATEWAY_URL"),
                    gateway_token=stack.env.get("HIBERNAUT_GATEWAY_TOKEN"),
                )
                for _ in range(ROUNDS):
                    await _take_ours(client, temporal, model, ours)
                    await _take_peers(python, stack, model, peers, history)
    _report(ours, peers, history, command_ms)


def _report(ours: Taken, peers: Taken, history: PeerHistory, command_ms: float) -> None:
    mine, theirs = (middle([gap - command_ms for gap in taken.steps]) for taken in (ours, peers))
    our_turn, peer_turn = (round(median(taken.turns), 3) for taken in (ours, peers))
    our_events, peer_events = (middle(taken.turn_events) for taken in (ours, peers))
    sizes = {str(point): int(median(some)) for point, some in history.sizes.items()}
    ratio = round(mine / theirs, 2)
    figures = {
        "peer": {
            "name": PEER,
            "overhead_ms": theirs,
            "events_per_step": middle(history.events),
            "history_bytes_per_step": sizes,
            "turn": {"seconds": peer_turn, "events": peer_events},
            "ours": {"overhead_ms": mine, "turn": {"seconds": our_turn, "events": our_events}},
            "command_ms": round(command_ms, 1),
            "n": {"steps": len(peers.steps), "turns": len(peers.turns)},
            "machine": machine(),
        },
        "ratio_overhead": ratio,
    }
    steps, turns = str(len(peers.steps)), str(len(peers.turns))
    rows = [
        ("side by side, by the model's clock: overhead per step, ms: ours", f"{mine}", steps),
        (f"the same: peer ({PEER})", f"{theirs}", steps),
        ("the same: ours / peer", f"{ratio}", steps),
        ("peer: events per step, no snapshot among them", f"{middle(history.events)}", steps),
        *(
            (f"peer: history bytes of a step, at step {point}", str(sizes[str(point)]), str(len(some)))
            for point, some in history.sizes.items()
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
