"""What model calls may have cost that left no reply: counted, and kept within the limits."""

from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationError

from hibernaut import contracts as c
from hibernaut.contracts import limits
from hibernaut.models import AgentState, AnswerState, EventKind, Usage
from tests.workflows.conftest import Rig
from tests.workflows.test_budget import budget, happens, paused, told
from tests.workflows.world import say, shell

EACH = Usage(input_tokens=100, total_tokens=100, cost_micros=50, currency="EUR")


def failed(kind: str, requests: int = 1, known: int = 0) -> ApplicationError:
    known_usage = Usage(input_tokens=known, total_tokens=known)
    paid = c.PerhapsPaid(requests=requests, each=EACH, known=known_usage).model_dump(mode="json", exclude_defaults=True)
    return ApplicationError("no reply", paid, type=kind, non_retryable=True)


def in_vain(requests: int = 1) -> ApplicationError:
    return failed(c.MODEL_PERHAPS_PAID, requests)


async def patiently(rig: Rig, calls: int) -> None:
    """Let the time pass between so many calls."""
    for number in range(calls):
        await happens(lambda least=number: len(rig.world.requests) > least)
        await rig.skip(seconds=60)


async def test_a_call_that_was_perhaps_paid_is_made_again_and_counted(rig: Rig) -> None:
    rig.world.script = [in_vain(), in_vain(), in_vain(), say("done")]
    agent = await rig.start(budget={"life": {"tokens": 1_000}})
    ticket = await rig.send(agent, "go")
    await patiently(rig, 3)
    assert (await rig.answer(agent, ticket.message_id)).text == "done"
    assert [request.limited for request in rig.world.requests] == [True] * 4
    # What one that is thought dead may still write is not taken for another's.
    assert [request.ordinal for request in rig.world.requests] == [0, 1, 2, 3]
    status = await rig.status(agent)
    assert (status.usage.tokens, status.usage_estimate) == (15, EACH.times(3))
    spent = (await budget(rig, agent)).spent.life
    assert (spent.tokens, spent.estimated_tokens, spent.steps) == (315, 300, 1)
    assert (spent.money_micros, spent.estimated_micros) == (150, 150)


async def test_a_limit_is_kept_when_every_call_is_in_vain(rig: Rig) -> None:
    rig.world.script = [in_vain() for _ in range(9)]
    agent = await rig.start(budget={"day": {"money": "0.000240"}})
    await rig.send(agent, "go")
    await patiently(rig, 4)
    why = await paused(rig, agent)
    assert "0.00025 EUR (0.00025 EUR of it an estimate) of 0.00024 EUR of a day" in why
    assert len(rig.world.requests) == 5


async def test_without_a_limit_nothing_is_given_up(rig: Rig) -> None:
    rig.world.script = [say("done")]
    agent = await rig.start(budget={"life": {"steps": 5}})
    await rig.ask(agent, "go")
    assert not rig.world.requests[0].limited


async def test_an_end_for_good_counts_what_was_paid_before(rig: Rig) -> None:
    rig.world.script = [failed("ModelRejected", 2, known=30), say("done")]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    assert await paused(rig, agent) == "the model call failed: no reply"
    assert (await rig.status(agent)).usage_estimate.tokens == 230
    await rig.order(agent, "resume")
    assert (await rig.answer(agent, ticket.message_id)).text == "done"


async def test_a_conversation_that_is_refused_is_not_compacted_for_more_than_is_left(rig: Rig) -> None:
    rig.world.script = [shell("1"), failed(c.CONTEXT_OVERFLOW), say("done")]
    agent = await rig.start(budget={"life": {"tokens": 100}})
    ticket = await rig.send(agent, "go")
    assert "115 tokens (100 tokens of it an estimate)" in await paused(rig, agent)
    assert rig.world.compactions == []
    await rig.client.get_workflow_handle(agent.id).execute_update("set_budget", {"clear": ["life.tokens"]})
    assert (await rig.answer(agent, ticket.message_id)).text == "done"


async def test_an_interrupted_call_says_what_it_may_have_cost(rig: Rig) -> None:
    rig.world.block_model = True
    rig.world.given_up = in_vain(3)
    agent = await rig.start(budget={"day": {"money": 1}})
    await rig.send(agent, "go", "m1")
    await rig.world.blocked.wait()
    await rig.order(agent, "interrupt")
    assert (await rig.answer(agent, "m1")).state is AnswerState.INTERRUPTED
    assert (await rig.status(agent)).usage_estimate == EACH.times(3)
    rig.world.release()
    rig.world.script = [say("again")]
    assert (await rig.ask(agent, "and now?")).text == "again"
    assert rig.world.requests[-1].ordinal == 1


async def test_a_call_of_an_agent_that_is_cancelled_is_given_up_and_counted(rig: Rig) -> None:
    rig.world.block_model = True
    rig.world.given_up = in_vain()
    agent = await rig.start()
    await rig.send(agent, "go", "m1")
    await rig.world.blocked.wait()
    await rig.client.get_workflow_handle(agent.id).cancel()
    await agent.result()
    status = await rig.status(agent)
    assert (status.state, status.usage_estimate) == (AgentState.CLOSED, EACH)


