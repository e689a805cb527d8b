"""Renders what happened as items of the OpenAI Responses format: the canonical form of a conversation.

The wire's reserved ways for what it has no field for are described in `docs/transcript-format.md`.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from pydantic import JsonValue, ValidationError

from activities.errors import ObjectNotFound, TranscriptDamaged
from activities.functions import Functions
from activities.ports.model import Item
from activities.ports.store import ObjectStore
from activities.records import ExecRecord, ExecutedCommand
from hibernaut.contracts import Instructions, NewItem, Note, ToolResult, UserMessage
from hibernaut.models import OutcomeKind

EXIT_CANCELLED = 250
EXIT_INTERRUPTED = 251
EXIT_UNKNOWN = 252
EXIT_NOT_RUN = 253
EXIT_INVALID_CALL = 254
_RETURNED_HEAD = 2_000

_SPECIAL: dict[OutcomeKind, tuple[int, str]] = {
    OutcomeKind.CANCELLED: (EXIT_CANCELLED, "cancelled: the command was stopped because the agent was to end"),
    OutcomeKind.INTERRUPTED: (EXIT_INTERRUPTED, "interrupted: the command was stopped before it ended"),
    OutcomeKind.UNKNOWN: (
        EXIT_UNKNOWN,
        "unknown: the command was started and its end was not seen; it may or may not have taken effect",
    ),
    OutcomeKind.NOT_RUN: (EXIT_NOT_RUN, "not run: the command was never started"),
}


async def render(new_items: Sequence[NewItem], store: ObjectStore, functions: Functions | None = None) -> list[Item]:
    """The items of the conversation for what happened since the last reply, in the same order.

    Raises:
        TranscriptDamaged: a text or an exec record is missing from the store or unreadable.
    """
    rendered = await asyncio.gather(*(_render(item, store, functions) for item in new_items))
    return [item for items in rendered for item in items]


async def _render(item: NewItem, store: ObjectStore, functions: Functions | None) -> list[Item]:
    match item:
        case Instructions():
            text = await _text(item.text, item.text_ref, store)
            return [message("developer", text)] if text else []
        case UserMessage():
            return [message("user", await _text(item.text, item.text_ref, store))]
        case Note():
            # For programs that read the transcript, the report follows in the schema of `docs/recovery.md`.
            report = f"\n{item.report.model_dump_json()}" if item.report else ""
            return [message("developer", f"{item.text}{report}")]
        case ToolResult():
            return [await _tool_result(item, store, functions)]


def message(role: str, text: str) -> dict[str, Any]:
    """A message to the model."""
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


async def _text(text: str, ref: str | None, store: ObjectStore) -> str:
    if ref is None:
        return text
    try:
        return (await store.get(ref)).decode("utf-8")
    except (ObjectNotFound, UnicodeDecodeError) as error:
        msg = f"The text of a message cannot be read from the store (key {ref!r}): {error}."
        raise TranscriptDamaged(msg) from error


async def _tool_result(result: ToolResult, store: ObjectStore, functions: Functions | None) -> Item:
    if result.function is not None:
        return _function(result.call_id, _returned(result.function, result.output, functions))
    if result.output is not None:
        return _function(result.call_id, result.output)
    if result.record_ref is not None:
        commands = (await load_record(result.record_ref, store)).commands
    else:
        commands = tuple(ExecutedCommand.from_outcome(outcome) for outcome in result.outcomes)
    if result.error is None and not commands:
        msg = f"The answer to tool call {result.call_id!r} holds neither a record, nor outcomes, nor an error."
        raise TranscriptDamaged(msg)
    if result.call_kind == "shell_call":
        return native_output(result.call_id, commands, result.error, result.max_output_length)
    return function_output(result.call_id, commands, result.error)


async def load_record(ref: str, store: ObjectStore) -> ExecRecord:
    """Read an exec record.

    Raises:
        TranscriptDamaged: it is missing or not an exec record.
    """
    try:
        return ExecRecord.model_validate_json(await store.get(ref))
    except ObjectNotFound as error:
        msg = f"The record of a tool call is missing from the store (key {ref!r})."
        raise TranscriptDamaged(msg) from error
    except ValidationError as error:
        msg = f"The record of a tool call (key {ref!r}) is damaged: {error.errors()[0]['msg']}."
        raise TranscriptDamaged(msg) from error


def native_output(
    call_id: str, commands: Sequence[ExecutedCommand], error: str | None, max_output_length: int | None
) -> Item:
    """The answer to a native shell call: one output a command, in order."""
    if error is not None:
        outputs = [_native("", f"[hibernaut] {error}\n", {"type": "exit", "exit_code": EXIT_INVALID_CALL})]
    else:
        outputs = [_native_command(command) for command in commands]
    item: dict[str, Any] = {"type": "shell_call_output", "call_id": call_id, "output": outputs}
    if max_output_length is not None:
        item["max_output_length"] = max_output_length
    return item


def function_output(call_id: str, commands: Sequence[ExecutedCommand], error: str | None) -> Item:
    """The answer to a function call: JSON with a field for everything."""
    if error is not None:
        return _function(call_id, {"error": error})
    return _function(call_id, {"outputs": [_function_command(command) for command in commands]})


def _native_command(command: ExecutedCommand) -> dict[str, Any]:
    lines: list[str] = []
    if command.kind is OutcomeKind.TIMEOUT:
        outcome: dict[str, Any] = {"type": "timeout"}
    elif command.kind is OutcomeKind.EXIT and command.exit_code is not None:
        outcome = {"type": "exit", "exit_code": command.exit_code}
    else:
        # An exit without a code was not seen to its end.
        code, line = _SPECIAL.get(command.kind, _SPECIAL[OutcomeKind.UNKNOWN])
        lines.append(line)
        outcome = {"type": "exit", "exit_code": code}
    if command.detail:
        lines.append(command.detail)
    if command.background:
        lines.append(f"still running in the background: {', '.join(command.background)}")
    gap = "" if not lines or not command.stderr or command.stderr.endswith("\n") else "\n"
    told = "".join(f"[hibernaut] {line}\n" for line in lines)
    return _native(command.stdout, f"{command.stderr}{gap}{told}", outcome)


def _native(stdout: str, stderr: str, outcome: dict[str, Any]) -> dict[str, Any]:
    return {"stdout": stdout, "stderr": stderr, "outcome": outcome}


def _function_command(command: ExecutedCommand) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "stdout": command.stdout,
        "stderr": command.stderr,
        "exit_code": command.exit_code if command.kind is OutcomeKind.EXIT else None,
        "outcome": command.kind.value,
        "timed_out": command.kind is OutcomeKind.TIMEOUT,
        "truncated": command.truncated,
        "duration_ms": command.duration_ms,
    }
    if command.detail:
        answer["detail"] = command.detail
    if command.background:
        answer["background"] = list(command.background)
    return answer


def _returned(name: str, output: JsonValue, functions: Functions | None) -> JsonValue:
    """What a function tool returned, unless it is not what its schema promises."""
    fault = functions.fault_of(name, output) if functions is not None else None
    if fault is None:
        return output
    told = (
        f"The tool {name} returned something else than its schema promises ({fault}); its own fault, not your call's."
    )
    return {"error": told, "returned": json.dumps(output, ensure_ascii=False)[:_RETURNED_HEAD]}


def _function(call_id: str, answer: JsonValue) -> Item:
    return {"type": "function_call_output", "call_id": call_id, "output": json.dumps(answer, ensure_ascii=False)}
