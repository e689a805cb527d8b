"""A time-skipping Temporal server and a worker whose activities are the scripted world."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from hibernaut import contracts as c
from hibernaut.models import AgentStatus, Answer, AnswerState, SendRequest, Ticket
from tests.support.scripted_agents import temporal_server
from tests.support.skipping import let_pass, time_skipping
from tests.workflows.world import HOST, World
from workers.registry import WORKFLOWS, workflow_runner

SEARCH_ATTRIBUTES: tuple[SearchAttributeKey[Any], ...] = (
    SearchAttributeKey.for_keyword("HibernautState"),
    SearchAttributeKey.for_keyword("HibernautHost"),
    SearchAttributeKey.for_keyword("HibernautModel"),
    SearchAttributeKey.for_int("HibernautSteps"),
    SearchAttributeKey.for_int("HibernautRecoveries"),
)
ResultT = TypeVar("ResultT")


@pytest.fixture
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    async with time_skipping() as environment:
        await environment.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=environment.client.namespace,
                search_attributes={
                    key.name: IndexedValueType.ValueType(key.indexed_value_type) for key in SEARCH_ATTRIBUTES
                },
            )
        )
        yield environment


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[WorkflowEnvironment]:
    """A development server, which has all that the time-skipping one lacks."""
    async with temporal_server() as environment:
        yield environment


@dataclass
class Rig:
    """A world and the client to talk to the agents in it."""

    environment: WorkflowEnvironment
    world: World
    task_queue: str = c.TASK_QUEUE

    @property
    def client(self) -> Client:
        return self.environment.client

    async def start(self, **spec: object) -> WorkflowHandle[Any, Any]:
        body = {"model": "scripted", "idle_timeout": 600, **spec}
        return await self.client.start_workflow(
            c.AGENT_WORKFLOW, body, id=f"agent-{uuid4().hex[:8]}", task_queue=c.TASK_QUEUE
        )

    async def send(self, agent: WorkflowHandle[Any, Any], text: str, message_id: str | None = None) -> Ticket:
        handle = self.client.get_workflow_handle(agent.id)
        return await handle.execute_update("send", SendRequest(text=text, message_id=message_id), result_type=Ticket)

    async def answer(self, agent: WorkflowHandle[Any, Any], message_id: str) -> Answer:
        """Wait for the end of the turn that answers a message."""
        answer = None
        for _ in range(3000):
            answer = await self.query(agent, "answer", message_id, result_type=Answer)
            if answer.state not in {AnswerState.QUEUED, AnswerState.RUNNING}:
                return answer
            await asyncio.sleep(0.02)
        raise AssertionError(f"no answer: {answer}")

    async def ask(self, agent: WorkflowHandle[Any, Any], text: str) -> Answer:
        ticket = await self.send(agent, text)
        return await self.answer(agent, ticket.message_id)

    async def status(self, agent: WorkflowHandle[Any, Any]) -> AgentStatus:
        return await self.query(agent, "status", result_type=AgentStatus)

    async def query(
        self, agent: WorkflowHandle[Any, Any], name: str, *arguments: object, result_type: type[ResultT]
    ) -> ResultT:
        """Ask until a run answers: one that ends drops its queries, a child known to its parent may not run yet."""
        handle = self.client.get_workflow_handle(agent.id)
        for patience in (3, 5, 10):
            with contextlib.suppress(RPCError):
                return await handle.query(
                    name, args=arguments, result_type=result_type, rpc_timeout=timedelta(seconds=patience)
                )
            await asyncio.sleep(0.2 * patience)
        return await handle.query(name, args=arguments, result_type=result_type)

    async def until(self, agent: WorkflowHandle[Any, Any], **wanted: object) -> AgentStatus:
        """Wait until the status has these fields."""
        status = None
        for _ in range(3000):
            status = await self.status(agent)
            if all(getattr(status, name) == value for name, value in wanted.items()):
                return status
            await asyncio.sleep(0.02)
        raise AssertionError(f"never {wanted}: {status}")

    async def order(self, agent: WorkflowHandle[Any, Any], name: str, *arguments: object) -> AgentStatus:
        handle = self.client.get_workflow_handle(agent.id)
        return await handle.execute_update(name, args=arguments, result_type=AgentStatus)

    async def skip(self, **time: float) -> None:
        await let_pass(self.environment, timedelta(**time))


@pytest.fixture
async def rig(skipping: WorkflowEnvironment) -> AsyncIterator[Rig]:
    world = World()
    activities = list(world.activities())
    common: dict[str, Any] = {
        "max_heartbeat_throttle_interval": timedelta(milliseconds=50),
        "default_heartbeat_throttle_interval": timedelta(milliseconds=50),
    }
    async with (
        Worker(
            skipping.client,
            task_queue=c.TASK_QUEUE,
            workflows=list(WORKFLOWS),
            activities=activities,
            workflow_runner=workflow_runner(),
            **common,
        ),
        Worker(skipping.client, task_queue=c.host_queue(HOST), activities=activities, **common),
        Worker(skipping.client, task_queue=c.control_queue(HOST), activities=activities, **common),
        Worker(skipping.client, task_queue=c.PLACEMENT_QUEUE, activities=activities, **common),
    ):
        yield Rig(skipping, world)
