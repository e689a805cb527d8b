"""With keys, nothing that an agent said or did is readable in Temporal; who has them reads it as before."""

import asyncio
import base64
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.message import Message
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import (
    DescribeScheduleRequest,
    DescribeWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest,
)
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer

from examples.scripted_model import CallSpec, calls, http_error, say, shell
from hibernaut import AgentClient
from hibernaut._keyring import line
from hibernaut._live import live_output
from hibernaut._temporal import Workflows
from hibernaut.agent import AgentHandle
from hibernaut.codec import ENCODING, VARIABLE, PayloadSealed
from hibernaut.contracts.schedules import schedule_id
from hibernaut.tools import function_tool, tool_worker
from tests.integration.conftest import Lab, LabFactory
from tests.integration.tenants import environment, tenant
from tests.support.payloads import payloads
from tests.support.scripted_agents import TEMPORAL
from workers.devstack.settings import free_ports
from workers.devstack.stack import DevStack
from workers.registry import WORKFLOWS, workflow_runner
from workers.settings import CHECKOUT, Settings
from workers.worker import connect

KEY, NEXT = line("first", bytes(range(32))), line("second", bytes(range(32, 64)))
SECRET = "canary-5f1c"
WAITING = f"echo {SECRET}-live; until [ -e /root/go ]; do sleep 0.1; done"


@function_tool(task_queue="sealed-tools")
def fail(word: str) -> str:
    """Fail with a word."""
    raise ApplicationError(f"{SECRET}-failure {word}", {"detail": f"{SECRET}-detail"}, type="Failed")


@pytest.fixture
async def env(stack: DevStack, tmp_path: Path) -> dict[str, str]:
    return await environment(stack, tmp_path, "sealed", HIBERNAUT_PAYLOAD_KEYS=KEY)


@pytest.fixture
async def sealed(env: dict[str, str]) -> AsyncIterator[LabFactory]:
    async with tenant(env) as labs:
        yield labs


async def raw_runs(client: Client, workflow_id: str) -> list[Message]:
    """All that Temporal has of a workflow, as it has it: every event of every run, and its description."""
    found: list[Message] = []
    async for run in client.list_workflows(f"WorkflowId = '{workflow_id}'"):
        execution = WorkflowExecution(workflow_id=run.id, run_id=run.run_id)
        token = b""
        while True:
            asked = GetWorkflowExecutionHistoryRequest(
                namespace=client.namespace, execution=execution, next_page_token=token
            )
            page = await client.workflow_service.get_workflow_execution_history(asked)
            found.append(page.history)
            token = page.next_page_token
            if not token:
                break
        described = DescribeWorkflowExecutionRequest(namespace=client.namespace, execution=execution)
        found.append(await client.workflow_service.describe_workflow_execution(described))
    return found


def is_sealed(*messages: Message) -> bool:
    """Whether there are payloads, each of them is sealed, and nothing beside them says a secret."""
    found = [payload for message in messages for payload in payloads(message)]
    for message in messages:
        assert SECRET.encode() not in message.SerializeToString(), str(message)
    assert {payload.metadata["encoding"] for payload in found} <= {ENCODING}
    return bool(found)


def let_go(it: Lab, sandbox_id: str) -> None:
    probe = it.daemon.api.exec_create(sandbox_id, ["touch", "/root/go"])["Id"]
    list(it.daemon.frames(probe))


async def _run(it: Lab) -> AgentHandle:
    """An agent in whose life there is something secret at every place."""
    agent = await it.client.start(
        f"agent-{uuid4().hex[:8]}",
        {
            "model": it.model.model,
            "instructions": f"{SECRET}-instructions",
            "functions": [fail.spec.model_dump(mode="json")],
            "idle_timeout": 300,
        },
        memo={"note": f"{SECRET}-memo"},
    )
    ticket = await agent.post(f"{SECRET}-message")
    workflows = Workflows(it.temporal)
    while f"{SECRET}-live" not in str(await live_output(workflows, agent.id)):
        await asyncio.sleep(0.1)
    lease = (await agent.status()).lease
    assert lease is not None
    assert is_sealed(*await raw_runs(it.temporal, agent.id))
    let_go(it, lease.sandbox_id)
    assert (await agent.wait(ticket.message_id, timeout=60)).text == f"{SECRET}-answer"
    return agent


