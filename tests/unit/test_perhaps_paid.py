"""What calls say that they may have cost: when they are given up, when they end for good, when no usage is told."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import ActivityEnvironment

from activities.adapters.openai_errors import Faults
from activities.adapters.tool_calls import MAX_CALLS
from activities.asking import UNUSABLE
from activities.errors import ContextOverflow, ModelError, ModelRejected, ModelUnavailable
from activities.heartbeat import Pulse
from activities.unanswered import ModelPerhapsPaid, ReplyUnusable
from examples.scripted_model import (
    Script,
    calls,
    context_overflow,
    cut_stream,
    garbage,
    hang,
    http_error,
    respond,
    say,
)
from examples.scripted_model.steps import Step
from hibernaut.contracts import Instructions, PerhapsPaid, UserMessage
from hibernaut.models import Usage
from tests.support.attempts import REQUEST, world

PRICES = {"scripted": {"price": {"input": 2, "output": 8}}}
Wire = Literal["responses", "chat"]


@pytest.fixture(params=["responses", "chat"])
def wire(request: pytest.FixtureRequest) -> Wire:
    return request.param


def telling(*steps: Step) -> Script:
    """A model that says these one after the other, whatever it is asked."""
    left = list(steps)
    return respond(lambda _: left.pop(0))


async def test_a_call_whose_cost_is_limited_asks_once_what_may_be_paid(tmp_path: Path) -> None:
    async with world(tmp_path, telling(http_error(503), cut_stream(2_000), say("never")), PRICES) as agent:
        # What is refused is free, and tried again.
        assert (await agent.attempts.fails(ModelUnavailable, limited=True)).requests == 0
        assert (await agent.attempts.fails(ModelPerhapsPaid, limited=True)).requests == 1
        assert (await agent.attempts.fails(ModelPerhapsPaid, limited=True)).requests == 1
        assert len(agent.model.requests) == 2


async def test_what_was_heard_of_a_reply_is_in_the_guess(tmp_path: Path) -> None:
    async with world(tmp_path, [cut_stream(20_000, text="word " * 2_000)], PRICES) as agent:
        paid = await agent.attempts.fails(ModelPerhapsPaid, limited=True)
        assert paid.requests == 1
        assert paid.each.output_tokens > 100
        assert paid.each.cost_micros == 2 * paid.each.input_tokens + 8 * paid.each.output_tokens
        assert paid.known == Usage()


async def test_a_call_whose_cost_is_limited_is_not_made_for_one_that_died(tmp_path: Path) -> None:
    async with world(tmp_path, [hang(60), say("never")]) as agent:
        await agent.attempts.dies(agent.model)
        paid = await agent.attempts.fails(ModelPerhapsPaid, limited=True)
        assert (paid.requests, len(agent.model.requests)) == (1, 1)
        assert paid.each.tokens > 10


async def test_a_reply_that_was_kept_is_found_however_limited_the_cost(tmp_path: Path) -> None:
    async with world(tmp_path, [hang(60), say("two")]) as agent:
        await agent.attempts.dies(agent.model)
        await agent.attempts.next()
        reply = await agent.attempts.next(limited=True)
        assert reply.replayed
        assert reply.estimated == reply.usage


async def test_a_reply_that_cannot_be_kept_is_not_asked_for_again(tmp_path: Path) -> None:
    async with world(tmp_path, [say("one"), say("never")]) as agent:
        agent.store.away = True
        assert (await agent.attempts.fails(ModelPerhapsPaid, limited=True)).requests == 1
        agent.store.away = False
        assert (await agent.attempts.fails(ModelPerhapsPaid, limited=True)).requests == 1
        assert len(agent.model.requests) == 1


async def test_an_end_for_good_says_what_was_paid_before(tmp_path: Path) -> None:
    script = [cut_stream(2_000), cut_stream(2_000), http_error(401), context_overflow()]
    async with world(tmp_path, script) as agent:
        assert (await agent.attempts.fails(ModelUnavailable)).requests == 1
        assert (await agent.attempts.fails(ModelUnavailable)).requests == 2
        paid = await agent.attempts.fails(ModelRejected)
        assert paid.requests == 2
        assert paid.each.tokens > 10
        assert (await agent.attempts.fails(ContextOverflow)).requests == 2


async def test_an_end_that_cost_nothing_says_so(tmp_path: Path) -> None:
    async with world(tmp_path, [http_error(400)]) as agent:
        paid = await agent.attempts.fails(ModelRejected, limited=True)
        assert (paid.requests, paid.known) == (0, Usage())


async def test_replies_that_cannot_be_taken_are_known_and_given_up(tmp_path: Path, wire: Wire) -> None:
    many = calls([["ls"]] * (MAX_CALLS + 1))
    async with world(tmp_path, respond(lambda _: many), PRICES, wire=wire) as agent:
        spent: list[Usage] = []
        for number in range(1, UNUSABLE + 1):
            last = number == UNUSABLE
            paid = await agent.attempts.fails(ModelRejected if last else ReplyUnusable, limited=True)
            assert paid.requests == 0
            spent.append(paid.known)
        assert spent[-1] == spent[0].times(UNUSABLE)
        assert spent[0].output_tokens > MAX_CALLS
        assert spent[0].cost_micros == 2 * spent[0].input_tokens + 8 * spent[0].output_tokens


async def test_one_reply_that_cannot_be_taken_costs_what_it_cost(tmp_path: Path, wire: Wire) -> None:
    many = calls([["ls"]] * (MAX_CALLS + 1))
    async with world(tmp_path, telling(many, say("so")), PRICES, wire=wire) as agent:
        known = (await agent.attempts.fails(ReplyUnusable)).known
        reply = await agent.attempts.next()
        assert reply.estimated == known
        assert known.tokens > 10 * reply.usage.output_tokens


async def test_without_a_usage_the_length_tells(tmp_path: Path, wire: Wire) -> None:
    text = "one word after the other, " * 40
    script = telling(*(replace(say(text), metered=False) for _ in range(2)))
    async with world(tmp_path, script, PRICES, wire=wire, context_window=1_000) as agent:
        items = (UserMessage(message_id="1", text="x" * 2_000),)
        reply = await agent.attempts.next(new_items=items, limited=True)
        assert reply.usage.tokens == 0
        assert reply.estimated == reply.unreported
        assert 500 < reply.unreported.input_tokens < 600
        assert 260 < reply.unreported.output_tokens < 360
        assert reply.unreported.cost_micros == 2 * reply.unreported.input_tokens + 8 * reply.unreported.output_tokens
        # Nor would it be known otherwise when the window is full.
        again = await agent.attempts.next(new_items=items, limited=True)
        assert again == reply.model_copy(update={"replayed": True})
        more = await agent.attempts.next(new_items=items, step=2, transcript_ref=reply.segment_ref)
        assert more.compact
        assert more.unreported.input_tokens > 2 * reply.unreported.input_tokens


async def test_a_usage_may_be_written_as_a_float(tmp_path: Path) -> None:
    chunk: dict[str, object] = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
    said: dict[str, object] = {**chunk, "choices": [{"index": 0, "delta": {"content": "so"}, "finish_reason": "stop"}]}
    usage: dict[str, object] = {
        **chunk,
        "choices": [],
        "usage": {"prompt_tokens": 12.0, "completion_tokens": 3.5, "total_tokens": 15.0},
    }
    body = "".join(f"data: {json.dumps(one)}\n\n" for one in (said, usage)) + "data: [DONE]\n\n"
    async with world(tmp_path, telling(garbage(body)), wire="chat") as agent:
        assert (await agent.attempts.next()).usage.tokens == 15


@pytest.mark.parametrize("told", [10**4_200, 1e300, float("inf"), -1, "12", None], ids=lambda told: repr(told)[:6])
async def test_a_usage_that_cannot_be_is_none(tmp_path: Path, told: object) -> None:
    chunk: dict[str, object] = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
    said: dict[str, object] = {**chunk, "choices": [{"index": 0, "delta": {"content": "so"}, "finish_reason": "stop"}]}
    usage: dict[str, object] = {**chunk, "choices": [], "usage": {"prompt_tokens": told, "total_tokens": told}}
    body = "".join(f"data: {json.dumps(one)}\n\n" for one in (said, usage)) + "data: [DONE]\n\n"
    async with world(tmp_path, telling(garbage(body)), wire="chat") as agent:
        reply = await agent.attempts.next()
        assert reply.usage.tokens == 0
        assert 0 < reply.unreported.tokens < 100


async def test_a_call_that_is_given_up_says_what_it_may_cost(tmp_path: Path) -> None:
    async with world(tmp_path, [hang(60)], PRICES) as agent:
        environment = ActivityEnvironment()
        asked = REQUEST.model_copy(update={"new_items": (Instructions(text="x" * 40_000),)})
        call = asyncio.create_task(environment.run(agent.activities.call, asked))
        while not agent.model.requests:
            await asyncio.sleep(0.01)
        environment.cancel()
        with pytest.raises(ModelPerhapsPaid) as given_up:
            await call
        paid = PerhapsPaid.model_validate(given_up.value.details[0])
        assert paid.requests == 1
        assert paid.each.tokens > 10_000
        # Nothing was ever said at that price: it is known all the same.
        assert paid.each.cost_micros == 2 * paid.each.tokens


async def test_the_ledger_of_a_dead_worker_tells_as_much(tmp_path: Path) -> None:
    async with world(tmp_path, [hang(60)], PRICES) as agent:
        await agent.attempts.dies(agent.model, seconds=1.2)
        text, requests, ledger = agent.attempts.details
        assert (text, requests) == ("", 1)
        assert PerhapsPaid.model_validate(ledger).each.cost_micros == 2 * 23


@pytest.mark.parametrize("ledger", [None, 7, {"each": 3}, {"unusable": "x"}, {"draft": []}])
async def test_a_ledger_is_not_trusted(tmp_path: Path, ledger: object) -> None:
    async with world(tmp_path, [say("one")]) as agent:
        agent.attempts.details = ("", 2, ledger)
        reply = await agent.attempts.next()
        assert reply.estimated == reply.usage.times(2)


@pytest.mark.parametrize(
    ("code", "kind", "paid"),
    [
        ("server_error", ModelUnavailable, True),
        (None, ModelUnavailable, True),
        ("502", ModelUnavailable, True),
        ("400", ModelRejected, True),
        ("invalid_prompt", ModelRejected, True),
        ("insufficient_quota", ModelRejected, False),
        ("context_length_exceeded", ContextOverflow, False),
    ],
)
def test_what_is_told_within_a_stream_may_be_charged(code: str | None, kind: type[ModelError], paid: bool) -> None:  # noqa: FBT001  # a table
    error = Faults("main", ()).told(code, "it failed in the middle")
    assert (type(error), error.perhaps_paid) == (kind, paid)


@pytest.mark.parametrize(("status", "paid"), [(500, 0), (502, 0), (504, 1), (524, 1)])
async def test_a_proxy_that_waits_no_longer_may_leave_a_model_at_work(tmp_path: Path, status: int, paid: int) -> None:
    async with world(tmp_path, [http_error(status)]) as agent:
        assert (await agent.attempts.fails(ModelUnavailable)).requests == paid


async def test_a_preview_of_half_a_character_can_be_sent(tmp_path: Path) -> None:
    chunk: dict[str, object] = {"id": 7, "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
    pieces = [{"content": "so \ud83d"}, {"content": "\ude00 and \ud83d"}]
    chunks = [{**chunk, "choices": [{"index": 0, "delta": piece, "finish_reason": None}]} for piece in pieces]
    body = "".join(f"data: {json.dumps(one)}\n\n" for one in chunks)
    async with world(tmp_path, telling(garbage(body)), wire="chat") as agent:
        heard: list[str] = []
        said = Pulse.say

        def say_all(pulse: Pulse, *details: object) -> None:
            pydantic_data_converter.payload_converter.to_payloads(details)
            heard.append(str(details[0]))
            said(pulse, *details)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Pulse, "say", say_all)
            await agent.attempts.fails(ModelUnavailable)
        assert "so \U0001f600 and \ufffd" in heard


async def test_an_id_need_not_be_a_text(tmp_path: Path) -> None:
    chunk: dict[str, object] = {"id": 7, "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
    said: dict[str, object] = {**chunk, "choices": [{"index": 0, "delta": {"content": "so"}, "finish_reason": "stop"}]}
    body = f"data: {json.dumps(said)}\n\ndata: [DONE]\n\n"
    async with world(tmp_path, telling(garbage(body)), wire="chat") as agent:
        assert (await agent.attempts.next()).text_head == "so"


@pytest.mark.parametrize("code", [400, {"x": 1}, ["x"], "4" * 5_000, "\ud83d"])
def test_a_code_within_a_stream_may_be_anything(code: object) -> None:
    error = Faults("main", ()).told(code, "half \ud83d")
    assert type(error) is (ModelRejected if code == 400 else ModelUnavailable)
    assert error.perhaps_paid
    # What Temporal could not record would be tried again for ever.
    str(error).encode()


async def test_a_proxy_that_advises_against_a_retry_may_leave_a_model_at_work_too(tmp_path: Path) -> None:
    async with world(tmp_path, [http_error(504, {"x-should-retry": "false"})]) as agent:
        assert (await agent.attempts.fails(ModelRejected)).requests == 1
