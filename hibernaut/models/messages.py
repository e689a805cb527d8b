"""What is said to an agent and what comes back."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from hibernaut.models.base import Model, Open
from hibernaut.models.people import Waiting

MAX_MESSAGE_BYTES = 1_000_000
"""A message's limit in bytes of UTF-8: one message with its envelope stays under Temporal's 2 MB a payload."""
MAX_MESSAGE_ID = 200
"""Characters of a message id."""

Delivery = Literal["queue", "steer", "interrupt"]


class SendRequest(Model):
    """The argument of the update and of the signal `send`."""

    text: str = Field(min_length=1)
    message_id: str | None = Field(default=None, min_length=1, max_length=MAX_MESSAGE_ID)
    """Deduplicates: a second message with the same id changes nothing. Minted by the agent when absent."""

    delivery: Delivery = "queue"
    """What happens while a turn runs: `queue` waits for its end; `steer` is told to the model before its next call, as
    part of the turn; `interrupt` ends the turn and begins the next one."""


class Ticket(Open):
    """Proof that a message is durable."""

    message_id: str
    position: int = 0
    """Messages before it in the inbox; 0 when it is next or already being worked on."""
    duplicate: bool = False
    """Whether this message id had been sent before."""


class AnswerState(StrEnum):
    """Where a message is on its way to an answer."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    """The model declined; `text` holds its words."""
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    """The turn ended without an answer; `text` says why."""
    UNKNOWN = "unknown"
    """No such message, or one answered so long ago that only the event log knows it."""


class Answer(Open):
    """The result of the query `answer`."""

    message_id: str
    state: AnswerState
    text: str = ""
    """The answer, whole unless `truncated`."""
    truncated: bool = False
    """Whether the rest of a long answer is to be read at the gateway."""
    paused_reason: str | None = None
    """Why nothing goes on at the moment, when the agent is paused."""
    waiting: Waiting | None = None
    """What the turn waits for at the moment, when it waits for a person, a time or a child agent."""
    segment_ref: str | None = None
    """The transcript segment that holds the whole answer."""
    turn: int = 0
    steps: int = 0
    """Model calls the turn took."""
