"""Scenarios of calls that were perhaps paid and left no reply."""

from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError

from hibernaut import contracts as c
from hibernaut.models import Usage
from tests.workflows.conftest import Rig
from tests.workflows.world import say, shell

PAID = c.PerhapsPaid(requests=1, each=Usage(input_tokens=100, total_tokens=100)).model_dump(mode="json")


async def in_vain(rig: Rig) -> WorkflowHandle[Any, Any]:
    """Calls and a compaction given up for what they may cost, one by an interrupt, one as the agent is cancelled."""
    lost = ApplicationError("no reply", PAID, type=c.MODEL_PERHAPS_PAID, non_retryable=True)
    near = shell("1").model_copy(update={"compact": True})
    rig.world.script = [lost, near, lost, say("one")]
    rig.world.compact_errors = [lost]
    rig.world.given_up = lost
    agent = await rig.start(budget={"life": {"tokens": 1_000}})
    await rig.ask(agent, "go")
    rig.world.block_model = True
    await rig.send(agent, "and on", "m2")
    await rig.world.blocked.wait()
    await rig.order(agent, "interrupt")
    await rig.answer(agent, "m2")
    rig.world.blocked.clear()
    await rig.send(agent, "and on", "m3")
    await rig.world.blocked.wait()
    await rig.client.get_workflow_handle(agent.id).cancel()
    await agent.result()
    return agent


PAYING = (in_vain,)
