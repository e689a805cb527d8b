"""One suite for every wire: however a provider fails, the adapters classify it alike."""

import json
import socket
from typing import Any

import pytest
from pydantic import SecretStr

from activities.adapters.openai_chat import ChatAdapter
from activities.adapters.openai_client import Endpoint
from activities.adapters.openai_responses import ResponsesAdapter
from activities.errors import ContextOverflow, ModelError, ModelRejected, ModelUnavailable
from activities.items import message
from activities.ports.model import ModelInput
from examples.scripted_model import (
    context_overflow,
    cut_stream,
    garbage,
    hang,
    http_error,
    say,
    slow,
)
from tests.conformance.model_talk import KEY, Wire, open_adapter, refused, talking, unavailable


@pytest.fixture(params=["responses", "chat"])
def wire(request: pytest.FixtureRequest) -> Wire:
    return request.param


async def test_a_rate_limit_carries_its_retry_after(wire: Wire) -> None:
    script = [http_error(429, {"retry-after": "7"}), http_error(429, {"retry-after-ms": "1500"}), say("Now.")]
    async with talking(wire, script) as talk:
        assert (await unavailable(talk)).retry_after == 7.0
        assert (await unavailable(talk)).retry_after == 1.5
        assert (await talk.ask()).text == "Now."
        assert len(talk.model.requests) == 3


@pytest.mark.parametrize("value", ["soon", "-3", "nan", "inf", ""])
async def test_a_senseless_retry_after_is_ignored(wire: Wire, value: str) -> None:
    async with talking(wire, [http_error(429, {"retry-after": value})]) as talk:
        assert (await unavailable(talk)).retry_after is None


async def test_an_empty_purse_is_no_matter_of_waiting(wire: Wire) -> None:
    body = {"error": {"message": "You exceeded your current quota.", "type": "x", "code": "insufficient_quota"}}
    async with talking(wire, [http_error(429, body=body)]) as talk:
        assert "billing" in str(await refused(talk, ModelRejected))


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 529])
async def test_a_server_error_is_worth_a_retry(wire: Wire, status: int) -> None:
    async with talking(wire, [http_error(status, body="<html>oops</html>"), say("Now.")]) as talk:
        assert str(status) in str(await unavailable(talk))
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
        assert "timeout_s" in str(await unavailable(talk))


async def test_a_slow_answer_outlives_the_limit_of_silence(wire: Wire) -> None:
    text = "One piece, another piece, and then a third piece, and a fourth, and so on to the end." * 2
    async with talking(wire, [slow(text, 0.25)], timeout_s=1.5) as talk:
        assert (await talk.ask()).text == text


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("after", [10, 2500])
async def test_a_cut_stream_is_worth_a_retry(wire: Wire, after: int, *, clean: bool) -> None:
    async with talking(wire, [cut_stream(after, clean=clean), say("Whole.")]) as talk:
        await unavailable(talk)
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
        await unavailable(talk)
        assert (await talk.ask()).text == "Whole."


async def test_a_stream_that_ends_early_is_said_so(wire: Wire) -> None:
    async with talking(wire, [garbage("")]) as talk:
        assert "ended before" in str(await unavailable(talk))


async def test_a_body_that_is_no_stream_is_worth_a_retry(wire: Wire) -> None:
    async with talking(wire, [garbage('{"object": "list"}', "application/json"), say("Whole.")]) as talk:
        await unavailable(talk)
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


async def test_nobody_at_the_address_is_worth_a_retry(wire: Wire) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        adapter = open_adapter(wire, f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        with pytest.raises(ModelUnavailable, match="cannot be reached"):
            await adapter.call(ModelInput("scripted", [message("user", "Hi")], "k"), lambda _: None)
        await adapter.close()


async def test_the_key_is_in_no_representation(wire: Wire) -> None:
    endpoint = Endpoint(name="main", api_key=SecretStr(KEY), default_headers={"x-key": "header-secret"})
    adapter = ChatAdapter(endpoint) if wire == "chat" else ResponsesAdapter(endpoint)
    for shown in (repr(endpoint), str(endpoint), repr(adapter), repr(vars(adapter))):
        assert KEY not in shown
        assert "header-secret" not in shown
    await adapter.close()
