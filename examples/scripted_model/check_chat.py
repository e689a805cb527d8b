"""What the Chat Completions API would say to a request."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from openai.types.chat import completion_create_params as params
from openai.types.chat.chat_completion_message_param import ChatCompletionMessageParam
from openai.types.chat.chat_completion_tool_union_param import ChatCompletionToolUnionParam

from examples.scripted_model.typed import ApiError, by_literal, check


def check_chat(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Raise an ApiError, or return the messages.

    Raises:
        ApiError: what the real API would refuse.
    """
    known = params.CompletionCreateParamsBase.__annotations__.keys() | {"stream"}
    for name in body:
        if name not in known:
            raise ApiError(400, f"Unrecognized request argument supplied: {name}")
    kind = params.CompletionCreateParamsStreaming if body.get("stream") else params.CompletionCreateParamsNonStreaming
    messages, tools = body.get("messages"), body.get("tools")
    check({**{k: v for k, v in body.items() if k != "tools"}, "messages": []}, kind, "")
    if not isinstance(messages, list) or not messages:
        raise ApiError(
            400, "Invalid 'messages': empty array. Expected an array with minimum length 1.", param="messages"
        )
    if body.get("stream_options") is not None and not body.get("stream"):
        raise ApiError(400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
    if tools is not None:
        if not isinstance(tools, list) or not tools:
            raise ApiError(400, "Invalid 'tools': expected an array with minimum length 1.", param="tools")
        for index, tool in enumerate(cast("list[object]", tools)):
            _check_member(tool, ChatCompletionToolUnionParam, "type", f"tools[{index}]")
    for index, message in enumerate(cast("list[object]", messages)):
        _check_member(message, ChatCompletionMessageParam, "role", f"messages[{index}]")
    checked = cast("list[Mapping[str, Any]]", messages)
    _check_order(checked)
    return checked


def _check_member(value: object, union: object, field: str, where: str) -> None:
    if not isinstance(value, dict):
        raise ApiError(400, f"Invalid type for '{where}': expected an object.", code="invalid_type", param=where)
    named = str(cast("dict[str, object]", value).get(field) or "")
    members = by_literal(union, field).get(named)
    if not members:
        message = f"Invalid value: '{named}' for '{where}.{field}'."
        raise ApiError(400, message, code="invalid_value", param=f"{where}.{field}")
    check(cast("object", value), members[0], where)


def _check_order(messages: Sequence[Mapping[str, Any]]) -> None:
    open_calls: list[str] = []
    for index, message in enumerate(messages):
        where = f"messages.[{index}]"
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                text = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
                raise ApiError(400, f"Invalid parameter: {text}", param=f"{where}.role")
            open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            _unanswered(open_calls, f"{where}.role")
        if message["role"] == "assistant":
            made: list[dict[str, Any]] = message.get("tool_calls") or []
            called = [str(call["id"]) for call in made]
            if "tool_calls" in message and not called:
                raise ApiError(400, f"Invalid '{where}.tool_calls': empty array.", param=f"{where}.tool_calls")
            if not called and message.get("content") is None and message.get("refusal") is None:
                raise ApiError(400, "Invalid value for 'content': expected a string, got null.", param=where)
            if len(set(called)) != len(called):
                raise ApiError(400, f"Duplicate value for 'tool_call_id' in {where}.", param=where)
            open_calls = called
    if open_calls:
        _unanswered(open_calls, "messages")


def _unanswered(call_ids: Sequence[str], param: str) -> None:
    text = (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {', '.join(call_ids)}"
    )
    raise ApiError(400, text, param=param)
