"""One suite for every wire: odd calls are told to the model, and every reply can be sent again."""

import json
from typing import Any

import pytest

from activities.errors import ModelRejected
from activities.items import message
from examples.scripted_model import (
    CallSpec,
    ScriptedModel,
    calls,
    garbage,
    http_error,
    malformed,
    odd_action,
    say,
    shell,
)
from tests.conformance.model_talk import KEY, SURROGATE, Talk, Wire, open_adapter, talking, unavailable


@pytest.fixture(params=["responses", "chat"])
def wire(request: pytest.FixtureRequest) -> Wire:
    return request.param


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
        assert "129" in str(await unavailable(talk))


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


async def test_half_characters_never_reach_the_next_request(wire: Wire) -> None:
    async with talking(wire, [say(f"odd {SURROGATE} text"), say("Fine.")]) as talk:
        assert (await talk.ask()).text == "odd \ufffd text"
        talk.items.append(message("user", "Go on"))
        assert (await talk.ask(key="step-2")).text == "Fine."


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
