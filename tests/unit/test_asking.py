"""What a model call may have been paid twice for: counted over attempts, by what the one before said last."""

from dataclasses import replace
from pathlib import Path

import pytest

from activities.adapters.openai_errors import Faults
from activities.adapters.tool_calls import MAX_CALLS, check_count
from activities.asking import MOST
from activities.errors import ModelUnavailable, StoreUnavailable
from activities.pricing import ModelUnpriced
from examples.scripted_model import cut_stream, hang, http_error, say
from hibernaut.models import Usage
from tests.support.attempts import world


async def test_a_first_attempt_estimates_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, [say("one")]) as agent:
        reply = await agent.attempts.next()
        assert reply.usage.tokens > 0
        assert reply.estimated == Usage()
        assert reply.usage.unpriced_tokens == reply.usage.tokens


async def test_an_attempt_that_died_while_it_asked_may_have_been_paid(tmp_path: Path) -> None:
    async with world(tmp_path, [hang(60), hang(60), say("three")]) as agent:
        for _ in range(2):
            await agent.attempts.dies(agent.model)
        reply = await agent.attempts.next()
        assert reply.text_head == "three"
        assert reply.estimated == reply.usage.times(2)


async def test_a_reply_that_a_dead_attempt_had_kept_is_paid_once(tmp_path: Path) -> None:
    async with world(tmp_path, [hang(60), say("two")]) as agent:
        await agent.attempts.dies(agent.model)
        second = await agent.attempts.next()
        assert second.estimated == second.usage
        # It died after it had kept the reply: the estimate is the same, and it is asked no third time.
        third = await agent.attempts.next()
        assert third.replayed
        assert third.estimated == second.estimated
        assert len(agent.model.requests) == 2


async def test_what_a_provider_refuses_is_not_paid(tmp_path: Path) -> None:
    async with world(tmp_path, [http_error(429), http_error(503), say("three")]) as agent:
        for _ in range(2):
            with pytest.raises(ModelUnavailable):
                await agent.attempts.next()
        assert (await agent.attempts.next()).estimated == Usage()


async def test_an_answer_that_was_cut_off_may_be_charged(tmp_path: Path) -> None:
    async with world(tmp_path, [cut_stream(2_000), say("two")]) as agent:
        with pytest.raises(ModelUnavailable):
            await agent.attempts.next()
        reply = await agent.attempts.next()
        assert reply.estimated == reply.usage


async def test_a_provider_that_cannot_be_reached_charges_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, []) as agent:
        await agent.model.__aexit__(None, None, None)
        with pytest.raises(ModelUnavailable, match="cannot be reached"):
            await agent.attempts.next()
        assert agent.attempts.details[:2] == ("", 0)


async def test_a_reply_that_could_not_be_kept_was_paid(tmp_path: Path) -> None:
    async with world(tmp_path, [say("one"), say("two")]) as agent:
        agent.store.away = True
        with pytest.raises(StoreUnavailable):
            await agent.attempts.next()
        agent.store.away = False
        reply = await agent.attempts.next()
        assert reply.estimated == reply.usage


@pytest.mark.parametrize("details", [(), ("text",), ("text", "many"), ("text", -3), ("text", None), (None, 10**9)])
async def test_what_the_details_hold_is_not_trusted(tmp_path: Path, details: tuple[object, ...]) -> None:
    async with world(tmp_path, [say("one")]) as agent:
        agent.attempts.details = details
        reply = await agent.attempts.next()
        assert reply.estimated in (Usage(), reply.usage.times(MOST))


PRICES = {"scripted": {"price": {"input": 2, "cached_input": 0.5, "output": 8}}}


async def test_the_cost_is_kept_with_the_reply(tmp_path: Path) -> None:
    async with world(tmp_path, [replace(say("one"), cached=4), say("two")], PRICES) as agent:
        usage = (await agent.attempts.next(priced=True)).usage
        assert usage.cached_input_tokens == 4
        assert usage.cost_micros == 2 * usage.input_tokens - 4 * 2 + 4 // 2 + 8 * usage.output_tokens
        assert (usage.currency, usage.unpriced_tokens) == ("EUR", 0)
        # The price of that day holds, whatever today's is.
        (tmp_path / "providers.yaml").unlink()
        dearer = {"scripted": {"price": {"input": 200, "output": 800}}}
        async with world(tmp_path, [], dearer) as later:
            assert (await later.attempts.next(priced=True)).usage == usage


async def test_a_model_without_a_price_is_refused_before_it_is_asked(tmp_path: Path) -> None:
    async with world(tmp_path, [say("one")], {"other": PRICES["scripted"]}) as agent:
        with pytest.raises(ModelUnpriced, match=r"providers\.default\.models\.scripted\.price"):
            await agent.attempts.next(priced=True)
        assert agent.model.requests == []
        assert (await agent.attempts.next()).estimated == Usage()


def test_a_whole_reply_that_is_refused_was_paid() -> None:
    with pytest.raises(ModelUnavailable) as refused:
        check_count(MAX_CALLS + 1, Usage())
    assert refused.value.perhaps_paid
    assert Faults("main", ()).told("server_error", "it failed in the middle").perhaps_paid
