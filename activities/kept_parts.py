"""What a compaction keeps as it was said: instructions, the turn under way, recovery reports, the newest steps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from activities.compacted import Past, Pinned
from activities.items import message
from activities.ports.model import Item
from activities.summary import cut, text_of
from activities.transcript import Segment
from activities.unanswered import weight

REPORTS = 10
"""Recovery reports that stay in the conversation word for word."""
ENGINE = "[hibernaut]"
"""What the engine's own notes begin with."""
REPORT = f"{ENGINE} recovery report"
_LEAST = 500
"""Characters of a pinned message that are kept, however little room there is."""


@dataclass(frozen=True, slots=True)
class Room:
    """Characters that may be kept."""

    recent: int
    """Of the newest steps."""
    reports: int
    messages: int
    """Of the turn under way."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A conversation, divided."""

    covered: Sequence[Segment]
    """What the summary will stand for, but the last one's reply."""
    recent: Sequence[Segment]
    """What follows as it is."""
    pinned: tuple[Pinned, ...]
    reports_left_out: int


def divide(past: Past, room: Room) -> Parts | None:
    """Find the step up to which a conversation is summarised, and what of it is kept; None when there is none.

    The reply of the last covered step is kept too: what follows answers its calls.
    """
    segments = past.segments
    if not segments:
        return None
    border, size = len(segments) - 1, weight(segments[-1].reply_items)
    while border > 0:
        # One step more is left as it is, and the reply before it.
        size += weight(segments[border].new_items) + weight(segments[border - 1].reply_items)
        if size > room.recent:
            break
        border -= 1
    covered, recent = segments[: border + 1], segments[border + 1 :]
    old = past.compacted
    before = old.pinned if old is not None else ()
    reports = [one.item for one in before if one.why == "report"]
    reports += [item for item in _told(covered, "developer") if text_of(item).startswith(REPORT)]
    kept = _newest(reports, room.reports, REPORTS)
    pinned = (
        *_pinned("instructions", [*_of(before, "instructions"), *_instructions(covered)]),
        *_pinned("report", kept),
        *_pinned("message", _bounded(_turn(past, covered, recent), room.messages)),
    )
    left_out = len(reports) - len(kept) + (old.reports_left_out if old is not None else 0)
    return Parts(covered, recent, pinned, left_out)


def calling(items: Sequence[Item]) -> bool:
    """Whether a reply made tool calls."""
    return any(str(item.get("type")).endswith("_call") for item in items)


def _told(segments: Sequence[Segment], role: str) -> list[dict[str, Any]]:
    return [item for segment in segments for item in segment.new_items if item.get("role") == role]


def _instructions(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    return [item for item in _told(segments, "developer") if not text_of(item).startswith(ENGINE)]


def _turn(past: Past, covered: Sequence[Segment], recent: Sequence[Segment]) -> list[dict[str, Any]]:
    """The user's messages of the turn that the last covered step belongs to; none when it is over."""
    if recent and not calling(covered[-1].reply_items) and _told(recent[:1], "user"):
        return []
    old = past.compacted
    going_on = old is not None and old.calling
    start: int | None = None
    for index, segment in enumerate(covered):
        asked = any(item.get("role") == "user" for item in segment.new_items)
        if asked and not going_on:
            start = index
        going_on = calling(segment.reply_items)
    before = _of(old.pinned, "message") if start is None and old is not None else []
    return [*before, *_told(covered[start or 0 :], "user")]


def _of(pinned: Iterable[Pinned], why: str) -> list[dict[str, Any]]:
    return [one.item for one in pinned if one.why == why]


def _pinned(why: Any, items: Iterable[dict[str, Any]]) -> list[Pinned]:  # noqa: ANN401  # a literal of the model
    return [Pinned(why=why, item=item) for item in items]


def _newest(items: Sequence[dict[str, Any]], room: int, most: int) -> list[dict[str, Any]]:
    """The newest that fit, oldest first; of the very newest at least its head and tail."""
    kept: list[dict[str, Any]] = []
    for item in reversed(items[-most:]):
        size = weight([item])
        if size > room and kept:
            break
        kept.append(item if size <= room else _shortened(item, room))
        room -= size
    return kept[::-1]


def _bounded(items: Sequence[dict[str, Any]], room: int) -> list[dict[str, Any]]:
    """All of them; when they are too long together, each cut to its share."""
    if weight(items) <= room:
        return list(items)
    return [_shortened(item, room // len(items)) for item in items]


def _shortened(item: dict[str, Any], room: int) -> dict[str, Any]:
    text = text_of(item)
    return message(str(item.get("role")), cut(text, max(room, _LEAST)))
