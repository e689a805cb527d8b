"""What an MCP tool answered, as JSON for the model: bounded, without secrets, and honest about what is left out."""

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import JsonValue

from activities.ports.mcp import ToolAnswer
from hibernaut.contracts import McpCallResult, plain

MAX_FAILURE = 4_000
"""Characters of a failure that the model is told."""
_NAMED = 50
"""Blocks that are left out and named one by one."""


def rendered(answer: ToolAnswer, *, limit: int, hide: Callable[[str], str]) -> McpCallResult:
    """The result of a call.

    Text is joined; structured content stands beside it, or alone when the text says the same; images, audio and other
    binary content are named and left out.
    """
    texts, left_out = _sorted(answer)
    text = "\n".join(texts)
    if answer.is_error:
        told = text or (json.dumps(answer.structured) if answer.structured is not None else "it gave no reason")
        return McpCallResult(error=hide(told).encode("utf-8", "replace").decode()[:MAX_FAILURE])
    output: JsonValue = text
    if answer.structured is not None:
        output = _joined(text, cast("JsonValue", answer.structured))
    if left_out:
        named = left_out[:_NAMED] + ([f"and {len(left_out) - _NAMED} more"] if len(left_out) > _NAMED else [])
        output = {"text": text, "left_out": named}
        if answer.structured is not None:
            output["structured"] = cast("JsonValue", answer.structured)
    try:
        output = plain.loaded(hide(json.dumps(output, ensure_ascii=False)))
    except (ValueError, TypeError, RecursionError) as error:
        return McpCallResult(error=f"the server answered what is no plain JSON ({error}): its fault, not your call's")
    size = plain.size_of(output)
    return McpCallResult(output=output if size <= limit else _head(output, size, limit))


def _sorted(answer: ToolAnswer) -> tuple[list[str], list[JsonValue]]:
    """The texts of an answer, and a line for each block that is none."""
    texts: list[str] = []
    left_out: list[JsonValue] = []
    for block in answer.content:
        match block:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "resource", "resource": {"text": str(text), "uri": uri}}:
                texts.append(f"[{str(uri)[:500]}]\n{text}")
            case _:
                left_out.append(_named(block))
    return texts, left_out


def _named(block: Mapping[str, Any]) -> str:
    """A block that is not passed on, in a line."""
    kind = str(block.get("type"))[:40]
    inner = block.get("resource")
    source = cast("Mapping[str, Any]", inner) if isinstance(inner, Mapping) else block
    data = source.get("data") or source.get("blob")
    words = [kind, *(str(source[key])[:500] for key in ("name", "uri", "mimeType") if source.get(key))]
    if isinstance(data, str):
        words.append(f"{len(data) * 3 // 4} bytes")
    elif isinstance(size := source.get("size"), int):
        words.append(f"{size} bytes")
    return " ".join(words)


def _joined(text: str, structured: JsonValue) -> JsonValue:
    """Text and structured content as one; once when they say the same, as is recommended for older clients."""
    try:
        said: JsonValue = json.loads(text or "null")
    except (ValueError, RecursionError):
        said = text
    if isinstance(structured, dict) and structured.keys() == {"result"} and structured["result"] in (said, text):
        # Servers wrap a result that is no object of its own.
        return structured["result"]
    return structured if not text or said == structured else {"text": text, "structured": structured}


def _head(output: JsonValue, size: int, limit: int) -> JsonValue:
    """The beginning of what is too long."""
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    told = f"the result has {size} bytes, and only its beginning is shown; ask the tool for less"
    room = limit - 300
    head = text[:room]
    while (weight := plain.size_of(head)) > room:
        # A character takes up to six bytes as JSON.
        head = head[: max(len(head) * room // weight - 1, 0)]
    return {"text": head, "cut": told}
