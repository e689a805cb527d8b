"""What the Responses API would say to a request."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from openai.types.responses import response_create_params as params
from openai.types.responses.response_input_item_param import ResponseInputItemParam
from openai.types.responses.tool_param import ToolParam

from examples.scripted_model.typed import ApiError, by_literal, check

_ID_PREFIX = {"message": "msg", "function_call": "fc", "reasoning": "rs"}
_CALLS = {"shell_call": "shell call", "function_call": "function call"}
_INVALID_CALL_EXIT = 254


def check_responses(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Raise an ApiError, or return the input items.

    Raises:
        ApiError: what the real API would refuse.
    """
    rest = {key: value for key, value in body.items() if key not in {"input", "tools"}}
    kind = params.ResponseCreateParamsStreaming if body.get("stream") else params.ResponseCreateParamsNonStreaming
    check(rest, kind, "")
    for name in ("previous_response_id", "conversation", "prompt", "background"):
        if body.get(name):
            raise ApiError(400, f"The scripted model keeps nothing: '{name}' is not supported.", param=name)
    if not body.get("model"):
        raise ApiError(400, "Missing required parameter: 'model'.", code="missing_required_parameter", param="model")
    for index, tool in enumerate(_array(body.get("tools"), "tools")):
        _check_member(tool, ToolParam, "type", f"tools[{index}]")
    given = body.get("input")
    if isinstance(given, str) and given:
        return [{"type": "message", "role": "user", "content": given}]
    items = _array(given, "input")
    if not items:
        message = "One of 'input' or 'previous_response_id' or 'prompt' or 'conversation' must be provided."
        raise ApiError(400, message, code="missing_required_parameter", param="input")
    for index, item in enumerate(items):
        _check_item(item, f"input[{index}]", stored=body.get("store") is not False)
    _check_calls(items)
    return items


def _array(value: object, where: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ApiError(400, f"Invalid type for '{where}': expected an array.", code="invalid_type", param=where)
    items = cast("list[object]", value)
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            where = f"{where}[{index}]"
            raise ApiError(400, f"Invalid type for '{where}': expected an object.", code="invalid_type", param=where)
    return cast("list[dict[str, Any]]", items)


def _check_member(value: Mapping[str, Any], union: object, field: str, where: str) -> None:
    named = str(value.get(field) or "")
    members = by_literal(union, field).get(named)
    if not members:
        known = ", ".join(f"'{name}'" for name in sorted(by_literal(union, field)) if name)
        message = f"Invalid value: '{named}'. Supported values are: {known}."
        raise ApiError(400, message, code="invalid_value", param=f"{where}.{field}")
    errors: list[ApiError] = []
    for member in members:
        try:
            check(value, member, where)
        except ApiError as error:
            errors.append(error)
        else:
            return
    # The member that came nearest is the one whose complaint lies deepest.
    raise max(errors, key=lambda error: (error.param or "").count("."))


def _check_item(item: Mapping[str, Any], where: str, *, stored: bool) -> None:
    _check_member(item, ResponseInputItemParam, "type", where)
    kind, ident = str(item.get("type", "message")), item.get("id")
    prefix = _ID_PREFIX.get(kind)
    if prefix and isinstance(ident, str) and not ident.startswith(prefix):
        message = f"Invalid '{where}.id': '{ident}'. Expected an ID that begins with '{prefix}'."
        raise ApiError(400, message, code="invalid_value", param=f"{where}.id")
    if kind == "reasoning" and not stored and not item.get("encrypted_content"):
        message = f"Item with id '{ident}' not found. Items are not persisted when `store` is set to false."
        raise ApiError(404, message, param="input")


def _check_calls(items: Sequence[Mapping[str, Any]]) -> None:
    seen: set[str] = set()
    calls: dict[str, Mapping[str, Any]] = {}
    answered: set[str] = set()
    for item in items:
        kind, ident = str(item.get("type", "message")), item.get("id")
        if isinstance(ident, str):
            if ident in seen:
                message = f"Duplicate item found with id {ident}. Remove duplicate items from your input and try again."
                raise ApiError(400, message, param="input")
            seen.add(ident)
        if kind in _CALLS:
            if item["call_id"] in calls:
                raise ApiError(400, f"Duplicate call_id {item['call_id']} found in input.", param="input")
            calls[item["call_id"]] = item
        elif kind.removesuffix("_output") in _CALLS and kind.endswith("_output"):
            _check_output(item, calls.get(item["call_id"]), answered)
            answered.add(item["call_id"])
    for call_id, item in calls.items():
        if call_id not in answered:
            raise ApiError(400, f"No tool output found for {_CALLS[item['type']]} {call_id}.", param="input")


def _check_output(item: Mapping[str, Any], call: Mapping[str, Any] | None, answered: set[str]) -> None:
    kind, call_id = str(item["type"]).removesuffix("_output"), item["call_id"]
    if call is None or call["type"] != kind:
        message = f"No tool call found for {_CALLS[kind]} output with call_id {call_id}."
        raise ApiError(400, message, param="input")
    if call_id in answered:
        raise ApiError(400, f"Duplicate tool output found for {_CALLS[kind]} {call_id}.", param="input")
    if kind != "shell_call":
        return
    asked, outputs = call["action"], item["output"]
    refused = len(outputs) == 1 and outputs[0]["outcome"].get("exit_code") == _INVALID_CALL_EXIT
    if len(outputs) != len(asked["commands"]) and not refused:
        message = f"Shell call {call_id} has {len(asked['commands'])} commands and {len(outputs)} outputs."
        raise ApiError(400, message, param="input")
    if asked.get("max_output_length") != item.get("max_output_length"):
        raise ApiError(400, f"max_output_length of shell call {call_id} must be echoed.", param="input")
