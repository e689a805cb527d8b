"""Writes a reply as the Responses API does: whole, or as the events of a stream."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, cast

from examples.scripted_model.conversation import Conversation
from examples.scripted_model.steps import CallSpec, Reply

Json = dict[str, Any]
_PIECE = 24
_MAX_PIECES = 200


def ident(prefix: str, conversation: Conversation, what: object) -> str:
    """An id that is the same whenever the same reply is asked for again."""
    digest = hashlib.sha256(f"{conversation.key}\0{conversation.replies}\0{what}".encode()).hexdigest()
    return f"{prefix}_{digest[:32]}"


def tokens(value: object) -> int:
    """How many tokens a value is taken to have: a quarter of its characters as JSON."""
    return max(1, len(json.dumps(value)) // 4)


def pieces(text: str) -> list[str]:
    """A text, cut as a stream cuts it; a long one into longer pieces."""
    size = max(_PIECE, len(text) // _MAX_PIECES)
    return [text[at : at + size] for at in range(0, len(text), size)]


def response(reply: Reply, conversation: Conversation, body: Mapping[str, Any]) -> Json:
    """The finished response object."""
    output = _output(reply, conversation)
    spent = tokens(output)
    asked = tokens(body.get("input"))
    return {
        **_frame(reply, conversation, body),
        "status": "incomplete" if reply.incomplete else "completed",
        "incomplete_details": {"reason": reply.incomplete} if reply.incomplete else None,
        "completed_at": time.time(),
        "output": output,
        "usage": {
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": reply.cached, "cache_write_tokens": 0},
            "output_tokens": spent,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked + spent,
        }
        if reply.metered
        else None,
    }


def events(reply: Reply, conversation: Conversation, body: Mapping[str, Any]) -> Iterator[Json]:
    """The events of the streamed response, numbered."""
    for number, event in enumerate(_events(reply, conversation, body)):
        yield {**event, "sequence_number": number}


def _frame(reply: Reply, conversation: Conversation, body: Mapping[str, Any]) -> Json:
    return {
        "id": ident("resp", conversation, reply),
        "object": "response",
        "created_at": time.time(),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "model": conversation.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
    }


def _output(reply: Reply, conversation: Conversation) -> list[Json]:
    items: list[Json] = []
    if reply.reasoning:
        sealed = "sealed" if reply.reasoning_sealed else None
        rs = ident("rs", conversation, 0)
        items.append({"id": rs, "type": "reasoning", "summary": [], "encrypted_content": sealed})
    if reply.text or reply.refusal is not None:
        items.append(
            {
                "id": ident("msg", conversation, 0),
                "type": "message",
                "status": "incomplete" if reply.incomplete else "completed",
                "role": "assistant",
                "content": [_part(reply)],
            }
        )
    items.extend(_call(spec, conversation, index) for index, spec in enumerate(reply.calls))
    return items


def _part(reply: Reply) -> Json:
    if reply.refusal is not None:
        return {"type": "refusal", "refusal": reply.refusal}
    return {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}


def _call(spec: CallSpec, conversation: Conversation, index: int) -> Json:
    call_id = ident("call", conversation, index)[:29]
    if spec.arguments is not None:
        return {
            "id": ident("fc", conversation, index),
            "type": "function_call",
            "status": "completed",
            "call_id": call_id,
            "name": spec.name,
            "arguments": spec.arguments,
        }
    action = spec.action
    if action is None:
        action = {
            "commands": list(spec.commands),
            "timeout_ms": spec.timeout_ms,
            "max_output_length": spec.max_output_length,
        }
    return {
        "id": ident("sh", conversation, index),
        "type": "shell_call",
        "status": "completed",
        "call_id": call_id,
        "action": action,
        "environment": {"type": "local"},
    }


def _events(reply: Reply, conversation: Conversation, body: Mapping[str, Any]) -> Iterator[Json]:
    final = response(reply, conversation, body)
    frame = _frame(reply, conversation, body)
    yield {"type": "response.created", "response": frame}
    yield {"type": "response.in_progress", "response": frame}
    for index, item in enumerate(final["output"]):
        yield from _item_events(item, index)
    yield {"type": "response.incomplete" if reply.incomplete else "response.completed", "response": final}


def _item_events(item: Json, index: int) -> Iterator[Json]:
    at = {"output_index": index}
    yield {"type": "response.output_item.added", **at, "item": _begun(item)}
    if item["type"] == "message":
        yield from _message_events(item, at)
    elif item["type"] == "shell_call" and isinstance(item["action"], dict):
        commands: list[object] = cast("Json", item["action"]).get("commands") or []
        for number, command in enumerate(commands):
            which = {**at, "command_index": number}
            yield {"type": "response.shell_call_command.added", **which, "command": ""}
            for piece in pieces(str(command)):
                yield {"type": "response.shell_call_command.delta", **which, "delta": piece}
            yield {"type": "response.shell_call_command.done", **which, "command": str(command)}
    elif item["type"] == "function_call":
        which = {**at, "item_id": item["id"]}
        for piece in pieces(item["arguments"]):
            yield {"type": "response.function_call_arguments.delta", **which, "delta": piece}
        yield {"type": "response.function_call_arguments.done", **which, "arguments": item["arguments"]}
    yield {"type": "response.output_item.done", **at, "item": item}


def _begun(item: Json) -> Json:
    if item["type"] == "reasoning":
        return item
    begun: Json = {**item, "status": "in_progress"}
    match item["type"]:
        case "message":
            begun["content"] = []
        case "shell_call":
            begun["action"] = {"commands": []}
        case _:
            begun["arguments"] = ""
    return begun


def _message_events(item: Json, at: Json) -> Iterator[Json]:
    part = item["content"][0]
    which = {**at, "item_id": item["id"], "content_index": 0}
    field = "refusal" if part["type"] == "refusal" else "text"
    name = "response.refusal" if field == "refusal" else "response.output_text"
    extra: Json = {} if field == "refusal" else {"logprobs": []}
    yield {"type": "response.content_part.added", **which, "part": {**part, field: ""}}
    for piece in pieces(part[field]):
        yield {"type": f"{name}.delta", **which, **extra, "delta": piece}
    yield {"type": f"{name}.done", **which, **extra, field: part[field]}
    yield {"type": "response.content_part.done", **which, "part": part}
