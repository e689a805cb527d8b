"""The worker of the OpenAI Agents SDK's sandbox agent on Temporal, as a process that can be killed.

Runs in an environment of its own (`requirements/peers.txt`); `benchmarks.bench_peer_faults` makes that and starts this.

One argument, a JSON object: temporal_address, temporal_namespace, task_queue, image, label (put on every container).
The workflow `PeerFaultAgent` takes a list of messages: each is a run of the agent, the next taking up the sandbox of
the one before, as the SDK's `session_state` allows. `OPENAI_BASE_URL`, `OPENAI_API_KEY` and `OPENAI_DEFAULT_MODEL`
name the model.
"""

import asyncio
import json
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from temporalio import workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    import docker
    from agents import RunConfig, Runner
    from agents.sandbox import SandboxAgent, SandboxRunConfig
    from agents.sandbox.sandboxes.docker import DockerSandboxClient, DockerSandboxClientOptions
    from agents.sandbox.snapshot import LocalSnapshotSpec
    from temporalio.openai_agents import ModelActivityParameters, OpenAIAgentsPlugin, SandboxClientProvider
    from temporalio.openai_agents.workflow import temporal_sandbox_client

BACKEND = "docker"
ACTIVITY_SECONDS = 45
"""What an activity may take. The default is five minutes, and a dead worker is noticed only then."""


@dataclass
class Job:
    """What is asked for."""

    messages: list[str]
    image: str
    label: str
    snapshots: str
    """A folder for the snapshots of the workspace."""


@workflow.defn
class PeerFaultAgent:
    """The turns of a sandbox agent, one after the other in one conversation."""

    @workflow.run
    async def run(self, job: Job) -> str:
        """Run the agent for each message; the answer to the last."""
        agent = SandboxAgent(name="Assistant", instructions="You work in a sandbox.")
        client = temporal_sandbox_client(
            BACKEND, config={"start_to_close_timeout": timedelta(seconds=ACTIVITY_SECONDS)}
        )
        fresh = {
            "options": DockerSandboxClientOptions(job.image, network_mode="none", labels={job.label: "peer"}),
            "snapshot": LocalSnapshotSpec(base_path=Path(job.snapshots)),
        }
        given: list = []
        sandbox = SandboxRunConfig(client=client, **fresh)
        answer = ""
        for message in job.messages:
            given = [*given, {"role": "user", "content": message}]
            result = await Runner.run(agent, given, max_turns=100, run_config=RunConfig(sandbox=sandbox))
            answer = str(result.final_output)
            given = result.to_input_list()
            # What its RunState carries; the state itself is not given out otherwise.
            payload = (result._sandbox_resume_state or {}).get("session_state")  # noqa: SLF001
            state = client.deserialize_session_state(payload)
            sandbox = SandboxRunConfig(client=client, session_state=state)
        return answer


async def main(settings: dict) -> None:
    """Work until killed."""
    plugin = OpenAIAgentsPlugin(
        model_params=ModelActivityParameters(
            start_to_close_timeout=timedelta(seconds=ACTIVITY_SECONDS), retry_policy=RetryPolicy()
        ),
        sandbox_clients=[SandboxClientProvider(BACKEND, DockerSandboxClient(docker.from_env()))],
    )
    client = await Client.connect(
        settings["temporal_address"], namespace=settings["temporal_namespace"], plugins=[plugin]
    )
    async with Worker(client, task_queue=settings["task_queue"], workflows=[PeerFaultAgent]):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
