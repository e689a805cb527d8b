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
    """A model call returned; `data` has text_head, tool_calls, input_tokens, output_tokens, duration_ms."""
    COMMAND = "command"
    """A command ended; `data` is a CommandOutcome."""
    SNAPSHOT = "snapshot"
    """A snapshot is durable; `data` has number, added, changed, deleted, bytes_new, duration_ms, unchanged."""
    SANDBOX = "sandbox"
    """A sandbox was acquired; `data` has generation, host_id, sandbox_id, duration_ms."""
    RESTORED = "restored"
    """A snapshot was restored; `data` has number, files, bytes, duration_ms."""
    RECOVERY = "recovery"
    """Something was lost; `data` is a RecoveryReport."""
    FILE_PUT = "file_put"
    HIBERNATED = "hibernated"
    WOKE = "woke"
    INTERRUPTED = "interrupted"
    PAUSED = "paused"
    RESUMED = "resumed"
    TURN_FINISHED = "turn_finished"
    """`data` has message_id, state (an AnswerState), steps, duration_ms."""
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
