"""Writes a reply as the Chat Completions API does: whole, or as the chunks of a stream."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from examples.scripted_model.conversation import Conversation
from examples.scripted_model.steps import CallSpec, Reply
from examples.scripted_model.write_responses import Json, ident, pieces, tokens


def completion(reply: Reply, conversation: Conversation, body: Mapping[str, Any]) -> Json:
    """The finished completion object."""
    message: Json = {"role": "assistant", "content": reply.text or None, "refusal": reply.refusal, "annotations": []}
    if reply.calls:
        message["tool_calls"] = _calls(reply, conversation)
    return {
        **_frame(reply, conversation, "chat.completion"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}],
        "usage": _usage(message, body, reply.cached),
    }


def chunks(reply: Reply, conversation: Conversation, body: Mapping[str, Any]) -> Iterator[Json]:
    """The chunks of the streamed completion; the usage comes last, when it was asked for."""
    frame = _frame(reply, conversation, "chat.completion.chunk")

    def chunk(delta: Json, finish: str | None = None) -> Json:
        return {**frame, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": "" if reply.text else None, "refusal": None})
    for piece in pieces(reply.text):
        yield chunk({"content": piece})
    for piece in pieces(reply.refusal or ""):
        yield chunk({"refusal": piece})
    for index, call in enumerate(_calls(reply, conversation)):
        name = call["function"]["name"]
        yield chunk({"tool_calls": [{**call, "index": index, "function": {"name": name, "arguments": ""}}]})
        for piece in pieces(call["function"]["arguments"]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, _finish(reply))
    options: Json = body.get("stream_options") or {}
    if options.get("include_usage") and reply.metered:
        message = {"content": reply.text, "refusal": reply.refusal, "tool_calls": _calls(reply, conversation)}
        yield {**frame, "choices": [], "usage": _usage(message, body, reply.cached)}


def _frame(reply: Reply, conversation: Conversation, kind: str) -> Json:
    return {
        "id": ident("chatcmpl", conversation, reply),
        "object": kind,
        "created": int(time.time()),
        "model": conversation.model,
        "service_tier": "default",
        "system_fingerprint": None,
    }


def _finish(reply: Reply) -> str:
    if reply.incomplete:
        return "content_filter" if reply.incomplete == "content_filter" else "length"
    return "tool_calls" if reply.calls else "stop"


def _usage(message: Json, body: Mapping[str, Any], cached: int) -> Json:
    asked, spent = tokens(body.get("messages")), tokens(message)
    return {
        "prompt_tokens": asked,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens": spent,
        "total_tokens": asked + spent,
    }


def _calls(reply: Reply, conversation: Conversation) -> list[Json]:
    return [
        {
            "id": ident("call", conversation, index)[:29],
            "type": "function",
            "function": {"name": spec.name, "arguments": _arguments(spec)},
        }
        for index, spec in enumerate(reply.calls)
    ]


def _arguments(spec: CallSpec) -> str:
    if spec.arguments is not None:
        return spec.arguments
    if spec.action is not None:
        return json.dumps(spec.action)
    arguments: Json = {"commands": list(spec.commands)}
    if spec.timeout_ms is not None:
        arguments["timeout_ms"] = spec.timeout_ms
    if spec.max_output_length is not None:
        arguments["max_output_length"] = spec.max_output_length
    return json.dumps(arguments)
