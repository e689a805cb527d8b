"""What compactions cost: a piece that is done is paid once, and what is paid in vain is told."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from activities.asking import UNUSABLE
from activities.compaction import LIMITED
from activities.errors import ModelRejected, ModelUnavailable
from activities.unanswered import ModelPerhapsPaid, ReplyUnusable
from examples.scripted_model import Conversation, cut_stream, http_error, refuse, respond, say
from examples.scripted_model.steps import Step
from hibernaut.models import Usage
from tests.support.compacting import Agent, acting

STEPS = 16


def memory(conversation: Conversation) -> str:
    """What the model was shown of the memory so far."""
    return conversation.last_user.partition("The next part of the conversation")[0]


def grows(*faults: Step | None) -> Callable[[Conversation], Step]:
    """A model that adds a line to the memory; the faults come in the order of the calls."""
    left = list(faults)

    def answer(conversation: Conversation) -> Step:
        fault = left.pop(0) if left else None
        return fault or say(f"## Done\nseen {memory(conversation).count('seen') + 1}")

    return respond(answer)


def pieces(agent: Agent) -> list[int]:
    """Characters of conversation that each call was shown."""
    return [len(agent.shown(at).partition("<conversation>")[2]) for at in range(len(agent.model.requests))]


async def test_a_piece_that_is_done_is_not_paid_again(tmp_path: Path) -> None:
    async with acting(tmp_path / "smooth", grows(), STEPS, window="4000") as agent:
        smooth = await agent.compact()
        calls = len(agent.model.requests)
    assert calls >= 3
    third = [None, None, http_error(503), http_error(503)]
    async with acting(tmp_path / "rough", grows(*third), STEPS, window="4000") as agent:
        first = await agent.fails(ModelUnavailable)
        assert (first.requests, first.known.tokens > 0) == (0, True)
        # It goes on with the third piece.
        assert await agent.fails(ModelUnavailable) == first
        rough = await agent.compact()
        assert len(agent.model.requests) == calls + 2
        assert pieces(agent)[2] == pieces(agent)[3] == pieces(agent)[4]
        assert rough == smooth.model_copy(update={"duration_ms": rough.duration_ms})
        assert rough.estimated == Usage()


async def test_a_call_that_was_cut_off_is_counted_beside_the_others(tmp_path: Path) -> None:
    async with acting(tmp_path, grows(None, cut_stream(2_000)), STEPS, window="4000") as agent:
        paid = await agent.fails(ModelUnavailable)
        assert paid.requests == 1
        assert paid.each.input_tokens > 300
        result = await agent.compact()
        assert result.estimated.input_tokens > 300
        assert result.usage.tokens > paid.known.tokens
        # Whoever finds it later learns as much.
        again = await agent.compact()
        assert (again.usage, again.replayed) == (result.usage, True)


async def test_a_draft_of_another_text_is_of_no_use_and_paid(tmp_path: Path) -> None:
    async with acting(tmp_path, grows(None, http_error(503)), STEPS, window="4000") as agent:
        known = (await agent.fails(ModelUnavailable)).known
        await agent.said()
        result = await agent.compact()
        assert result.estimated == known
        assert [agent.shown(at).startswith("The memory so far") for at in range(3)] == [False, True, False]


async def test_where_the_cost_is_limited_little_is_paid_in_vain(tmp_path: Path) -> None:
    async with acting(tmp_path, respond(lambda _: cut_stream(2_000)), STEPS, window="4000") as agent:
        for number in range(1, LIMITED + 1):
            kind = ModelPerhapsPaid if number == LIMITED else ModelUnavailable
            assert (await agent.fails(kind, limited=True)).requests == number


@pytest.mark.parametrize("silent", [True, False])
async def test_what_the_model_declines_was_paid(tmp_path: Path, *, silent: bool) -> None:
    step = say(" ") if silent else refuse("I will not.")
    async with acting(tmp_path, grows(None, *[step] * UNUSABLE), STEPS, window="4000") as agent:
        attempts = UNUSABLE if silent else 1
        known = Usage()
        for number in range(1, attempts + 1):
            kind = ReplyUnusable if number < attempts else ModelRejected
            paid = await agent.fails(kind)
            assert (paid.requests, paid.known.tokens > known.tokens) == (0, True)
            known = paid.known
        assert len(agent.model.requests) == attempts + 1


async def test_without_a_usage_the_length_tells(tmp_path: Path) -> None:
    async with acting(
        tmp_path, respond(lambda _: replace(say("## Done\nmuch"), metered=False)), STEPS, window="4000"
    ) as agent:
        result = await agent.compact()
        assert result.usage.tokens == 0
        assert result.estimated.input_tokens > 1_000
        assert (await agent.compact()).estimated == result.estimated
