"""Runs the OpenAI Agents SDK's sandbox agent on Temporal as its README does, and prints what each step left behind.

Runs in an environment of its own (`requirements/peers.txt`); `benchmarks.bench_peer_steps` makes that and starts this.
The worker is in this process. The time of a step is not taken here but by the model's server, as it is for our engine.

One argument, a JSON object: temporal_address, temporal_namespace, image, label (put on every container) and messages:
each is a run of the agent, one after the other. `OPENAI_BASE_URL`, `OPENAI_API_KEY` and `OPENAI_DEFAULT_MODEL` name
the model. Prints one JSON object: runs, each with answer, seconds (start to result), events (of the whole history) and
steps, each with its events, its history bytes and its activities.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from uuid import uuid4

from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    import docker
    from agents import RunConfig, Runner
    from agents.sandbox import SandboxAgent, SandboxRunConfig
    from agents.sandbox.sandboxes.docker import DockerSandboxClient, DockerSandboxClientOptions
    from temporalio.openai_agents import ModelActivityParameters, OpenAIAgentsPlugin, SandboxClientProvider
    from temporalio.openai_agents.workflow import temporal_sandbox_client

BACKEND = "docker"
MODEL_ACTIVITY = "invoke_model_activity"
MAX_TURNS = 1000
"""Its name for what we call steps; its default of 10 ends a run early."""


@dataclass
class Job:
    """What one run is asked to do."""

    message: str
    image: str
    label: str


@dataclass
class Step:
    """What one step left in the history."""

    events: int = 0
    size: int = 0
    """Bytes."""
    activities: list[str] = field(default_factory=list)


@dataclass
class Run:
    """What came of one message."""

    answer: str
    seconds: float
    events: int
    steps: list[Step]


@workflow.defn
class PeerAgent:
    """One user turn of a sandbox agent."""

    @workflow.run
    async def run(self, job: Job) -> str:
        """Run the agent until it answers."""
        agent = SandboxAgent(name="Assistant", instructions="You work in a sandbox.")
        options = DockerSandboxClientOptions(job.image, network_mode="none", labels={job.label: "peer"})
        sandbox = SandboxRunConfig(client=temporal_sandbox_client(BACKEND), options=options)
        result = await Runner.run(agent, job.message, max_turns=MAX_TURNS, run_config=RunConfig(sandbox=sandbox))
        return str(result.final_output)


async def cut(handle: WorkflowHandle) -> tuple[int, list[Step]]:
    """The number of events, and the steps: the history cut at each scheduled model call, the answer's left out."""
    steps = [Step()]
    total = 0
    async for event in handle.fetch_history_events():
        total += 1
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            name = event.activity_task_scheduled_event_attributes.activity_type.name
            if name == MODEL_ACTIVITY:
                steps.append(Step())
            steps[-1].activities.append(name)
        steps[-1].events += 1
        steps[-1].size += event.ByteSize()
    return total, steps[1:-1]


async def measure(settings: dict) -> dict:
    """Run every message and look at the histories."""
    plugin = OpenAIAgentsPlugin(
        model_params=ModelActivityParameters(start_to_close_timeout=timedelta(seconds=60)),
        sandbox_clients=[SandboxClientProvider(BACKEND, DockerSandboxClient(docker.from_env()))],
    )
    client = await Client.connect(
        settings["temporal_address"], namespace=settings["temporal_namespace"], plugins=[plugin]
    )
    queue = f"peer-{uuid4().hex[:8]}"
    runs: list[Run] = []
    async with Worker(client, task_queue=queue, workflows=[PeerAgent]):
        for message in settings["messages"]:
            began = time.monotonic()
            handle = await client.start_workflow(
                PeerAgent.run,
                Job(message, settings["image"], settings["label"]),
                id=f"{queue}-{len(runs)}",
                task_queue=queue,
                execution_timeout=timedelta(minutes=10),
            )
            answer = await handle.result()
            seconds = time.monotonic() - began
            runs.append(Run(answer, seconds, *await cut(handle)))
    return {"runs": [asdict(run) for run in runs]}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(json.loads(sys.argv[1])))))
