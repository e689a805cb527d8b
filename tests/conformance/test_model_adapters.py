"""One suite for every wire: what a provider says, the adapters tell alike."""

import asyncio
from dataclasses import replace

import pytest

from activities.adapters.openai_client import CUT_OFF, FILTERED
from activities.errors import ModelRejected
from activities.items import message
from examples.scripted_model import (
    calls,
    refuse,
    say,
    shell,
    slow,
    stop_short,
)
from hibernaut.models import ToolCall
from tests.conformance.model_talk import Wire, refused, talking


@pytest.fixture(params=["responses", "chat"])
def wire(request: pytest.FixtureRequest) -> Wire:
    return request.param


async def test_answers(wire: Wire) -> None:
    async with talking(wire, [say("It is forty-two, and this is long enough for several pieces.")]) as talk:
        output = await talk.ask()
        assert output.text == "It is forty-two, and this is long enough for several pieces."
        assert "".join(talk.heard) == output.text
        assert len(talk.heard) > 1
        assert not output.refusal
        assert not output.tool_calls
        assert output.usage.input_tokens > 0
        assert output.usage.total_tokens == output.usage.input_tokens + output.usage.output_tokens
        assert output.response_id
        [item] = output.items
        assert item["role"] == "assistant"
        talk.items.append(message("user", "Sure?"))
        talk.model.requests.clear()
        with pytest.raises(ModelRejected, match="script"):
            await talk.ask()
        [request] = talk.model.requests
        assert request.conversation is not None
        assert [said.role for said in request.conversation.said("assistant", "user")] == ["user", "assistant", "user"]
        assert request.conversation.notes == ("Be brief.",)
        assert request.headers["idempotency-key"] == "step-1"


async def test_tells_how_much_of_the_input_was_cached(wire: Wire) -> None:
    async with talking(wire, [replace(say("One."), cached=7), say("Two.")]) as talk:
        assert (await talk.ask()).usage.cached_input_tokens == 7
        assert (await talk.ask(key="step-2")).usage.cached_input_tokens == 0


async def test_calls_a_tool_and_reads_its_result(wire: Wire) -> None:
    script = [shell("ls /", "pwd", timeout_ms=1500, max_output_length=900, text="Looking."), say("Done.")]
    async with talking(wire, script) as talk:
        output = await talk.ask()
        [call] = output.tool_calls
        assert call.kind == ("function_call" if wire == "chat" else "shell_call")
        assert call.commands == ("ls /", "pwd")
        assert (call.timeout_ms, call.max_output_length, call.error, call.cut) == (1500, 900, None, False)
        assert output.text == "Looking."
        talk.answer(call, "bin\n", "/home\n")
        assert (await talk.ask(key="step-2")).text == "Done."
        seen = talk.model.requests[-1].conversation
        assert seen is not None
        assert seen.replies == 1
        assert [result.stdout for result in seen.last_results] == ["bin\n", "/home\n"]
        talk.model.assert_consumed()


async def test_makes_several_calls_in_one_reply(wire: Wire) -> None:
    async with talking(wire, [calls([["a"], ["b", "c"], ["d"]]), say("All four.")]) as talk:
        output = await talk.ask()
        assert [call.commands for call in output.tool_calls] == [("a",), ("b", "c"), ("d",)]
        assert len({call.call_id for call in output.tool_calls}) == 3
        for call in output.tool_calls:
            talk.answer(call, *(f"{command}!" for command in call.commands))
            # Notes may come at any place; Chat wants them behind all the answers.
            talk.items.append(message("developer", "A note."))
        assert (await talk.ask(key="step-2")).text == "All four."


async def test_an_unanswered_call_is_refused(wire: Wire) -> None:
    async with talking(wire, [shell("ls"), say("never")]) as talk:
        await talk.ask()
        talk.items.append(message("user", "Go on"))
        assert "call" in str(await refused(talk, ModelRejected))


async def test_an_answer_to_no_call_is_refused(wire: Wire) -> None:
    async with talking(wire, [say("never")]) as talk:
        call = ToolCall(call_id="call_none", kind="function_call" if wire == "chat" else "shell_call", commands=("x",))
        talk.answer(call, "?")
        assert "call" in str(await refused(talk, ModelRejected))


async def test_declines(wire: Wire) -> None:
    async with talking(wire, [refuse("I will not."), say("Gladly.")]) as talk:
        output = await talk.ask()
        assert output.refusal
        assert output.text == "I will not."
        assert not output.tool_calls
        talk.items.append(message("user", "Then something else"))
        assert (await talk.ask(key="step-2")).text == "Gladly."
        seen = talk.model.requests[-1].conversation
        assert seen is not None
        assert "I will not." in [said.text for said in seen.said("assistant")]


async def test_an_answer_at_the_output_limit_says_so(wire: Wire) -> None:
    async with talking(wire, [stop_short("Half an ans"), say("Rest.")]) as talk:
        output = await talk.ask()
        assert output.text == f"Half an ans\n\n{CUT_OFF}"
        assert not output.refusal
        talk.items.append(message("user", "Go on"))
        assert (await talk.ask(key="step-2")).text == "Rest."


async def test_an_answer_the_filter_ended_is_a_refusal(wire: Wire) -> None:
    async with talking(wire, [stop_short("Once upon", "content_filter")]) as talk:
        output = await talk.ask()
        assert output.refusal
        assert output.text == f"Once upon\n\n{FILTERED}"


async def test_a_cancelled_call_ends_at_once(wire: Wire) -> None:
    async with talking(wire, [slow("word " * 2000, 0.05)], timeout_s=60.0) as talk:
        asked = asyncio.create_task(talk.ask())
        while not talk.heard:
            await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
