"""Budgets: told at 80 %, a pause at 100 %, raised with one order; counted over pauses, days and runs."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from hibernaut import contracts as c
from hibernaut.models import (
    AgentState,
    AnswerState,
    BudgetChange,
    BudgetSpec,
    BudgetStatus,
    Event,
    EventKind,
    EventsPage,
    Limits,
    Usage,
)
from hibernaut.models.checkpoints import Origin
from tests.workflows.conftest import Rig
from tests.workflows.world import say, shell
from workflows.record import AgentRecord

Agent = WorkflowHandle[Any, Any]


async def budget(rig: Rig, agent: Agent) -> BudgetStatus:
    return await rig.query(agent, "budget", result_type=BudgetStatus)


async def change(rig: Rig, agent: Agent, **fields: object) -> BudgetStatus:
    handle = rig.client.get_workflow_handle(agent.id)
    request = BudgetChange.model_validate(fields)
    return await handle.execute_update("set_budget", request, result_type=BudgetStatus)


async def told(rig: Rig, agent: Agent, kind: EventKind = EventKind.BUDGET) -> list[Event]:
    page = await rig.query(agent, "events", 0, result_type=EventsPage)
    return [event for event in page.events if event.kind is kind]


async def paused(rig: Rig, agent: Agent) -> str:
    status = await rig.until(agent, state=AgentState.PAUSED)
    assert status.paused_reason is not None
    return status.paused_reason


async def happens(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never happens")


async def test_the_next_model_call_waits_for_a_larger_budget(rig: Rig) -> None:
    rig.world.script = [*(shell(str(number)) for number in range(6)), say("done")]
    agent = await rig.start(budget={"turn": {"tokens": 75}})
    ticket = await rig.send(agent, "go")
    why = await paused(rig, agent)
    assert "75 tokens of 75 tokens of a turn" in why
    assert f"`hibernaut budget {agent.id} --set turn.tokens=150`" in why
    # The fifth reply reached the limit; its calls were answered all the same, or the wire would be stuck.
    assert (len(rig.world.requests), len(rig.world.execs)) == (5, 5)
    [event] = await told(rig, agent)
    assert event.data == {"period": "turn", "kind": "tokens", "spent": 60, "limit": 75, "estimated": 0}
    # To resume it alone changes nothing.
    await rig.order(agent, "resume")
    assert await paused(rig, agent) == why
    assert len(rig.world.requests) == 5
    status = await change(rig, agent, limits={"turn": {"tokens": 200}}, by="ann")
    assert status.paused is None
    assert (await rig.answer(agent, ticket.message_id)).text == "done"
    status = await budget(rig, agent)
    assert (status.spent.turn.tokens, status.spent.turn.steps) == (105, 7)
    assert status.changed
    assert status.limits.turn.tokens == 200
    changed = (await told(rig, agent))[1]
    assert changed.data == {"changes": {"turn.tokens": {"from": 75, "to": 200}}, "by": "ann"}
    assert changed.summary == "budget changed by ann: turn.tokens from 75 tokens to 200 tokens"


async def test_every_turn_has_its_own_and_a_life_has_one(rig: Rig) -> None:
    rig.world.script = [say("one"), say("two"), say("three"), say("four")]
    agent = await rig.start(budget={"turn": {"steps": 1}, "life": {"steps": 3}})
    for text in ("one", "two", "three"):
        assert (await rig.ask(agent, "go")).text == text
    ticket = await rig.send(agent, "more")
    assert "3 steps of 3 steps of its life" in await paused(rig, agent)
    names = [f"{event.data['period']}.{event.data['kind']}" for event in await told(rig, agent)]
    assert names == ["turn.steps", "turn.steps", "turn.steps", "life.steps"]
    await change(rig, agent, clear=["life.steps"])
    assert (await rig.answer(agent, ticket.message_id)).text == "four"
    assert (await budget(rig, agent)).limits.life == Limits()


async def test_one_of_two_limits_raised_is_not_enough(rig: Rig) -> None:
    rig.world.script = [shell("1"), say("done")]
    agent = await rig.start(budget={"turn": {"steps": 1}, "life": {"tokens": 10}})
    ticket = await rig.send(agent, "go")
    why = await paused(rig, agent)
    assert "--set turn.steps=2 --set life.tokens=30" in why
    status = await change(rig, agent, limits={"life": {"tokens": 100}})
    assert status.paused is not None
    assert "life.tokens" not in status.paused
    assert "turn.steps" in status.paused
    await change(rig, agent, limits={"turn": {"steps": 5}})
    assert (await rig.answer(agent, ticket.message_id)).text == "done"


async def test_another_pause_is_not_ended_by_money(rig: Rig) -> None:
    rig.world.script = [say("done")]
    agent = await rig.start(budget={"life": {"tokens": 1_000}})
    await rig.order(agent, "pause", "lunch")
    await change(rig, agent, limits={"life": {"tokens": 2_000}})
    assert await paused(rig, agent) == "lunch"


async def test_a_day_ends_at_midnight_utc(rig: Rig) -> None:
    rig.world.script = [say("one"), say("two"), say("three")]
    agent = await rig.start(budget={"day": {"steps": 1}}, idle_timeout=60)
    await rig.ask(agent, "go")
    ticket = await rig.send(agent, "again")
    assert "or resume it after midnight UTC" in await paused(rig, agent)
    now = await rig.environment.get_current_time()
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    await rig.skip(seconds=(midnight - now).total_seconds() + 1)
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "two"
    status = await budget(rig, agent)
    assert (status.spent.day.steps, status.spent.life.steps) == (1, 2)
    assert len(await told(rig, agent)) == 2


async def test_time_is_counted_while_work_is_done(rig: Rig) -> None:
    busy = ApplicationError("overloaded", next_retry_delay=timedelta(hours=2))
    rig.world.script = [busy, shell("1"), say("done")]
    agent = await rig.start(budget={"turn": {"wall_time": "PT1H"}, "life": {"compute_time": "PT90M"}})
    ticket = await rig.send(agent, "go")
    await happens(lambda: len(rig.world.requests) == 1)
    await rig.skip(hours=2, seconds=1)
    why = await paused(rig, agent)
    assert "of 1h of working time of a turn" in why
    assert "of 1h30m of compute time of its life" in why
    assert (len(rig.world.requests), len(rig.world.execs)) == (2, 1)
    # Waiting for a person is nobody's working time, and after the idle timeout the container is given up.
    await rig.skip(hours=10)
    await happens(lambda: len(rig.world.destroyed) == 1)
    limits = {"turn": {"wall_time": "PT3H"}, "life": {"compute_time": "PT3H"}}
    await change(rig, agent, limits=limits)
    assert (await rig.answer(agent, ticket.message_id)).text == "done"
    spent = (await budget(rig, agent)).spent
    two, idle = 2 * 3_600_000, 600_000
    assert two <= spent.turn.wall_ms < two + idle
    # The container is taken while the model is asked, a moment before or after it first says no.
    moment = 60_000
    assert two - moment <= spent.turn.compute_ms < two + idle
    assert two + idle - moment <= spent.life.compute_ms < two + 2 * idle


async def test_money_is_refused_to_a_model_without_a_price(rig: Rig) -> None:
    unpriced = ApplicationError("it has no price", type=c.MODEL_UNPRICED, non_retryable=True)
    rig.world.script = [unpriced, unpriced, say("done")]
    agent = await rig.start(budget={"day": {"money": "2.50"}})
    ticket = await rig.send(agent, "go")
    assert await paused(rig, agent) == "the model call failed: it has no price"
    assert rig.world.requests[0].priced
    # Another limit is no price.
    status = await change(rig, agent, limits={"day": {"steps": 9}})
    assert status.paused == "the model call failed: it has no price"
    assert len(rig.world.requests) == 1
    await rig.order(agent, "resume")
    await happens(lambda: len(rig.world.requests) == 2)
    assert await paused(rig, agent) == "the model call failed: it has no price"
    await change(rig, agent, clear=["day.money"])
    assert (await rig.answer(agent, ticket.message_id)).text == "done"
    assert not rig.world.requests[2].priced
    # Refused calls were never paid.
    assert (await rig.status(agent)).usage_estimate == Usage()


async def test_money_is_counted_as_the_reply_says(rig: Rig) -> None:
    cost = Usage(input_tokens=10, output_tokens=5, total_tokens=15, cost_micros=2_000_000, currency="EUR")
    rig.world.script = [shell("1").model_copy(update={"usage": cost}), shell("2").model_copy(update={"usage": cost})]
    agent = await rig.start(budget={"life": {"money": 4}})
    await rig.send(agent, "go")
    assert "4.00 EUR of 4.00 EUR of its life. To go on: `hibernaut budget" in await paused(rig, agent)
    status = await rig.status(agent)
    assert (status.usage.cost_micros, status.usage.currency) == (4_000_000, "EUR")


async def test_what_was_paid_twice_is_an_estimate_and_counts(rig: Rig) -> None:
    again = Usage(input_tokens=10, output_tokens=5, total_tokens=15)
    rig.world.script = [shell("1").model_copy(update={"estimated": again}), say("done")]
    agent = await rig.start(budget={"life": {"tokens": 30}})
    await rig.send(agent, "go")
    why = await paused(rig, agent)
    assert "30 tokens (15 tokens of it an estimate) of 30 tokens of its life" in why
    status = await rig.status(agent)
    assert (status.usage.total_tokens, status.usage_estimate.total_tokens) == (15, 15)


async def test_a_call_that_is_given_up_may_have_been_paid(rig: Rig) -> None:
    rig.world.script = [say("one")]
    agent = await rig.start(budget={})
    await rig.ask(agent, "go")
    rig.world.block_model = True
    rig.world.blocked.clear()
    await rig.send(agent, "x" * 400, "m2")
    await rig.world.blocked.wait()
    await rig.order(agent, "interrupt")
    assert (await rig.answer(agent, "m2")).state is AnswerState.INTERRUPTED
    status = await rig.status(agent)
    # The fifteen tokens said so far, and four characters a token of what is new.
    assert (status.usage.tokens, status.usage_estimate.tokens) == (15, 115)
    spent = (await budget(rig, agent)).spent
    assert (spent.life.tokens, spent.life.estimated_tokens) == (130, 115)


@pytest.mark.parametrize("change", [{"clear": ["turn.bananas"]}, {"limits": {"turn": {"tokens": -1}}}, {"nonsense": 1}])
async def test_a_change_that_makes_no_sense_is_refused(rig: Rig, change: dict[str, object]) -> None:
    agent = await rig.start(budget={"turn": {"tokens": 5}})
    handle = rig.client.get_workflow_handle(agent.id)
    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update("set_budget", change, result_type=BudgetStatus)
    assert (await budget(rig, agent)).limits == BudgetSpec(turn=Limits(tokens=5))


async def test_a_spec_with_a_wrong_budget_names_the_field(rig: Rig) -> None:
    agent = await rig.start(budget={"turn": {"tokens": 0, "money": Decimal("0.0000001")}})
    with pytest.raises(Exception) as caught:  # noqa: PT011  # Temporal wraps it
        await agent.result()
    assert "budget.turn.tokens" in str(caught.value.__cause__)
    assert "budget.turn.money" in str(caught.value.__cause__)


@pytest.mark.parametrize("forked", [True, False])
async def test_what_was_spent_before_there_were_accounts_is_counted(rig: Rig, *, forked: bool) -> None:
    born = datetime(2026, 1, 1, tzinfo=UTC)
    record = AgentRecord(uid="u", born_at=born, step=7, usage=Usage(total_tokens=70))
    if forked:
        # What its source has spent is not its own.
        origin = Origin(agent_id="source", agent_uid="s", branch=0, step=6)
        record = AgentRecord(uid="u", born_at=born, step=7, forked_from=origin)
    rig.world.script = [say("done")]
    agent = await rig.client.start_workflow(
        c.AGENT_WORKFLOW, args=[{"model": "scripted"}, record], id="agent-older", task_queue=c.TASK_QUEUE
    )
    await rig.ask(agent, "go")
    spent = (await budget(rig, agent)).spent
    assert (spent.life.steps, spent.life.tokens) == ((1, 15) if forked else (8, 85))
    assert spent.day.steps == 1
