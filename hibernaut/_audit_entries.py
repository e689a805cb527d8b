"""Which events of an agent become lines of its audit log, and what of them: the one table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydantic import JsonValue

from hibernaut.models.events import Event

DIGESTED = ("command_digest", "stdout_digest", "stderr_digest")
"""Digests that an activity made of the whole content, where an event shows only its beginning."""
SHOWN_COMMAND = 400
"""Characters of a command that its event has at most."""


@dataclass(frozen=True, slots=True)
class Told:
    """What an audit line tells of an event."""

    kind: str
    facts: tuple[str, ...] = ()
    """Fields of the event's data that are names, ids, numbers or words of the engine."""
    content: tuple[str, ...] = ()
    """Fields that are somebody's words: only their digest is told."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as an audit line tells it, before its content is digested."""

    event: Event
    kind: str
    facts: dict[str, JsonValue]
    content: dict[str, str]
    digests: dict[str, str]


_CHILD = ("agent_id", "state", "computer", "background")
_PLACE = ("agent_id", "agent_uid", "branch", "step")

AUDITED: Mapping[str, Told] = MappingProxyType(
    {
        "started": Told("agent.started", ("agent_uid",)),
        "forked": Told("agent.forked", _PLACE),
        "message": Told("message.accepted", ("message_id", "characters")),
        "message_rejected": Told("message.rejected"),
        "turn_started": Told("turn.started", ("message_id",)),
        "turn_finished": Told("turn.finished", ("message_id", "state", "steps")),
        "interrupted": Told("turn.interrupted", ("message_id", "state", "steps")),
        "reply": Told("model.replied", ("branch", "step", "tool_calls", "segment_ref")),
        "command": Told(
            "exec",
            ("exec_id", "kind", "exit_code", "stdout_bytes", "stderr_bytes", "truncated", "duration_ms"),
        ),
        "tool": Told("tool.called", ("call_id", "tool", "end")),
        "artifact": Told("artifact.published", ("artifact_id", "size"), ("name", "sha256")),
        "file_put": Told("file.put", ("size",), ("path",)),
        "waiting": Told("approval.asked", ("call_id", "kind", "tool", "agent_id"), ("text",)),
        "decided": Told("approval.decided", ("call_id", "kind", "decision", "by"), ("reason",)),
        "budget": Told("budget", ("changes", "by", "period", "kind", "spent", "limit")),
        "sandbox": Told("sandbox.acquired", ("generation", "host_id", "sandbox_id")),
        "snapshot": Told("snapshot.taken", ("ref", "number", "branch", "after_step", "unchanged", "bytes_new")),
        "snapshot_refused": Told("snapshot.refused", (), ("reason",)),
        "restored": Told("snapshot.restored", ("ref", "number", "branch", "after_step", "files")),
        "recovery": Told(
            "recovery",
            ("how", "host_id", "generation", "restored_snapshot", "requested_snapshot"),
            ("reason",),
        ),
        "compacted": Told("conversation.compacted", ("ref", "covers_branch", "covers_step", "steps")),
        "child_started": Told("child.started", _CHILD),
        "child_ended": Told("child.ended", _CHILD),
        "rewound": Told("agent.rewound", ("branch", "from_branch", "left_branch", "step", "discarded")),
        "rewind_failed": Told("agent.rewind_failed", ("branch",)),
        "destroyed": Told(
            "sandbox.destroyed", ("generation", "host_id", "sandbox_id", "removed", "checked", "remnants")
        ),
        "network": Told("network.decided", ("call_id", "host", "port", "allowed", "reason", "count", "more")),
        "network_changed": Told("network.changed", ("allowed", "denied", "rules", "by")),
        "hibernated": Told("agent.hibernated"),
        "woke": Told("agent.woke"),
        "paused": Told("agent.paused", ("by",), ("reason",)),
        "resumed": Told("agent.resumed", ("by",)),
        "closed": Told("agent.closed"),
    }
)
"""By an event's kind. What is not here is no line."""


def entry_of(event: Event) -> Entry | None:
    """What the audit log tells of an event; None for nothing."""
    told = AUDITED.get(event.kind)
    if told is None:
        return None
    data = event.data
    facts: dict[str, JsonValue] = {"event": event.seq, "turn": event.turn}
    facts |= {name: data[name] for name in told.facts if data.get(name) not in (None, "")}
    content = {name: str(data[name]) for name in told.content if data.get(name) not in (None, "")}
    digests = {name.removesuffix("_digest"): str(data[name]) for name in DIGESTED if data.get(name)}
    if event.kind == "command" and "command" not in digests and (command := str(data.get("command") or "")):
        # Its host was lost with it, and may have run it: nobody else tells what it was.
        content["command" if len(command) < SHOWN_COMMAND else "command_head"] = command
    return Entry(event, told.kind, facts, content, digests)


def entries(events: tuple[Event, ...]) -> Iterator[Entry]:
    """The same for all of them, in order."""
    return (entry for event in events if (entry := entry_of(event)) is not None)
