"""The scripted model speaks as the provider does, and says no where the provider would."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast, get_args

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from examples.scripted_model import (
    Conversation,
    Script,
    ScriptedModel,
    Step,
    calls,
    http_error,
    malformed,
    refuse,
    respond,
    say,
    shell,
    stop_short,
)
from examples.scripted_model.__main__ import load

KEY = "scripted-key"
BEARER = {"authorization": f"Bearer {KEY}"}
Json = dict[str, Any]
USER: Json = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
CALL: Json = {"type": "shell_call", "call_id": "call_1", "action": {"commands": ["ls"]}}
LIMITED: Json = {"commands": ["a"], "max_output_length": 9}
FUNCTION: Json = {"type": "function_call", "call_id": "call_2", "name": "f", "arguments": "{}"}
OUTPUT: Json = {
    "type": "shell_call_output",
    "call_id": "call_1",
    "output": [{"stdout": "", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
}
REPLIES: list[Step] = [
    say("A plain answer."),
    say("After some thought.", sealed=True),
    refuse("No."),
    shell("ls", "pwd", timeout_ms=10, max_output_length=300, text="Looking."),
    calls([["a"], ["b"]]),
    malformed("{}"),
    stop_short("Half an"),
]


@asynccontextmanager
async def served(script: Script) -> AsyncGenerator[Callable[..., Any]]:
    async with (
        ScriptedModel(script) as model,
        httpx2.AsyncClient(
            base_url=model.base_url, headers={"authorization": f"Bearer {KEY}"}, trust_env=False
        ) as http,
    ):

        async def post(path: str, body: Json, **more: Any) -> httpx2.Response:  # noqa: ANN401  # httpx's own
            return await http.post(path, json=body, **more)

        yield post


def responses_body(*items: Json, **more: object) -> Json:
    return {"model": "scripted", "input": list(items) or [USER], "store": False, **more}


def chat_body(*messages: Json, **more: object) -> Json:
    return {"model": "scripted", "messages": list(messages) or [{"role": "user", "content": "Hello"}], **more}


def sse(text: str) -> list[Json]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def strictly(kind: Any, value: Json) -> openai.BaseModel:  # noqa: ANN401  # a class of the package
    return cast("openai.BaseModel", TypeAdapter(kind).validate_python(value, strict=True))


EVENTS: dict[str, Any] = {
    get_args(event.model_fields["type"].annotation)[0]: event for event in get_args(get_args(ResponseStreamEvent)[0])
}


@pytest.mark.parametrize("reply", REPLIES)
async def test_responses_are_what_the_package_defines(reply: Step) -> None:
    async with served([reply]) as post:
        whole = (await post("/responses", responses_body(tools=[{"type": "shell"}]))).json()
        parsed = strictly(Response, whole)
        assert not parsed.model_extra
        streamed = await post("/responses", responses_body(tools=[{"type": "shell"}], stream=True))
        events = sse(streamed.text)
        for number, event in enumerate(events):
            assert not strictly(EVENTS[event["type"]], event).model_extra
            assert event["sequence_number"] == number
        assert events[-1]["response"]["output"] == whole["output"]
        done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
        assert done == whole["output"]
        assert whole["usage"] == events[-1]["response"]["usage"]


@pytest.mark.parametrize("reply", REPLIES)
async def test_completions_are_what_the_package_defines(reply: Step) -> None:
    async with served([reply]) as post:
        whole = (await post("/chat/completions", chat_body())).json()
        assert not strictly(ChatCompletion, whole).model_extra
        body = chat_body(stream=True, stream_options={"include_usage": True})
        chunks = sse((await post("/chat/completions", body)).text)
        for chunk in chunks:
            assert not strictly(ChatCompletionChunk, chunk).model_extra
        assert chunks[-1]["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]
        said = whole["choices"][0]["message"]
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
        assert "".join(delta.get("content") or "" for delta in deltas) == (said["content"] or "")


@pytest.mark.parametrize(
    ("body", "status", "complaint"),
    [
        (responses_body(frobnicate=1), 400, "Unknown parameter: 'frobnicate'."),
        (responses_body(store="yes"), 400, "Invalid type for 'store'"),
        (responses_body(model="other"), 404, "The model 'other' does not exist"),
        ({"model": "scripted"}, 400, "One of 'input'"),
        ({"model": "scripted", "input": []}, 400, "One of 'input'"),
        ({"model": "scripted", "input": ["x"]}, 400, "input[0]"),
        (responses_body(previous_response_id="resp_1"), 400, "previous_response_id"),
        (responses_body(tools=[{"type": "shel"}]), 400, "Invalid value: 'shel'"),
        (responses_body(tools=[{"type": "shell", "environment": {"type": "here"}}]), 400, "tools[0].environment"),
        (responses_body({**USER, "frob": 1}), 400, "frob"),
        (responses_body({"type": "message", "role": "user"}), 400, "content"),
        (responses_body({**USER, "role": "boss"}), 400, "role"),
        (responses_body({"type": "mystery"}), 400, "Invalid value: 'mystery'"),
        (responses_body(USER, CALL), 400, "No tool output found for shell call call_1."),
        (responses_body(USER, FUNCTION), 400, "No tool output found for function call call_2."),
        (responses_body(USER, OUTPUT), 400, "No tool call found for shell call output with call_id call_1."),
        (responses_body(USER, OUTPUT, CALL), 400, "No tool call found for shell call output with call_id call_1."),
        (responses_body(USER, CALL, OUTPUT, OUTPUT), 400, "Duplicate tool output"),
        (responses_body(USER, CALL, CALL, OUTPUT), 400, "Duplicate call_id"),
        (responses_body(USER, {**CALL, "action": {"commands": "ls"}}, OUTPUT), 400, "commands"),
        (responses_body(USER, {**CALL, "created_by": "x"}, OUTPUT), 400, "Unknown parameter: 'input[1].created_by'."),
        (responses_body(USER, {**CALL, "action": {"commands": ["a", "b"]}}, OUTPUT), 400, "2 commands and 1 outputs"),
        (responses_body(USER, {**CALL, "action": LIMITED}, OUTPUT), 400, "max_output_length"),
        (responses_body(USER, CALL, {**OUTPUT, "output": [{"stdout": ""}]}), 400, "input[2].output[0].outcome"),
        (
            responses_body({"type": "message", "id": "x1", "role": "assistant", "status": "completed", "content": []}),
            400,
            "begins with 'msg'",
        ),
        (responses_body({"type": "reasoning", "id": "rs_1", "summary": []}), 404, "Item with id 'rs_1' not found"),
        (responses_body({**CALL, "id": "sh_1"}, OUTPUT, {**OUTPUT, "id": "sh_1"}), 400, "Duplicate item found"),
    ],
)
async def test_the_responses_api_refuses(body: Json, status: int, complaint: str) -> None:
    async with served([say("never")]) as post:
        answer = await post("/responses", body)
        assert answer.status_code == status
        assert complaint in answer.json()["error"]["message"]


async def test_a_conversation_with_everything_in_it_is_accepted() -> None:
    said: Json = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Looking.", "annotations": []}],
    }
    note: Json = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Note"}]}
    sealed: Json = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "abc"}
    easy: Json = {"role": "assistant", "content": "Easy."}
    async with served([say("one"), say("two"), say("three")]) as post:
        answer = await post("/responses", responses_body(note, USER, sealed, said, CALL, OUTPUT, note, easy, USER))
        assert answer.status_code == 200, answer.text
        assert answer.json()["output"][0]["content"][0]["text"] == "three"


TOOL_CALL: Json = {"id": "call_1", "type": "function", "function": {"name": "shell", "arguments": "{}"}}
HELLO: Json = {"role": "user", "content": "Hello"}
ASKED: Json = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}
TOLD: Json = {"role": "tool", "tool_call_id": "call_1", "content": "{}"}


@pytest.mark.parametrize(
    ("body", "status", "complaint"),
    [
        (chat_body(frobnicate=1), 400, "Unrecognized request argument supplied: frobnicate"),
        (chat_body(model="other"), 404, "The model 'other' does not exist"),
        (chat_body(stream="yes"), 400, "stream"),
        ({"model": "scripted", "messages": []}, 400, "empty array"),
        (chat_body(stream_options={"include_usage": True}), 400, "stream_options"),
        (chat_body(tools=[]), 400, "tools"),
        (chat_body(tools=[{"type": "function"}]), 400, "tools[0].function"),
        (chat_body({"role": "user", "content": 7}), 400, "messages[0].content"),
        (chat_body({"role": "boss", "content": "x"}), 400, "boss"),
        (chat_body({**HELLO, "frob": 1}), 400, "messages[0].frob"),
        (chat_body(HELLO, ASKED), 400, "did not have response messages: call_1"),
        (chat_body(HELLO, ASKED, HELLO, TOLD), 400, "did not have response messages: call_1"),
        (chat_body(HELLO, TOLD), 400, "must be a response to a preceding message"),
        (chat_body(HELLO, ASKED, TOLD, TOLD), 400, "must be a response to a preceding message"),
        (chat_body(HELLO, {**ASKED, "tool_calls": []}), 400, "empty array"),
        (chat_body(HELLO, {**ASKED, "tool_calls": [TOOL_CALL] * 2}, TOLD), 400, "Duplicate"),
        (chat_body(HELLO, {"role": "assistant", "content": None}), 400, "got null"),
    ],
)
async def test_the_chat_api_refuses(body: Json, status: int, complaint: str) -> None:
    async with served([say("never")]) as post:
        answer = await post("/chat/completions", body)
        assert answer.status_code == status
        assert complaint in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/responses", "/chat/completions"])
async def test_the_key_is_asked_for_and_never_recorded(path: str) -> None:
    async with ScriptedModel([say("never")]) as model, httpx2.AsyncClient(trust_env=False) as http:
        for headers in ({}, {"authorization": "Bearer wrong-key-000"}, {"authorization": KEY}):
            answer = await http.post(model.base_url + path, json={}, headers=headers)
            assert answer.status_code == 401
            assert "wrong-key-000" not in answer.text
        assert "wrong-key-000" not in repr(model.requests)
        answer = await http.post(model.base_url + path, content=b"{", headers={"authorization": f"Bearer {KEY}"})
        assert answer.status_code == 400


async def test_the_reply_follows_from_the_conversation_alone() -> None:
    """Asked again, the same; asked by another conversation, from the beginning; faults once for each."""
    async with served([say("first"), http_error(500), say("second")]) as post:
        other = {**USER, "content": "Other"}
        assert await told(post, USER) == "first"
        assert await told(post, USER) == "first"
        answered = [USER, {"role": "assistant", "content": "first"}, USER]
        assert await told(post, *answered) == 500
        assert await told(post, *answered) == "second"
        assert await told(post, *answered) == "second"
        assert await told(post, other) == "first"
        assert await told(post, other, {"role": "assistant", "content": "first"}, USER) == 500
        assert await told(post, *answered, {"role": "assistant", "content": "second"}, USER) == 400


async def told(post: Callable[..., Any], *items: Json) -> str | int:
    answer = await post("/responses", responses_body(*items))
    return answer.json()["output"][0]["content"][0]["text"] if answer.status_code == 200 else answer.status_code


def decide(conversation: Conversation) -> Step:
    if not conversation.turn_calls:
        return shell("wc -l data.csv")
    last = conversation.last_results[-1]
    return say(f"{last.stdout.strip()} after {len(conversation.turn_calls)} calls, code {last.exit_code}")


async def test_a_callback_decides_from_what_the_tools_returned() -> None:
    for script in (decide, [respond(decide), respond(decide)]):
        async with served(script) as post:
            asked = (await post("/responses", responses_body(USER))).json()["output"]
            output = {**OUTPUT, "call_id": asked[0]["call_id"]}
            output["output"] = [{"stdout": "42\n", "stderr": "", "outcome": {"type": "exit", "exit_code": 3}}]
            assert await told(post, USER, *asked, output) == "42 after 1 calls, code 3"


async def test_unplayed_steps_are_named() -> None:
    async with ScriptedModel([say("first"), http_error(503), say("second")]) as model:
        with pytest.raises(AssertionError, match="first"):
            model.assert_consumed()
        client = openai.AsyncOpenAI(base_url=model.base_url, api_key=KEY, max_retries=0)
        await client.responses.create(model="scripted", input="Hello")
        with pytest.raises(AssertionError, match="503") as caught:
            model.assert_consumed()
        assert "first" not in str(caught.value)
        await client.close()


async def test_several_scripts_are_told_apart_by_model_name() -> None:
    async with ScriptedModel({"one": [say("1")], "two": [say("2")]}) as model:
        client = openai.AsyncOpenAI(base_url=model.base_url, api_key=KEY, max_retries=0)
        for name, text in (("one", "1"), ("two", "2")):
            assert (await client.responses.create(model=f"scripted:{name}", input="Hello")).output_text == text
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model="scripted", input="Hello")
        assert [model.id async for model in client.models.list()] == ["scripted:one", "scripted:two"]
        await client.close()


def test_a_script_file_is_loaded_or_refused_in_a_sentence(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from examples.scripted_model import say\nSCRIPT = [say('hi')]\n")
    assert load(script) == [say("hi")]
    script.write_text("OTHER = 1\n")
    with pytest.raises(SystemExit, match="neither SCRIPT nor SCRIPTS"):
        load(script)
    with pytest.raises(SystemExit, match="is not a file"):
        load(tmp_path / "nowhere.py")
