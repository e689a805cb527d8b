"""From a model's items to tool calls. What a model says is hostile: it is checked, and told what is wrong."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from activities.ports.model import ToolSet
from activities.unanswered import ReplyUnusable
from hibernaut.models import ToolCall, Usage

SHELL = "shell"
"""Name of the function tool."""
MAX_COMMANDS = 50
MAX_CALLS = 128
_MAX_TIMEOUT_MS = 24 * 3600 * 1000
_CALL_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_FUNCTION_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_EXPECTED = '{"commands": [one or more strings], "timeout_ms": optional integer, "max_output_length": optional integer}'

Json = dict[str, Any]


class ShellArguments(BaseModel):
    """The arguments of the shell tool, the same over both wires."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    commands: Annotated[
        list[str],
        Field(min_length=1, max_length=MAX_COMMANDS, description="Shell commands, run one after the other."),
    ]
    timeout_ms: Annotated[
        int | None,
        Field(ge=1, le=_MAX_TIMEOUT_MS, description="Limit for each command in milliseconds; a default applies."),
    ] = None
    max_output_length: Annotated[
        int | None,
        Field(ge=1, le=10_000_000, description="Characters of each of stdout and stderr to return; a default applies."),
    ] = None


class FunctionArguments(ShellArguments):
    """The same with what only a function tool has room for."""

    safe_to_retry: Annotated[
        bool,
        Field(
            description="Whether these commands may be run a second time, should the computer be lost after they ran: "
            "true for what only reads, or ends the same when done twice."
        ),
    ] = False


FUNCTION_TOOL: Json = {
    "type": "function",
    "function": {
        "name": SHELL,
        "description": (
            "Run shell commands on your computer. Files, installed packages, the working directory and exported "
            "variables persist from command to command. Returns stdout, stderr and exit code of each command."
        ),
        "parameters": FunctionArguments.model_json_schema(),
    },
}


def tool_call(item: Json, offered: ToolSet | None = None) -> ToolCall | None:
    """The tool call in an item of a reply, or None when it is none; `offered`: the tools beside the shell.

    A call that cannot run has `error` set. The item itself is changed where it could not be sent again otherwise.
    """
    match item.get("type"):
        case "shell_call":
            return _native_call(item)
        case "function_call":
            return _function_call(item, offered)
        case _:
            return None