async def test_an_interrupted_call_that_says_nothing_has_read_what_was_new(rig: Rig) -> None:
    def first(request: c.ModelRequest) -> c.ModelReply:
        del request
        rig.world.block_model = True
        return shell("cat log")

    rig.world.script = [first]
    rig.world.stdout_bytes = 40_000
    agent = await rig.start(max_output_length=20_000)
    await rig.send(agent, "go", "m1")
    await rig.world.blocked.wait()
    await rig.order(agent, "interrupt")
    assert (await rig.answer(agent, "m1")).state is AnswerState.INTERRUPTED
    # As much of the output as the model is shown, and the conversation before it.
    assert (await rig.status(agent)).usage_estimate.tokens == 20_000 // 4 + 15


async def test_a_given_up_call_whose_worker_left_without_a_word_may_have_been_paid(rig: Rig) -> None:
    rig.world.script = [say("one")]
    agent = await rig.start()
    await rig.ask(agent, "one")
    rig.world.block_model = True
    rig.world.given_up = ApplicationError("Worker is shutting down", type="WorkerShutdown", non_retryable=True)
    await rig.send(agent, "go", "m1")
    await rig.world.blocked.wait()
    await rig.order(agent, "interrupt")
    assert (await rig.answer(agent, "m1")).state is AnswerState.INTERRUPTED
    assert (await rig.status(agent)).usage_estimate.tokens == 15 + 1


async def test_waiting_for_the_next_try_ends_when_the_turn_does(rig: Rig) -> None:
    rig.world.script = [in_vain() for _ in range(30)]
    agent = await rig.start(budget={"life": {"tokens": 100_000}})
    await rig.send(agent, "go", "m1")
    await happens(lambda: len(rig.world.requests) == 1)
    await rig.skip(seconds=70)
    # From one second on each wait is twice as long as the one before, up to a minute.
    await happens(lambda: len(rig.world.requests) >= 6)
    await rig.order(agent, "interrupt")
    assert (await rig.answer(agent, "m1")).state is AnswerState.INTERRUPTED


async def test_a_pause_of_a_person_stays_one_when_the_call_fails(rig: Rig) -> None:
    rig.world.block_model = True
    rig.world.script = [ApplicationError("no price", type=c.MODEL_UNPRICED, non_retryable=True)]
    agent = await rig.start(budget={"day": {"money": 1}})
    await rig.send(agent, "go")
    await rig.world.blocked.wait()
    await rig.order(agent, "pause", "lunch")
    rig.world.release()
    await happens(lambda: not rig.world.script)
    why = "lunch; the model call failed: no price"
    await rig.until(agent, paused_reason=why)
    handle = rig.client.get_workflow_handle(agent.id)
    await handle.execute_update("set_budget", {"clear": ["day.money"]})
    assert await paused(rig, agent) == why


async def test_a_provider_that_tells_no_usage_is_told_once(rig: Rig) -> None:
    guess = Usage(input_tokens=40, total_tokens=40)
    silent = shell("1").model_copy(update={"usage": Usage(), "estimated": guess, "unreported": guess})
    rig.world.script = [silent, silent, silent]
    agent = await rig.start(budget={"turn": {"tokens": 100}})
    await rig.send(agent, "go")
    assert "120 tokens (120 tokens of it an estimate) of 100 tokens of a turn" in await paused(rig, agent)
    events = [event for event in await told(rig, agent, EventKind.BUDGET) if "tells no usage" in event.summary]
    assert len(events) == 1


async def test_a_compaction_that_fails_counts(rig: Rig) -> None:
    near = shell("1").model_copy(update={"compact": True})
    rig.world.script = [near, say("done")]
    rig.world.compact_errors = [failed(c.MODEL_PERHAPS_PAID, 2, known=30)]
    agent = await rig.start(budget={"life": {"tokens": 200}})
    await rig.send(agent, "go")
    assert "245 tokens (230 tokens of it an estimate)" in await paused(rig, agent)
    assert rig.world.compactions[0].limited
    assert len(rig.world.requests) == 1


async def test_a_compaction_out_of_patience_counts(rig: Rig) -> None:
    overflow = ApplicationError("too long", type=c.CONTEXT_OVERFLOW, non_retryable=True)
    rig.world.script = [shell("1"), overflow, say("done")]
    details = failed("ModelUnavailable", 2).details
    later = timedelta(hours=2)
    rig.world.compact_errors = [ApplicationError("busy", *details, type="ModelUnavailable", next_retry_delay=later)]
    agent = await rig.start()
    await rig.send(agent, "go")
    assert "could not be compacted (busy)" in await paused(rig, agent)
    assert (await rig.status(agent)).usage_estimate.tokens == 200


async def test_a_provider_that_is_silent_for_days_makes_no_run_long(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RUN_EVENTS", 40)
    rig.world.script = [*(in_vain() for _ in range(12)), say("done")]
    agent = await rig.start(budget={"life": {"tokens": 100_000}})
    ticket = await rig.send(agent, "go")
    await patiently(rig, 12)
    assert (await rig.answer(agent, ticket.message_id)).text == "done"
    handle = rig.client.get_workflow_handle(agent.id)
    assert (await handle.describe()).run_id != agent.first_execution_run_id
    assert (await handle.describe()).history_length < 100
    assert (await rig.status(agent)).usage_estimate == EACH.times(12)
