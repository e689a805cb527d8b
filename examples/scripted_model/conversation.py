"""What a script sees of a request: the conversation so far, the same over both wires."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

Wire = Literal["responses", "chat"]


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What the model was told of one command."""

    stdout: str
    stderr: str
    exit_code: int | None
    timed_out: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of an earlier reply, and what came of it."""

    call_id: str
    commands: tuple[str, ...]
    results: tuple[CommandResult, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """A message of anyone."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A request, parsed."""

    model: str
    wire: Wire
    entries: tuple[Said | Call, ...]
    """Everything said and called, in order."""
    replies: int
    """How many replies the model has given so far."""

    @property
    def key(self) -> str:
        """Identifies the conversation: its model and the first message of its user."""
        first = next((said.text for said in self.said("user")), "")
        return hashlib.sha256(f"{self.model}\0{first}".encode()).hexdigest()[:24]

    @property
    def calls(self) -> tuple[Call, ...]:
        """All tool calls, oldest first."""
        return tuple(entry for entry in self.entries if isinstance(entry, Call))

    @property
    def last_user(self) -> str:
        """The newest message of the user."""
        texts = self.said("user")
        return texts[-1].text if texts else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """Developer and system messages, oldest first."""
        return tuple(said.text for said in self.said("developer", "system"))

    @property
    def turn(self) -> tuple[Said | Call, ...]:
        """What came after the newest message of the user."""
        for index in range(len(self.entries) - 1, -1, -1):
            entry = self.entries[index]
            if isinstance(entry, Said) and entry.role == "user":
                return self.entries[index + 1 :]
        return self.entries

    @property
    def turn_calls(self) -> tuple[Call, ...]:
        """The tool calls since the newest message of the user."""
        return tuple(entry for entry in self.turn if isinstance(entry, Call))

    @property
    def last_results(self) -> tuple[CommandResult, ...]:
        """What the newest tool call came to."""
        return self.calls[-1].results if self.calls else ()

    def said(self, *roles: str) -> tuple[Said, ...]:
        """The messages of these roles, oldest first."""
        return tuple(entry for entry in self.entries if isinstance(entry, Said) and entry.role in roles)


class Builder:
    """Collects entries; a reply is an unbroken run of what the model made."""

    def __init__(self) -> None:
        self._entries: list[Said | Call] = []
        self._index: dict[str, int] = {}
        self._replies = 0
        self._in_reply = False

    def reply(self) -> None:
        """What follows was made by the model."""
        if not self._in_reply:
            self._replies += 1
        self._in_reply = True

    def given(self) -> None:
        """What follows was given to the model."""
        self._in_reply = False

    def say(self, role: str, text: str) -> None:
        """Add a message."""
        self._entries.append(Said(role, text))

    def call(self, call_id: str, commands: Sequence[str]) -> None:
        """Add a tool call."""
        self._index[call_id] = len(self._entries)
        self._entries.append(Call(call_id, tuple(commands)))

    def result(self, call_id: str, results: Sequence[CommandResult], error: str | None = None) -> None:
        """Add what a call came to."""
        index = self._index[call_id]
        entry = self._entries[index]
        if isinstance(entry, Call):
            self._entries[index] = replace(entry, results=tuple(results), error=error)

    def build(self, model: str, wire: Wire) -> Conversation:
        """The conversation."""
        return Conversation(model, wire, tuple(self._entries), self._replies)


def text_of(content: object) -> str:
    """The text of a message's content: a string or a list of parts."""
    if isinstance(content, str):
        return content
    parts = cast("list[Mapping[str, Any]]", content) if isinstance(content, list) else []
    return "".join(str(part.get("text", part.get("refusal", ""))) for part in parts)


def commands_of(arguments: str) -> tuple[str, ...]:
    """The commands in a function call's arguments; none when they are malformed."""
    try:
        loaded = json.loads(arguments)
    except ValueError:
        return ()
    commands = cast("dict[str, Any]", loaded).get("commands") if isinstance(loaded, dict) else None
    return tuple(str(c) for c in cast("list[object]", commands)) if isinstance(commands, list) else ()


def results_of(output: str) -> tuple[tuple[CommandResult, ...], str | None]:
    """What a function call's output says."""
    try:
        loaded = cast("dict[str, Any]", json.loads(output))
        outputs = cast("list[dict[str, Any]]", loaded.get("outputs", []))
        results = tuple(
            CommandResult(
                str(one.get("stdout", "")), str(one.get("stderr", "")), one.get("exit_code"), bool(one.get("timed_out"))
            )
            for one in outputs
        )
        return results, cast("str | None", loaded.get("error"))
    except (ValueError, AttributeError):
        return (CommandResult(output, "", None, timed_out=False),), None


def from_responses(model: str, items: Sequence[Mapping[str, Any]]) -> Conversation:
    """The conversation in a Responses request that was found valid."""
    build = Builder()
    for item in items:
        kind = item.get("type", "message")
        role = str(item.get("role", ""))
        if kind in {"shell_call", "function_call", "reasoning"} or (kind == "message" and role == "assistant"):
            build.reply()
        else:
            build.given()
        if kind == "message":
            build.say(role, text_of(item["content"]))
        elif kind == "shell_call":
            build.call(item["call_id"], item["action"]["commands"])
        elif kind == "function_call":
            build.call(item["call_id"], commands_of(item["arguments"]))
        elif kind == "shell_call_output":
            build.result(item["call_id"], [_native(one) for one in item["output"]])
        elif kind == "function_call_output":
            build.result(item["call_id"], *results_of(text_of(item["output"])))
    return build.build(model, "responses")


def from_chat(model: str, messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """The conversation in a Chat Completions request that was found valid."""
    build = Builder()
    for message in messages:
        role = str(message["role"])
        if role == "tool":
            build.given()
            build.result(message["tool_call_id"], *results_of(text_of(message["content"])))
            continue
        if role == "assistant":
            # Unlike items, every assistant message is a reply of its own.
            build.given()
            build.reply()
        else:
            build.given()
        text = text_of(message.get("content") or message.get("refusal") or "")
        if text:
            build.say(role, text)
        made: list[dict[str, Any]] = message.get("tool_calls") or []
        for call in made:
            build.call(call["id"], commands_of(call["function"]["arguments"]))
    return build.build(model, "chat")


def _native(output: Mapping[str, Any]) -> CommandResult:
    outcome = output["outcome"]
    return CommandResult(
        output["stdout"], output["stderr"], outcome.get("exit_code"), timed_out=outcome["type"] == "timeout"
    )
