"""Whether Temporal still waits for an activity: asked of a real server."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.errors import SandboxUnavailable
from tests.chaos.link import Link
from workers import tasks
from workers.devstack.stack import DevStack
from workers.tasks import TaskWanted


@workflow.defn(name="GiveUp")
class GiveUp:
    """Waits a second for an activity, once."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(
            "ask", start_to_close_timeout=timedelta(seconds=1), retry_policy=RetryPolicy(maximum_attempts=1)
        )


async def test_a_task_is_wanted_until_its_agent_gives_up(
    stack: DevStack, temporal: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up, answers = asyncio.Event(), asyncio.Queue[bool]()
    tokens: list[bytes] = []

    @activity.defn
    async def ask() -> None:
        wanted = TaskWanted(temporal)
        tokens.append(activity.info().task_token)
        answers.put_nowait(await wanted(tokens[0]))
        await given_up.wait()
        answers.put_nowait(await wanted(tokens[0]))

    queue = f"wanted-{uuid4().hex[:6]}"
    async with Worker(
        temporal,
        task_queue=queue,
        workflows=[GiveUp],
        activities=[ask],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        with pytest.raises(WorkflowFailureError):
            await temporal.execute_workflow(GiveUp.run, id=queue, task_queue=queue)
        given_up.set()
        async with asyncio.timeout(20):
            assert [await answers.get(), await answers.get()] == [True, False]
    monkeypatch.setattr(tasks, "RPC_TIMEOUT", timedelta(seconds=1))
    async with Link(stack.ports.temporal) as link:
        client = await Client.connect(link.address, namespace=temporal.namespace)
        link.cut()
        with pytest.raises(SandboxUnavailable):
            await TaskWanted(client)(tokens[0])