@pytest.mark.slow
async def test_nothing_is_readable_in_temporal(sealed: LabFactory, env: dict[str, str]) -> None:
    script = [
        shell(WAITING),
        calls([CallSpec(name="fail", arguments=json.dumps({"word": f"{SECRET}-argument"}))]),
        http_error(503, body={"error": {"message": f"{SECRET}-provider"}}),
        say(f"{SECRET}-answer"),
    ]
    async with sealed(script) as it, tool_worker(it.temporal, [fail]):
        agent = await _run(it)
        failed = await it.temporal.get_workflow_handle(agent.id).fetch_history()
        kinds = [event.event_type for event in failed.events]
        assert EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED in kinds
        await agent.hibernate(timeout=60)
        name = f"nightly-{uuid4().hex[:6]}"
        schedule = await it.client.schedules.create(
            name, cron="0 4 1 1 *", agent=agent.id, message=f"{SECRET}-nightly", note="Every night."
        )
        asked = DescribeScheduleRequest(namespace=it.temporal.namespace, schedule_id=schedule_id(name))
        assert is_sealed(await it.temporal.workflow_service.describe_schedule(asked))
        await schedule.update(message=f"{SECRET}-other")
        assert is_sealed(await it.temporal.workflow_service.describe_schedule(asked))
        assert (await schedule.describe()).message == f"{SECRET}-other"
        await schedule.delete()
        assert is_sealed(*await raw_runs(it.temporal, agent.id))

        replayer = Replayer(
            workflows=list(WORKFLOWS),
            namespace=it.temporal.namespace,
            data_converter=it.settings.connection.data_converter,
            workflow_runner=workflow_runner(),
        )
        await replayer.replay_workflow(failed)

        blind = await connect(Settings.load({**env, VARIABLE: ""}))
        with pytest.raises(PayloadSealed, match="no key is"):
            await AgentClient.over(blind).get(agent.id).status()
        command = await asyncio.to_thread(_hibernaut, env, agent.id)
        assert command.returncode == 0
        blinded = await asyncio.to_thread(_hibernaut, {**env, VARIABLE: ""}, agent.id)
        assert blinded.returncode == 1
        assert "HIBERNAUT_PAYLOAD_KEYS_FILE" in blinded.stderr
        begun = failed.events[0].workflow_execution_started_event_attributes
        await _shown_by_temporals_own_command(env, agent, begun.original_execution_run_id)
        await agent.close()


def _hibernaut(env: dict[str, str], agent_id: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "hibernaut", "status", agent_id]
    return subprocess.run(argv, env=env, cwd=CHECKOUT, capture_output=True, text=True, check=False)


async def _shown_by_temporals_own_command(env: dict[str, str], agent: AgentHandle, run_id: str) -> None:
    (port,) = free_ports(1)
    served = {**env, "HIBERNAUT_CODEC_TOKEN": "s3cret", "HIBERNAUT_CODEC_LISTEN": f"127.0.0.1:{port}"}
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers.codec"), env=served, cwd=CHECKOUT, stderr=pipe
    )
    try:
        assert server.stderr is not None
        while b"listens" not in (said := await server.stderr.readline()):
            assert said, "the codec server did not start"
        shown = [await _show(env, agent, run_id, port, token) for token in ("s3cret", "wrong")]
        asked = await _temporal(env, agent, port, "s3cret", "query", "--type", "events", "--input", "0")
    finally:
        if server.returncode is None:
            server.terminate()
        await server.wait()
    assert f"{SECRET}-message" in shown[0]
    assert SECRET not in shown[1]
    assert "first_held" in asked


async def _show(env: dict[str, str], agent: AgentHandle, run_id: str, port: int, token: str) -> str:
    return await _temporal(env, agent, port, token, "show", "--run-id", run_id, "--output", "json")


async def _temporal(env: dict[str, str], agent: AgentHandle, port: int, token: str, *what: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(str(TEMPORAL), "workflow", *what, "--workflow-id", agent.id),
        *("--address", env["TEMPORAL_ADDRESS"], "--namespace", env["TEMPORAL_NAMESPACE"]),
        *("--codec-endpoint", f"http://127.0.0.1:{port}", "--codec-auth", f"Bearer {token}"),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    # In JSON it shows payloads in base64.
    found = re.findall(rb'"data": "([^"]*)"', said)
    return b"\n".join([said, *(base64.b64decode(one) for one in found)]).decode(errors="replace")


@pytest.mark.slow
async def test_keys_come_and_change_in_the_middle_of_a_life(stack: DevStack, tmp_path: Path) -> None:
    env = await environment(stack, tmp_path, "rolled")
    names: list[str] = []
    rings: list[dict[str, str]] = [{}, {VARIABLE: KEY}, {VARIABLE: f"{NEXT},{KEY}"}]
    for place, ring in enumerate(rings):
        async with (
            tenant(env | ring, ending=place == len(rings) - 1) as labs,
            labs([say(f"{SECRET}-{one}") for one in range(place + 1)]) as it,
        ):
            if not names:
                names.append((await it.start()).id)
            agent = it.client.get(names[0])
            reply = await agent.send("go", timeout=60)
            assert reply.text == f"{SECRET}-{place}"
            if place < len(rings) - 1:
                continue
            history = await it.temporal.get_workflow_handle(agent.id).fetch_history()
            found = {payload.metadata["encoding"] for event in history.events for payload in payloads(event)}
            assert ENCODING in found
            assert len(found) > 1
            used: set[Any] = {
                payload.metadata["encryption-key-id"].decode()
                for event in history.events
                for payload in payloads(event)
                if payload.metadata["encoding"] == ENCODING
            }
            assert used == set(it.settings.connection.payload_keys.names)
            await agent.close()
