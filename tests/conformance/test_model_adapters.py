"""One suite for every wire: whatever a provider says or fails to say, the adapters answer alike."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from activities.adapters.openai_chat import ChatAdapter
from activities.adapters.openai_client import CUT_OFF, FILTERED, Endpoint
from activities.adapters.openai_responses import ResponsesAdapter
from activities.errors import ContextOverflow, ModelError, ModelRejected, ModelUnavailable
from activities.items import function_output, message, native_output
from activities.ports.model import Item, ModelAdapter, ModelInput, ModelOutput
from activities.records import ExecutedCommand
from examples.scripted_model import (
    CallSpec,
    Script,
    ScriptedModel,
    calls,
    context_overflow,
    cut_stream,
    garbage,
    hang,
    http_error,
    malformed,
    odd_action,
    refuse,
    say,
    shell,
    slow,
    stop_short,
)
from hibernaut.models import OutcomeKind, ToolCall

Wire = Literal["responses", "chat"]
KEY = "sk-test-0123456789abcdef"
SURROGATE = "\ud83d"


@dataclass
class Talk:
    """An adapter, the scripted model it talks to, and the conversation so far."""

    adapter: ModelAdapter
    model: ScriptedModel
    wire: Wire
    items: list[Item] = field(default_factory=lambda: [message("developer", "Be brief."), message("user", "Hello")])
    heard: list[str] = field(default_factory=list[str])

    async def ask(self, *, model: str = "scripted", key: str = "step-1") -> ModelOutput:
        request = ModelInput(model=model, items=tuple(self.items), idempotency_key=key)
        output = await self.adapter.call(request, self.heard.append)
        self.items.extend(output.items)
        return output

    def answer(self, call: ToolCall, *stdout: str, error: str | None = None) -> None:
        commands = [
            ExecutedCommand(
                exec_id=f"e{at}", command=call.commands[at], kind=OutcomeKind.EXIT, exit_code=0, stdout=text
            )
            for at, text in enumerate(stdout)
        ]
        if call.kind == "shell_call":
            self.items.append(native_output(call.call_id, commands, error, call.max_output_length))
        else:
            self.items.append(function_output(call.call_id, commands, error))


def open_adapter(wire: Wire, base_url: str, **settings: object) -> ModelAdapter:
    plain = Endpoint(name="main", base_url=base_url, api_key=SecretStr(KEY), timeout_s=5.0)
    endpoint = replace(plain, **settings)
    return ChatAdapter(endpoint) if wire == "chat" else ResponsesAdapter(endpoint)


@pytest.fixture(params=["responses", "chat"])
def wire(request: pytest.FixtureRequest) -> Wire:
    return request.param


@asynccontextmanager
async def talking(wire: Wire, script: Script, **settings: object) -> AsyncGenerator[Talk]:
    async with ScriptedModel(script, api_key=KEY) as model:
        talk = Talk(open_adapter(wire, model.base_url, **settings), model, wire)
        try:
            yield talk
        finally:
            await talk.adapter.close()


async def refused(talk: Talk, expected: type[ModelError], **asked: str) -> ModelError:
    with pytest.raises(expected) as caught:
        await talk.ask(**asked)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "'main'" in str(caught.value)
    return caught.value


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


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ('{"commands": ["ls"', "Expected"),
        ('{"commands": "ls"}', "commands"),
        ('{"commands": []}', "commands"),
        ('{"command": ["ls"]}', "Expected"),
        ('{"commands": ["ls"], "timeout_ms": "soon"}', "timeout_ms"),
        ('{"commands": ["ls"], "timeout_ms": 0}', "timeout_ms"),
        ('{"commands": ["ls"], "cwd": "/"}', "cwd"),
        ('{"commands": ["a\\u0000b"]}', "NUL"),
        (json.dumps({"commands": ["true"] * 51}), "at most 50"),
        ("[]", "Expected"),
        ("", "Expected"),
    ],
)
async def test_malformed_arguments_are_told_to_the_model(wire: Wire, arguments: str, complaint: str) -> None:
    async with talking(wire, [malformed(arguments), say("Sorry.")]) as talk:
        [call] = (await talk.ask()).tool_calls
        assert call.commands == ()
        assert call.error is not None
        assert complaint in call.error
        talk.answer(call, error=call.error)
        assert (await talk.ask(key="step-2")).text == "Sorry."
        seen = talk.model.requests[-1].conversation
        assert seen is not None
        assert seen.calls[-1].error == call.error


@pytest.mark.parametrize(
    "action",
    [
        {},
        {"commands": "ls"},
        {"commands": []},
        {"commands": [1, 2]},
        {"commands": ["a\0b"]},
        {"commands": ["ls"] * 51},
        {"commands": ["ls"], "timeout_ms": -1},
        {"commands": ["ls"], "timeout_ms": "soon"},
        {"commands": ["ls"] * 51, "max_output_length": 500},
        {"commands": [f"echo {SURROGATE}"]},
        "ls",
        ["ls"],
    ],
)
async def test_an_odd_action_is_told_to_the_model_and_can_be_sent_again(wire: Wire, action: object) -> None:
    async with talking(wire, [odd_action(action), say("Sorry.")]) as talk:
        [call] = (await talk.ask()).tool_calls
        assert call.error is not None
        assert call.commands == ()
        talk.answer(call, error=call.error)
        assert (await talk.ask(key="step-2")).text == "Sorry."


async def test_an_unknown_tool_is_told_to_the_model(wire: Wire) -> None:
    async with talking(wire, [malformed("{}", name="brow se/web"), say("Sorry.")]) as talk:
        [call] = (await talk.ask()).tool_calls
        assert call.error is not None
        assert "brow se/web" in call.error
        assert "'shell'" in call.error
        talk.answer(call, error=call.error)
        assert (await talk.ask(key="step-2")).text == "Sorry."


async def test_a_function_call_of_the_shell_is_accepted_over_any_wire(wire: Wire) -> None:
    async with talking(wire, [malformed('{"commands": ["ls"]}')]) as talk:
        [call] = (await talk.ask()).tool_calls
        assert (call.kind, call.commands, call.error) == ("function_call", ("ls",), None)


async def test_too_many_calls_are_worth_another_attempt(wire: Wire) -> None:
    async with talking(wire, [calls([["true"]] * 129)]) as talk:
        assert "129" in str(await _unavailable(talk))


async def _unavailable(talk: Talk) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as caught:
        await talk.ask()
    assert KEY not in str(caught.value)
    return caught.value


async def test_a_rate_limit_carries_its_retry_after(wire: Wire) -> None:
    script = [http_error(429, {"retry-after": "7"}), http_error(429, {"retry-after-ms": "1500"}), say("Now.")]
    async with talking(wire, script) as talk:
        assert (await _unavailable(talk)).retry_after == 7.0
        assert (await _unavailable(talk)).retry_after == 1.5
        assert (await talk.ask()).text == "Now."
        assert len(talk.model.requests) == 3


@pytest.mark.parametrize("value", ["soon", "-3", "nan", "inf", ""])
async def test_a_senseless_retry_after_is_ignored(wire: Wire, value: str) -> None:
    async with talking(wire, [http_error(429, {"retry-after": value})]) as talk:
        assert (await _unavailable(talk)).retry_after is None


async def test_an_empty_purse_is_no_matter_of_waiting(wire: Wire) -> None:
    body = {"error": {"message": "You exceeded your current quota.", "type": "x", "code": "insufficient_quota"}}
    async with talking(wire, [http_error(429, body=body)]) as talk:
        assert "billing" in str(await refused(talk, ModelRejected))


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 529])
async def test_a_server_error_is_worth_a_retry(wire: Wire, status: int) -> None:
    async with talking(wire, [http_error(status, body="<html>oops</html>"), say("Now.")]) as talk:
        assert str(status) in str(await _unavailable(talk))
        assert (await talk.ask()).text == "Now."


async def test_a_wrong_key_is_refused_and_never_shown(wire: Wire) -> None:
    wrong = "sk-wrong-abcdefabcdef"
    async with talking(wire, [say("never")], api_key=SecretStr(wrong)) as talk:
        error = await refused(talk, ModelRejected)
        assert "api_key_env" in str(error)
        assert wrong not in str(error)


async def test_secrets_are_scrubbed_from_what_the_provider_says(wire: Wire) -> None:
    header = "tenant-secret-42"
    body = {"error": {"message": f"Bearer {KEY} of {header} is not allowed", "type": "x", "code": None, "param": None}}
    async with talking(wire, [http_error(403, body=body)], default_headers={"x-tenant": header}) as talk:
        text = str(await refused(talk, ModelRejected))
        assert header not in text
        assert text.count("[redacted]") == 2
        assert talk.model.requests[0].headers["x-tenant"] == header


async def test_an_unknown_model_is_refused(wire: Wire) -> None:
    async with talking(wire, [say("never")]) as talk:
        error = await refused(talk, ModelRejected, model="gpt-unknown")
        assert "gpt-unknown" in str(error)
        assert not isinstance(error, ContextOverflow)


async def test_a_bad_request_is_refused(wire: Wire) -> None:
    async with talking(wire, [say("never")], extra_body={"frobnicate": 1}) as talk:
        assert "frobnicate" in str(await refused(talk, ModelRejected))


async def test_context_overflow_is_told_apart(wire: Wire) -> None:
    said = {"error": {"message": "This model's maximum context length is 8192 tokens.", "type": "x", "code": None}}
    script = [context_overflow(), http_error(400, body=said), http_error(413), say("Now.")]
    async with talking(wire, script) as talk:
        for _ in range(3):
            await refused(talk, ContextOverflow)
        assert (await talk.ask()).text == "Now."


async def test_silence_ends_at_the_time_limit(wire: Wire) -> None:
    async with talking(wire, [hang(600)], timeout_s=0.2) as talk:
        assert "timeout_s" in str(await _unavailable(talk))


async def test_a_slow_answer_outlives_the_limit_of_silence(wire: Wire) -> None:
    text = "One piece, another piece, and then a third piece, and a fourth, and so on to the end." * 2
    async with talking(wire, [slow(text, 0.25)], timeout_s=1.5) as talk:
        assert (await talk.ask()).text == text


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("after", [10, 2500])
async def test_a_cut_stream_is_worth_a_retry(wire: Wire, after: int, *, clean: bool) -> None:
    async with talking(wire, [cut_stream(after, clean=clean), say("Whole.")]) as talk:
        await _unavailable(talk)
        assert talk.items == [message("developer", "Be brief."), message("user", "Hello")]
        assert (await talk.ask()).text == "Whole."


@pytest.mark.parametrize(
    "body",
    [
        "data: {not json\n\n",
        "data: [1, 2]\n\n",
        "data: 7\n\n",
        'data: "text"\n\n',
        "data: null\n\n",
        "",
        "<html>a captive portal</html>",
        'data: {"type": "response.output_item.done"}\n\n',
        'data: {"type": "response.completed", "response": 3}\n\n',
        'data: {"choices": [{"index": 0, "delta": 5, "finish_reason": null}]}\n\n',
        "data: " + "[" * 100_000 + "\n\n",
        'event: error\ndata: {"type": "error", "code": "server_error", "message": "oops", "param": null}\n\n',
        'data: {"error": {"message": "upstream failed", "code": 502}}\n\n',
        'data: {"error": {"message": "Overloaded", "type": "overloaded_error"}}\n\n',
    ],
)
async def test_a_malformed_stream_is_worth_a_retry(wire: Wire, body: str) -> None:
    async with talking(wire, [garbage(body), say("Whole.")]) as talk:
        await _unavailable(talk)
        assert (await talk.ask()).text == "Whole."


async def test_a_stream_that_ends_early_is_said_so(wire: Wire) -> None:
    async with talking(wire, [garbage("")]) as talk:
        assert "ended before" in str(await _unavailable(talk))


async def test_a_body_that_is_no_stream_is_worth_a_retry(wire: Wire) -> None:
    async with talking(wire, [garbage('{"object": "list"}', "application/json"), say("Whole.")]) as talk:
        await _unavailable(talk)
        assert (await talk.ask()).text == "Whole."


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"message": "too long", "code": "context_length_exceeded"}, ContextOverflow),
        ({"message": "no such model", "code": "model_not_found"}, ModelRejected),
        ({"message": f"bad {KEY}", "code": "invalid_prompt"}, ModelRejected),
        ({"message": "slow down", "code": "rate_limit_exceeded"}, ModelUnavailable),
        ({"message": "slow down", "code": 429}, ModelUnavailable),
        ({"message": "who are you", "code": 401}, ModelRejected),
    ],
)
async def test_an_error_told_in_the_stream_is_classified(
    wire: Wire, told: dict[str, Any], expected: type[ModelError]
) -> None:
    async with talking(wire, [garbage(f"data: {json.dumps({'error': told})}\n\n")]) as talk:
        await refused(talk, expected)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": "server_error", "message": "oops"}, ModelUnavailable),
        ({"code": "rate_limit_exceeded", "message": "slow down"}, ModelUnavailable),
        ({"code": "invalid_prompt", "message": f"bad {KEY}"}, ModelRejected),
        ({"code": "server_error", "message": "Your input exceeds the context window"}, ContextOverflow),
        (None, ModelUnavailable),
    ],
)
async def test_a_failed_response_is_classified(error: object, expected: type[ModelError]) -> None:
    event = {"type": "response.failed", "response": {"id": "resp_1", "status": "failed", "error": error}}
    async with talking("responses", [garbage(f"data: {json.dumps(event)}\n\n")]) as talk:
        await refused(talk, expected)


async def test_a_provider_that_advises_against_a_retry_is_heeded(wire: Wire) -> None:
    async with talking(wire, [http_error(500, {"x-should-retry": "false"})]) as talk:
        await refused(talk, ModelRejected)


async def test_fields_the_api_does_not_take_back_are_dropped() -> None:
    """A server may say more than it accepts; an item with it must not wedge the conversation."""
    call = {"commands": ["ls"], "max_output_length": None, "mood": "calm"}
    part = {"type": "output_text", "text": "", "x": 1}
    items: list[dict[str, Any]] = [
        {"type": "shell_call", "id": "sh_1", "call_id": "call_1", "action": call, "created_by": "x"},
        {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]},
    ]
    events: list[dict[str, Any]] = [
        *({"type": "response.output_item.done", "output_index": at, "item": item} for at, item in enumerate(items)),
        {"type": "response.new_thing"},
        {"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "output": []}},
    ]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    for reasoning in (False, True):
        async with talking("responses", [garbage(body), say("never"), say("Fine.")]) as talk:
            if reasoning:
                await talk.adapter.close()
                talk.adapter = open_adapter("responses", talk.model.base_url, encrypted_reasoning=True)
            output = await talk.ask()
            [called] = output.tool_calls
            assert called.commands == ("ls",)
            assert (output.text, output.usage.total_tokens) == ("", 0)
            talk.answer(called, "bin\n")
            assert (await talk.ask(key="step-2")).text == "Fine."
            talk.adapter, native = open_adapter("chat", talk.model.base_url), talk.adapter
            talk.items[:] = [item for item in talk.items if item.get("type") == "message"]
            assert (await talk.ask(key="step-3")).text
            await native.close()


async def test_nobody_at_the_address_is_worth_a_retry(wire: Wire) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        adapter = open_adapter(wire, f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        with pytest.raises(ModelUnavailable, match="cannot be reached"):
            await adapter.call(ModelInput("scripted", [message("user", "Hi")], "k"), lambda _: None)
        await adapter.close()


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


async def test_half_characters_never_reach_the_next_request(wire: Wire) -> None:
    async with talking(wire, [say(f"odd {SURROGATE} text"), say("Fine.")]) as talk:
        assert (await talk.ask()).text == "odd \ufffd text"
        talk.items.append(message("user", "Go on"))
        assert (await talk.ask(key="step-2")).text == "Fine."


async def test_a_cancelled_call_ends_at_once(wire: Wire) -> None:
    async with talking(wire, [slow("word " * 2000, 0.05)], timeout_s=60.0) as talk:
        asked = asyncio.create_task(talk.ask())
        while not talk.heard:
            await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked


async def test_the_key_is_in_no_representation(wire: Wire) -> None:
    endpoint = Endpoint(name="main", api_key=SecretStr(KEY), default_headers={"x-key": "header-secret"})
    adapter = ChatAdapter(endpoint) if wire == "chat" else ResponsesAdapter(endpoint)
    for shown in (repr(endpoint), str(endpoint), repr(adapter), repr(vars(adapter))):
        assert KEY not in shown
        assert "header-secret" not in shown
    await adapter.close()


async def test_an_agent_may_change_its_provider_at_any_step() -> None:
    """Native calls are told to Chat as function calls, and function calls to Responses as they are."""
    script = [shell("one", max_output_length=500), calls([["two"]], text="Next."), say("Over.")]
    async with ScriptedModel(script, api_key=KEY) as model:
        native, chat = open_adapter("responses", model.base_url), open_adapter("chat", model.base_url)
        talk = Talk(native, model, "responses")
        for adapter, step in ((native, "1"), (chat, "2"), (native, "3")):
            talk.adapter = adapter
            output = await talk.ask(key=step)
            for call in output.tool_calls:
                talk.answer(call, f"{call.commands[0]}!")
        assert output.text == "Over."
        first, second = [request.conversation for request in model.requests[1:]]
        assert first is not None
        assert second is not None
        assert [result.stdout for result in first.last_results] == ["one!"]
        assert [call.results[0].stdout for call in second.calls] == ["one!", "two!"]
        talk.items.append(message("user", "And now by chat"))
        talk.adapter = chat
        with pytest.raises(ModelRejected, match="script"):
            await talk.ask(key="4")
        await native.close()
        await chat.close()


async def test_call_ids_are_unique_in_a_conversation_and_fit_for_keys(wire: Wire) -> None:
    """Some providers count calls from zero in every reply."""
    async with talking(wire, [shell("a"), shell("b")]) as talk:
        [first] = (await talk.ask()).tool_calls
        talk.answer(first, "a")
        talk.items[:] = [
            {**item, "call_id": "call_0"} if item.get("call_id") == first.call_id else item for item in talk.items
        ]
        [second] = (await talk.ask(key="step-2")).tool_calls
        assert second.call_id != "call_0"
        assert len({item["call_id"] for item in talk.items if "call_id" in item}) == 2


async def test_reasoning_is_sent_again_only_when_sealed_and_wanted() -> None:
    for sealed, wanted in ((False, False), (True, False), (False, True), (True, True)):
        script = [say("Hm.", reasoning=True, sealed=sealed), say("Yes.")]
        async with talking("responses", script, encrypted_reasoning=wanted) as talk:
            await talk.ask()
            talk.items.append(message("user", "Well?"))
            assert (await talk.ask(key="step-2")).text == "Yes."
            body = talk.model.requests[-1].body
            kinds = [item["type"] for item in body["input"]]
            assert ("reasoning" in kinds) == (sealed and wanted)
            assert body.get("include") == (["reasoning.encrypted_content"] if wanted else None)
            assert body["store"] is False


async def test_reasoning_of_another_key_is_dropped_rather_than_wedging_the_conversation() -> None:
    body = {"error": {"message": "could not be verified", "type": "x", "code": "invalid_encrypted_content"}}
    script = [say("Hm.", sealed=True), http_error(400, body=body), say("Yes.")]
    async with talking("responses", script, encrypted_reasoning=True) as talk:
        await talk.ask()
        talk.items.append(message("user", "Well?"))
        assert (await talk.ask(key="step-2")).text == "Yes."
        assert "reasoning" not in [item["type"] for item in talk.model.requests[-1].body["input"]]


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("system", ["system", "user", "assistant", "system", "user"]),
        ("developer", ["developer", "user", "assistant", "developer", "user"]),
        ("user", ["system", "user", "assistant", "user", "user"]),
    ],
)
async def test_chat_takes_notes_in_the_role_its_provider_knows(role: str, expected: list[str]) -> None:
    async with talking("chat", [say("Hm."), say("Yes.")], developer_role=role) as talk:
        await talk.ask()
        talk.items += [message("developer", "A note."), message("user", "Well?")]
        await talk.ask(key="step-2")
        assert [said["role"] for said in talk.model.requests[-1].body["messages"]] == expected


async def test_extra_calls_keep_their_order() -> None:
    spec = [CallSpec(arguments='{"commands": ["x"]}'), CallSpec(("y",))]
    async with talking("responses", [calls(spec, text="Both.")]) as talk:
        output = await talk.ask()
        assert [call.kind for call in output.tool_calls] == ["function_call", "shell_call"]
        assert [item["type"] for item in output.items] == ["message", "function_call", "shell_call"]
