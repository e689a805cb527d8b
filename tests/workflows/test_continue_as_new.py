"""A run that ends in the middle of a turn: nobody notices. On a real server that suggests it early."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from hibernaut import contracts as c
from hibernaut.models import AgentState, BudgetChange, BudgetStatus, EventsPage
from tests.workflows.conftest import SEARCH_ATTRIBUTES, Rig
from tests.workflows.world import HOST, World, say, shell
from workers.registry import WORKFLOWS, workflow_runner

TEMPORAL = Path(sys.executable).with_name("temporal")
SUGGEST_AT = 60
"""Events after which the server suggests to continue as new."""


@pytest.fixture
async def hasty() -> AsyncIterator[Rig]:
    environment = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(TEMPORAL),
        data_converter=pydantic_data_converter,
        search_attributes=list(SEARCH_ATTRIBUTES),
        dev_server_extra_args=[
            "--dynamic-config-value",
            f"limit.historyCount.suggestContinueAsNew={SUGGEST_AT}",
        ],
    )
    world = World()
    activities = list(world.activities())
    async with (
        environment,
        Worker(
            environment.client,
            task_queue=c.TASK_QUEUE,
            workflows=list(WORKFLOWS),
            activities=activities,
            workflow_runner=workflow_runner(),
        ),
        Worker(environment.client, task_queue=c.host_queue(HOST), activities=activities),
        Worker(environment.client, task_queue=c.PLACEMENT_QUEUE, activities=activities),
    ):
        yield Rig(environment, world)


async def _runs(rig: Rig, agent_id: str) -> int:
    """Follow the chain from the newest run to the first."""
    handle = rig.client.get_workflow_handle(agent_id)
    count, run_id = 1, (await handle.describe()).run_id
    while True:
        history = rig.client.get_workflow_handle(agent_id, run_id=run_id).fetch_history_events()
        first: Any = await anext(history)
        run_id = first.workflow_execution_started_event_attributes.continued_execution_run_id
        if not run_id:
            return count
        count += 1


async def test_a_long_turn_crosses_runs_unnoticed(hasty: Rig) -> None:
    steps = 25
    hasty.world.script = [*(shell(f"echo {number}") for number in range(steps)), say("done")]
    agent = await hasty.start(instructions="go on")
    await hasty.send(agent, "work", "m1")
    await hasty.send(agent, "and then", "m2")
    hasty.world.script.append(say("also done"))
    assert (await hasty.answer(agent, "m1")).text == "done"
    assert (await hasty.answer(agent, "m2")).text == "also done"
    assert await _runs(hasty, agent.id) >= 4
    assert [request.commands for request in hasty.world.execs] == [(f"echo {number}",) for number in range(steps)]
    assert {request.lease.generation for request in hasty.world.execs} == {1}
    assert len(hasty.world.acquired) == 1
    assert (await hasty.send(agent, "work", "m1")).duplicate
    page = await hasty.client.get_workflow_handle(agent.id).query("events", 0, result_type=EventsPage)
    held = {event.seq for event in page.events}
    assert held | set(hasty.world.events) == set(range(1, page.last + 1))


async def test_files_put_one_after_the_other_do_not_fill_the_history(hasty: Rig) -> None:
    agent = await hasty.start()
    handle = hasty.client.get_workflow_handle(agent.id)
    for number in range(12):
        put = c.PutFile(upload_ref="up", path=f"/file-{number}")
        await handle.execute_update("put_file", put, result_type=c.PutFileResult)
    assert len({request.path for request in hasty.world.puts}) == 12
    assert await _runs(hasty, agent.id) >= 2


@pytest.mark.slow
async def test_files_too_large_for_a_snapshot_are_told_once_across_runs(hasty: Rig) -> None:
    steps = 20
    failure = ApplicationError("too much", type=c.SNAPSHOT_TOO_LARGE, non_retryable=True)
    hasty.world.snapshot_errors = [failure] * 1_000

    def tidy_up(_request: c.ModelRequest) -> c.ModelReply:
        hasty.world.snapshot_errors.clear()
        return shell("rm fill")

    hasty.world.script = [*(shell(f"echo {number}") for number in range(steps)), tidy_up, say("done")]
    agent = await hasty.start()
    assert (await hasty.ask(agent, "work")).text == "done"
    assert await _runs(hasty, agent.id) >= 3
    told = [item for request in hasty.world.requests for item in request.new_items if item.kind == "note"]
    assert len(told) == 1
    # The one call that was held back for it is the second.
    assert len(hasty.world.execs) == steps
    status = await hasty.status(agent)
    assert status.snapshot is not None


@pytest.mark.slow
async def test_a_budget_is_one_over_all_runs(hasty: Rig) -> None:
    steps = 20
    hasty.world.script = [*(shell(f"echo {number}") for number in range(steps)), say("done")]
    # Every reply has 15 tokens: 80 % is reached by the eighth, the whole by the tenth.
    agent = await hasty.start(budget={"life": {"tokens": 150}, "turn": {"tokens": 1_000_000}})
    ticket = await hasty.send(agent, "work")
    status = await hasty.until(agent, state=AgentState.PAUSED)
    assert (status.steps, status.usage.tokens) == (10, 150)
    handle = hasty.client.get_workflow_handle(agent.id)
    change = BudgetChange.model_validate({"limits": {"life": {"tokens": 10_000}}})
    await handle.execute_update("set_budget", change, result_type=BudgetStatus)
    assert (await hasty.answer(agent, ticket.message_id)).text == "done"
    assert await _runs(hasty, agent.id) >= 3
    spent = await hasty.query(agent, "budget", result_type=BudgetStatus)
    assert (spent.spent.life.tokens, spent.spent.turn.steps) == (15 * (steps + 1), steps + 1)
    assert spent.limits.life.tokens == 10_000
