"""What happened, in a few lines: from the agent's own events."""

from collections import Counter
from collections.abc import Sequence

from examples.demo.screen import Screen, told
from hibernaut.cli.console import size
from hibernaut.models import Event, EventKind

_SHOWN = frozenset(
    {
        EventKind.FILE_PUT,
        EventKind.HIBERNATED,
        EventKind.RECOVERY,
        EventKind.RESTORED,
        EventKind.SANDBOX,
        EventKind.SNAPSHOT,
        EventKind.TURN_FINISHED,
    }
)


def show(screen: Screen, events: Sequence[Event]) -> None:
    """Print the timeline and its sums."""
    for event in events:
        if event.kind in _SHOWN:
            name, text = told(event)
            seconds = (event.at - events[0].at).total_seconds()
            screen.row(f"{seconds:5.1f} s", f"{name:<10}{text}")
    screen.row("in all", sums(events), "bold")


def sums(events: Sequence[Event]) -> str:
    """How many of what."""
    kinds = Counter(event.kind for event in events)
    stored = sum(int(str(event.data.get("bytes_new", 0))) for event in events if event.kind is EventKind.SNAPSHOT)
    counted = (
        (EventKind.TURN_FINISHED, "turn", ""),
        (EventKind.REPLY, "model call", ""),
        (EventKind.COMMAND, "command", ""),
        (EventKind.SNAPSHOT, "snapshot", f" ({size(stored)})"),
        (EventKind.SANDBOX, "container", ""),
        (EventKind.RECOVERY, "recovery", ""),
        (EventKind.HIBERNATED, "hibernation", ""),
    )
    return ", ".join(f"{_count(kinds[kind], name)}{more}" for kind, name, more in counted)


def _count(number: int, name: str) -> str:
    plural = f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"
    return f"{number} {name if number == 1 else plural}"
