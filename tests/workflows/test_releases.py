"""Agents across releases: what a run hands on must not keep an older build from going on with it."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus

from hibernaut import contracts as c
from hibernaut.models import AgentState
from tests.workflows.conftest import Rig
from tests.workflows.world import say
from workflows.record import AgentRecord


async def test_a_run_hands_on_what_of_the_spec_is_not_at_its_default(rig: Rig) -> None:
    rig.world.script = [say("hello")]
    agent = await rig.start(instructions="be kind", sandbox={"memory_mb": 64})
    await rig.ask(agent, "hi")
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    started: Any = None
    while started is None or not started.continued_execution_run_id:
        # It sleeps a moment before it goes on in a run of its own.
        first: Any = await anext(rig.client.get_workflow_handle(agent.id).fetch_history_events())
        started = first.workflow_execution_started_event_attributes
    spec = json.loads(started.input.payloads[0].data)
    assert spec == {"model": "scripted", "instructions": "be kind", "sandbox": {"memory_mb": 64}}


async def test_an_agent_of_a_later_release_waits_for_a_build_that_knows_its_spec(rig: Rig) -> None:
    record = AgentRecord(uid="u", born_at=datetime.now(UTC), generation=1)
    handle = await rig.client.start_workflow(
        c.AGENT_WORKFLOW,
        args=[{"model": "scripted", "from_the_future": 1}, record],
        id="agent-of-the-future",
        task_queue=c.TASK_QUEUE,
    )
    failed: list[str] = []
    for _ in range(200):
        events = [event async for event in handle.fetch_history_events()]
        failed = [
            event.workflow_task_failed_event_attributes.failure.message
            for event in events
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
        ]
        if failed:
            break
        await asyncio.sleep(0.05)
    assert "from_the_future" in failed[0]
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    await handle.terminate()
