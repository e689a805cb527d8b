"""Payloads that a worker cannot open: what is asked with them is refused, what must not get lost waits for the key."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from hibernaut import AgentClient, contracts as c
from hibernaut._keyring import NamedKey
from hibernaut.agent import AgentHandle
from hibernaut.codec import ENCODING, KEY_ID, PayloadKeys, PayloadSealed, data_converter
from hibernaut.errors import RequestRejected
from hibernaut.models import SendRequest
from tests.support.scripted_agents import Script
from workers.registry import WORKFLOWS
from workers.settings import Settings
from workers.unopened import passing_on
from workers.versioning import versioning

ONE, TWO = NamedKey("one", bytes(range(32))), NamedKey("two", bytes(range(32, 64)))
WORKERS, BOTH, OTHER = PayloadKeys([ONE]), PayloadKeys([TWO, ONE]), PayloadKeys([TWO])


def client(server: WorkflowEnvironment, keys: PayloadKeys) -> Client:
    config = server.client.config()
    config["data_converter"] = data_converter(keys, server.client.namespace)
    return Client(**config)


@asynccontextmanager
async def worker(server: WorkflowEnvironment, keys: PayloadKeys) -> AsyncGenerator[None]:
    script, ours = Script(), client(server, keys)
    agents = Worker(
        passing_on(ours),
        task_queue=c.TASK_QUEUE,
        workflows=list(WORKFLOWS),
        activities=script.activities(),
        **versioning(Settings.load({"HIBERNAUT_STORE": "file:///tmp/store"})),
    )
    async with agents, Worker(ours, task_queue=c.PLACEMENT_QUEUE, activities=[script.choose]):
        yield


async def start(server: WorkflowEnvironment) -> AgentHandle:
    agents = AgentClient.over(client(server, WORKERS))
    return await agents.start(f"agent-{uuid4().hex[:8]}", {"model": "scripted", "idle_timeout": 300})


async def answered(agent: AgentHandle) -> bool:
    return bool((await agent.send("are you there?", timeout=60)).text)


async def test_a_request_with_a_key_that_no_worker_has_is_refused_and_harms_nobody(
    server: WorkflowEnvironment,
) -> None:
    async with worker(server, WORKERS):
        agent = await start(server)
        assert await answered(agent)
        with pytest.raises(RequestRejected, match="is sealed with the key") as caught:
            await AgentClient.over(client(server, BOTH)).get(agent.id).post("hello")
        assert (caught.value.reason_code, "HIBERNAUT_PAYLOAD_KEYS_FILE" in str(caught.value)) == ("PayloadSealed", True)
        with pytest.raises(RequestRejected, match="is sealed with the key"):
            await AgentClient.over(client(server, BOTH)).get(agent.id).wait("hello", timeout=10)
        with pytest.raises(PayloadSealed):
            await AgentClient.over(client(server, OTHER)).get(agent.id).post("hello")
        assert await answered(agent)
        await agent.close()


async def test_garbage_that_says_it_is_sealed_is_refused(server: WorkflowEnvironment) -> None:
    async with worker(server, WORKERS):
        agent = await start(server)
        key = str(WORKERS.first).encode()
        for data in (b"", b"x" * 40):
            garbage = RawValue(Payload(metadata={"encoding": ENCODING, KEY_ID: key}, data=data))
            handle = client(server, PayloadKeys(())).get_workflow_handle(agent.id)
            with pytest.raises(PayloadSealed):
                await handle.execute_update("send", garbage)
            with pytest.raises(WorkflowUpdateFailedError) as caught:
                await server.client.get_workflow_handle(agent.id).execute_update("send", garbage)
            cause = caught.value.cause
            assert isinstance(cause, ApplicationError)
            assert cause.type == "PayloadDamaged"
        assert await answered(agent)
        await agent.close()


@pytest.mark.slow
async def test_what_is_in_the_history_waits_for_the_key(server: WorkflowEnvironment) -> None:
    async with worker(server, WORKERS):
        agent = await start(server)
        assert await answered(agent)
        raw = client(server, BOTH).get_workflow_handle(agent.id)
        await raw.signal("send", SendRequest(text="in the history", message_id="kept"))
        while not await _failed(client(server, BOTH), agent.id):
            await asyncio.sleep(0.1)
    async with worker(server, BOTH):
        again = AgentClient.over(client(server, BOTH)).get(agent.id)
        assert (await again.wait("kept", timeout=60)).text
        await again.close()


async def _failed(client: Client, agent_id: str) -> bool:
    history = await client.get_workflow_handle(agent_id).fetch_history()
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            info = event.workflow_task_failed_event_attributes.failure.application_failure_info
            return info.type == "PayloadSealed"
    return False
