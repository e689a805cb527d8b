"""JSON that every side can carry: what a model or a tool wrote is checked before it enters a history."""

import json
import math
from typing import cast

from pydantic import JsonValue

MAX_DEPTH = 64
"""Levels of arrays and objects; parsers give up at 200 and more."""
LARGEST = 2**63
"""Integers beyond are no numbers to most languages."""


def loaded(text: str | bytes) -> JsonValue:
    """Parse JSON.

    Raises:
        ValueError: it is none, is nested too deeply, or holds a number that is not finite or has over 63 bits.
    """
    try:
        found: object = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError:
        raise ValueError("it is not valid JSON") from None
    return _checked(found, 0)


def size_of(value: JsonValue) -> int:
    """Bytes of a value as JSON."""
    return len(json.dumps(value, ensure_ascii=False).encode())


def _checked(value: object, depth: int) -> JsonValue:
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    match value:
        case str():
            # Half of a surrogate pair cannot be carried as UTF-8.
            return value.encode("utf-8", "replace").decode()
        case bool() | None:
            return value
        case int() if abs(value) >= LARGEST:
            raise ValueError("it holds an integer of more than 63 bits; write it as a string")
        case float() if not math.isfinite(value):
            raise ValueError("it holds a number that is not finite")
        case int() | float():
            return value
        case list():
            return [_checked(inner, depth + 1) for inner in cast("list[object]", value)]
        case dict():
            pairs = cast("dict[str, object]", value).items()
            return {name.encode("utf-8", "replace").decode(): _checked(inner, depth + 1) for name, inner in pairs}
        case _:
            raise ValueError("it is not JSON")
