"""The chain of an audit log: how a line is written, hashed and read, and how parts are named."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from pydantic import JsonValue, ValidationError

from hibernaut.models.audit import AuditHead, AuditLine

SEQ_DIGITS = 16
HASH_SHOWN = 32
MAX_TEXT = 512
"""Characters of a fact; there are as many as a table names."""
MAX_ITEMS = 100
MAX_DEPTH = 4
PART = re.compile(rf"(\d{{{SEQ_DIGITS}}})-([0-9a-f]{{{HASH_SHOWN}}})\.jsonl")


@dataclass(frozen=True, slots=True)
class Note:
    """What is to become a line."""

    at: datetime
    kind: str
    facts: Mapping[str, JsonValue]
    digests: Mapping[str, str]


class BadLine(ValueError):
    """A text is no line of an audit log as we write it."""


def agent_chain(uid: str) -> str:
    """The name of an agent's chain."""
    return f"agent:{uid}"


def host_chain(host_id: str) -> str:
    """The name of a host's chain."""
    return f"host:{host_id}"


def stamp(at: datetime) -> str:
    """A time as lines have it: UTC, always with microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def canonical(body: Mapping[str, object]) -> str:
    """The one way in which a line is written: sorted keys, no spaces, ASCII."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def write(chain: str, head: AuditHead, notes: Sequence[Note]) -> tuple[str, AuditHead]:
    """The text of the lines that follow a head, and the head afterwards."""
    lines: list[str] = []
    for note in notes:
        body: dict[str, object] = {
            "format": "hibernaut-audit/1",
            "chain": chain,
            "seq": head.seq + 1,
            "at": stamp(note.at),
            "kind": note.kind,
            "facts": within(dict(note.facts)),
            "digests": within(dict(note.digests)),
            "prev": head.hash,
        }
        digest = _hash(body)
        lines.append(canonical(body | {"hash": digest}))
        head = head.model_copy(update={"seq": head.seq + 1, "hash": digest})
    return "".join(f"{line}\n" for line in lines), head


def read(text: str) -> AuditLine:
    """One line, without its line feed.

    Raises:
        BadLine: it is not as it was written, with the reason.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise BadLine("it is no JSON") from None
    if not isinstance(body, dict):
        raise BadLine("it is no JSON object")
    fields = cast("dict[str, object]", body)
    try:
        line = AuditLine.model_validate(fields)
        same = canonical(fields) == text and stamp(line.at) == fields["at"]
    except (ValidationError, ValueError, OverflowError):
        raise BadLine("its fields are not those of a line") from None
    if not same:
        raise BadLine("it is not written the one way in which lines are written")
    if _hash({name: value for name, value in fields.items() if name != "hash"}) != line.hash:
        raise BadLine("its hash is not that of its content")
    return line


def part_name(first: int, head: AuditHead) -> str:
    """The name of the part that begins with a line and ends with a head."""
    return f"{first:0{SEQ_DIGITS}d}-{head.hash[:HASH_SHOWN]}.jsonl"


def _hash(body: Mapping[str, object]) -> str:
    return hashlib.sha256(canonical(body).encode("ascii")).hexdigest()


def within(value: Any, depth: int = 0) -> Any:  # noqa: ANN401  # JSON of any shape
    """The same within bounds, for a model or a proxy may have chosen it; without fractions, written in many ways."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if isinstance(value, dict | list | tuple) and depth > MAX_DEPTH:
        return "..."
    if isinstance(value, dict):
        items = list(cast("dict[object, object]", value).items())[:MAX_ITEMS]
        return {str(name)[:MAX_TEXT]: within(item, depth + 1) for name, item in items}
    if isinstance(value, list | tuple):
        return [within(item, depth + 1) for item in cast("list[object]", value)[:MAX_ITEMS]]
    return value
