"""Translates a conversation of Responses items into Chat Completions messages."""

import json
from collections.abc import Sequence
from typing import Any, Literal, cast

from activities.adapters.openai_client import Json, objects
from activities.adapters.tool_calls import SHELL
from activities.ports.model import Item


def messages(items: Sequence[Item], developer_role: Literal["system", "developer", "user"]) -> list[Json]:
    """The messages for a conversation, whichever wire its replies came over.

    Chat wants the answers right behind the message that made the calls: what stands between is put off.
    """
    builder = _Builder(developer_role)
    for item in items:
        builder.add(item)
    return builder.finish()


class _Builder:
    def __init__(self, developer_role: Literal["system", "developer", "user"]) -> None:
        self._role = developer_role
        self._messages: list[Json] = []
        self._reply: Json | None = None
        self._open: set[str] = set()
        self._put_off: list[Json] = []

    def add(self, item: Item) -> None:
        match item.get("type", "message"):
            case "message" if item.get("role") == "assistant":
                self._said(item)
            case "message":
                self._given(item)
            case "shell_call" | "function_call":
                self._called(item)
            case "shell_call_output" | "function_call_output":
                self._answered(item)
            case _:
                # Reasoning and whatever else one provider alone understands.
                pass

    def finish(self) -> list[Json]:
        self._messages.extend(self._put_off)
        # A reply may have been empty, which Chat does not take back.
        return [said for said in self._messages if said.get("content") is not None or said.get("tool_calls")]

    def _given(self, item: Item) -> None:
        self._reply = None
        role = str(item.get("role"))
        if role == "developer":
            role = self._role
            if role == "user" and not self._messages:
                role = "system"
        message = {"role": role, "content": _text(item.get("content"))}
        (self._put_off if self._open else self._messages).append(message)

    def _said(self, item: Item) -> None:
        parts = objects(item.get("content"))
        text = _text(item.get("content"))
        refusal = "".join(str(part.get("refusal", "")) for part in parts if part.get("type") == "refusal")
        reply = self._assistant()
        if text:
            reply["content"] = f"{reply['content']}\n\n{text}" if reply["content"] else text
        if refusal:
            # Few providers know the field `refusal`; as content every one understands it.
            reply["content"] = f"{reply['content'] or ''}{refusal}"

    def _called(self, item: Item) -> None:
        call_id = str(item["call_id"])
        name, arguments = SHELL, _arguments(item)
        if item.get("type") == "function_call":
            name = str(item.get("name", SHELL))
        call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        self._assistant().setdefault("tool_calls", []).append(call)
        self._open.add(call_id)

    def _assistant(self) -> Json:
        if self._reply is None:
            self._reply = {"role": "assistant", "content": None}
            self._messages.append(self._reply)
        return self._reply

    def _answered(self, item: Item) -> None:
        self._reply = None
        call_id = str(item["call_id"])
        self._messages.append({"role": "tool", "tool_call_id": call_id, "content": _output(item)})
        self._open.discard(call_id)
        if not self._open:
            self._messages.extend(self._put_off)
            self._put_off = []


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in objects(content) if part.get("type") != "refusal")


def _arguments(item: Item) -> str:
    if item.get("type") == "shell_call":
        action = cast("Json", item["action"])
        return json.dumps({name: value for name, value in action.items() if value is not None}, ensure_ascii=False)
    raw = str(item.get("arguments", ""))
    try:
        loaded: object = json.loads(raw)
    except (ValueError, RecursionError):
        loaded = None
    # Some providers parse the arguments of the past, and refuse the request for those that were malformed.
    return raw if isinstance(loaded, dict) else json.dumps({"malformed": raw}, ensure_ascii=False)


def _output(item: Item) -> str:
    if item.get("type") == "function_call_output":
        return _text(item.get("output"))
    outputs = [_native(output) for output in objects(item.get("output"))]
    return json.dumps({"outputs": outputs}, ensure_ascii=False)


def _native(output: Json) -> Json:
    outcome: Any = output.get("outcome") or {}
    return {
        "stdout": output.get("stdout", ""),
        "stderr": output.get("stderr", ""),
        "exit_code": outcome.get("exit_code"),
        "outcome": outcome.get("type"),
        "timed_out": outcome.get("type") == "timeout",
    }
