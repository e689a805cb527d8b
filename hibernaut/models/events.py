"""What happened, in order: the answer to the query `events` and the lines of `hibernaut follow`."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field, JsonValue

from hibernaut.models.base import Open


class EventKind(StrEnum):
    """What an event tells."""

    STARTED = "started"
    MESSAGE = "message"
    MESSAGE_REJECTED = "message_rejected"
    TURN_STARTED = "turn_started"
    REPLY = "reply"
    """A model call returned; `data` has text_head, tool_calls, input_tokens, output_tokens, duration_ms, branch, step,
    segment_ref."""
    COMMAND = "command"
    """A command ended; `data` is a CommandOutcome."""
    ARTIFACT = "artifact"
    """A file was published; `data` has artifact_id, name, size and sha256."""
    TOOL = "tool"
    """A call of a function tool, or of an MCP server, ended; `data` has call_id, tool, end (a word) and duration_ms."""
    SNAPSHOT = "snapshot"
    """A snapshot is durable; `data` has ref, number, added, changed, deleted, bytes_new, duration_ms, unchanged,
    branch, after_step."""
    SNAPSHOT_REFUSED = "snapshot_refused"
    """The files are more than the spec allows a snapshot; `data` has reason."""
    SANDBOX = "sandbox"
    """A sandbox was acquired; `data` has generation, host_id, sandbox_id, duration_ms."""
    DESTROYED = "destroyed"
    """A sandbox was destroyed; `data` has generation, host_id, sandbox_id, removed (containers), checked (what was
    looked for afterwards, how many and how many were found) and remnants (what is left)."""
    RESTORED = "restored"
    """A snapshot was restored; `data` has ref, number, files, bytes, duration_ms, branch, after_step."""
    RECOVERY = "recovery"
    """Something was lost; `data` is a RecoveryReport."""
    BUDGET = "budget"
    """Most of a limit is used up: `data` has period, kind, spent, limit (both in the kind's unit) and estimated; or
    limits were changed: `data` has changes (by name, each with `from` and `to`) and by."""
    COMPACTED = "compacted"
    """A summary takes the place of older steps when the model is asked; `data` has ref, covers_branch, covers_step,
    steps, tokens_before, tokens_after (an estimate), input_tokens, output_tokens, summary_head, duration_ms."""
    COMPACTION_FAILED = "compaction_failed"
    """The agent goes on without; `data` has reason."""
    FILE_PUT = "file_put"
    NETWORK = "network"
    """Connections to a host were allowed or refused; `data` has call_id, host, port, allowed, reason and count; or how
    many `more` connections there were."""
    NETWORK_CHANGED = "network_changed"
    """The rules of the allowlist were changed; `data` has allowed, denied, rules (how many hold) and by."""
    WAITING = "waiting"
    """A call waits for consent, an answer, a time or a child agent; `data` is a Waiting."""
    DECIDED = "decided"
    """It waits no more; `data` has call_id, kind, decision (a word), by and reason."""
    CHILD_STARTED = "child_started"
    """The agent started another one; `data` is a ChildStatus."""
    CHILD_ENDED = "child_ended"
    """Its task has ended; `data` is a ChildStatus."""
    HIBERNATED = "hibernated"
    WOKE = "woke"
    INTERRUPTED = "interrupted"
    PAUSED = "paused"
    RESUMED = "resumed"
    TURN_FINISHED = "turn_finished"
    """`data` has message_id, state (an AnswerState), steps, duration_ms."""
    FORKED = "forked"
    """The agent began as a fork; `data` has agent_id, agent_uid, branch and step of the other, and the `checkpoint`
    that it begins with."""
    REWOUND = "rewound"
    """A branch begins at an earlier step; `data` has branch, from_branch, left_branch, left_newest (the last step of
    that branch whose effects are durable; -1: none), discarded, step and the `checkpoint`."""
    REWIND_FAILED = "rewind_failed"
    """`data` has branch: the one that it was to open."""
    CLOSED = "closed"


class Event(Open):
    """One thing that happened."""

    seq: int
    """1 for the first event of an agent, then without gaps."""
    at: datetime
    kind: EventKind
    turn: int = 0
    step: int = 0
    summary: str
    """One line for people."""
    data: dict[str, JsonValue] = Field(default_factory=dict)


class EventsPage(Open):
    """The events after a sequence number, as far as the workflow still holds them."""

    events: tuple[Event, ...]
    first_held: int
    """Events before this number are in the store, and read through the gateway."""
    last: int