def clean(value: object) -> Any:  # noqa: ANN401  # JSON in, JSON out
    """A copy of a JSON value without lone surrogates, which no UTF-8 can carry."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [clean(inner) for inner in cast("list[object]", value)]
    if isinstance(value, dict):
        return {clean(key): clean(inner) for key, inner in cast("dict[object, object]", value).items()}
    return value


class CallIds:
    """Sees to it that every call of a conversation has an id of its own, fit for keys and labels.

    Some providers count from zero in every reply, or give none.
    """

    def __init__(self, history: Iterable[Mapping[str, Any]], seed: str, *, fresh: bool = False) -> None:
        """Prepare for a reply to a conversation.

        Args:
            history: the items of the conversation so far.
            seed: what fresh ids are derived from; the same on a retry.
            fresh: whether to keep none of those given.
        """
        self._fresh = fresh
        self._taken = {str(item["call_id"]) for item in history if item.get("call_id")}
        self._seed = seed

    def take(self, given: object) -> str:
        """The id given, or a fresh one when it is missing, taken or unfit."""
        fit = isinstance(given, str) and not self._fresh and _CALL_ID.fullmatch(given)
        call_id = given if isinstance(given, str) and fit else ""
        number = len(self._taken)
        while not call_id or call_id in self._taken:
            digest = hashlib.sha256(f"{self._seed}\0{number}".encode()).hexdigest()
            call_id, number = f"call_{digest[:24]}", number + 1
        self._taken.add(call_id)
        return call_id


def check_count(calls: int, usage: Usage) -> None:
    """Refuse a reply with more calls than a history can bear; `usage`: what it has cost.

    Raises:
        ReplyUnusable: there are too many; another attempt may do better.
    """
    if calls > MAX_CALLS:
        msg = f"The model asked for {calls} tool calls in one reply; at most {MAX_CALLS} are accepted."
        raise ReplyUnusable(msg, usage=usage)


def _native_call(item: Json) -> ToolCall:
    call_id = str(item["call_id"])
    action: object = item.get("action")
    fields = cast("Json", action) if isinstance(action, dict) else {}
    known = {name: fields.get(name) for name in ShellArguments.model_fields}
    arguments, error = _checked(lambda: ShellArguments.model_validate(known))
    # The provider would refuse an action of another shape when it is sent back; what was said is kept in it.
    said = {"commands": [json.dumps(action, ensure_ascii=False)[:2000]]}
    item["action"] = known if _sendable(known) else said
    item["environment"] = {"type": "local"}
    if item.get("status") == "incomplete":
        arguments, error = None, "The call was cut off before it was complete. Send it again, whole and shorter."
    echo = cast("Json", item["action"]).get("max_output_length")
    return _call(call_id, "shell_call", arguments, error, echo if isinstance(echo, int) else None)


def _sendable(fields: Json) -> bool:
    commands: object = fields.get("commands")
    texts = isinstance(commands, list) and all(isinstance(text, str) for text in cast("list[object]", commands))
    limits = (fields.get("timeout_ms"), fields.get("max_output_length"))
    return texts and all(value is None or type(value) is int for value in limits)


def _function_call(item: Json, offered: ToolSet | None) -> ToolCall:
    call_id, name, raw = str(item["call_id"]), str(item.get("name", "")), item.get("arguments")
    item["arguments"] = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False)
    if not _FUNCTION_NAME.fullmatch(name):
        item["name"] = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "unnamed"
    if name != SHELL:
        return _other_call(call_id, name, item["arguments"], offered)
    arguments, error = _checked(lambda: FunctionArguments.model_validate_json(item["arguments"]))
    return _call(call_id, "function_call", arguments, error, None)


def declared(offered: ToolSet | None, *, flat: bool = False) -> list[Json]:
    """The tools beside the shell as a wire declares them: Chat Completions, or `flat` as Responses."""
    tools = [*offered.declarations()] if offered is not None else []
    return [{"type": "function", "strict": False, **tool["function"]} for tool in tools] if flat else tools


def _other_call(call_id: str, name: str, arguments: str, offered: ToolSet | None) -> ToolCall:
    names = offered.names if offered is not None else ()
    if offered is None or name not in names:
        others = f" and {', '.join(names)}" if names else ""
        error = f"There is no tool named {name[:100]!r}. There is {SHELL!r}, with arguments {_EXPECTED}{others}."
        return ToolCall(call_id=call_id, kind="function_call", error=error)
    try:
        valid = clean(offered.checked(name, arguments))
        return ToolCall(call_id=call_id, kind="function_call", tool=name, arguments=valid)
    except (ValueError, RecursionError) as error:
        told = f"The arguments of the tool {name} are invalid ({error})."
        return ToolCall(call_id=call_id, kind="function_call", tool=name, error=told)


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(step) for step in first["loc"]) or "arguments"
    return f"{field}: {first['msg'][:300]}"


def _call(call_id: str, kind: str, arguments: ShellArguments | None, error: str | None, echo: int | None) -> ToolCall:
    if arguments is None:
        return ToolCall(call_id=call_id, kind=kind, max_output_length=echo, error=error)
    return ToolCall(
        call_id=call_id,
        kind=kind,
        commands=tuple(arguments.commands),
        timeout_ms=arguments.timeout_ms,
        max_output_length=arguments.max_output_length,
        retry_safe=isinstance(arguments, FunctionArguments) and arguments.safe_to_retry,
    )


def _checked(parse: Any) -> tuple[ShellArguments | None, str | None]:  # noqa: ANN401  # a thunk
    try:
        arguments = cast("ShellArguments", parse())
    except ValidationError as error:
        return None, f"The arguments of the shell tool are invalid ({_first_fault(error)}). Expected: {_EXPECTED}."
    for index, command in enumerate(arguments.commands):
        if "\0" in command:
            return (
                None,
                f"commands.{index} holds a NUL byte, which no shell accepts. Write it as an escape such as \\0.",
            )
        if _SURROGATE.search(command):
            return None, f"commands.{index} is not valid Unicode: it holds half of a surrogate pair."
    return arguments, None
