"""What is asked of a schedule, and what it says of itself."""

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import JsonValue

from hibernaut.models.base import Open


class OverlapPolicy(StrEnum):
    """What happens when a firing is due while an earlier one of the same schedule is open; Temporal's names."""

    SKIP = "skip"
    """It is left out."""
    BUFFER_ONE = "buffer_one"
    """It waits for the end of the open one; further ones are left out while it does."""
    BUFFER_ALL = "buffer_all"
    """It waits, and so do all that come after it; the server keeps at most 1,000."""
    CANCEL_OTHER = "cancel_other"
    """The open one is cancelled: its turn is interrupted. Then this one starts."""
    TERMINATE_OTHER = "terminate_other"
    """The open one is ended at once; this one interrupts the turn that is left of it."""
    ALLOW_ALL = "allow_all"
    """It starts beside the open one. Messages to one agent still wait for each other in its inbox."""


class FiringState(StrEnum):
    """What became of a firing."""

    BUFFERED = "buffered"
    """Due, and waiting for an earlier one to end."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    SKIPPED = "skipped"
    """Due, and left out: by the overlap policy, by a pause, or because the server was down beyond the window."""
    FORGOTTEN = "forgotten"
    """It ran so long ago that the server has deleted its history."""


class Firing(Open):
    """One firing of a schedule."""

    scheduled_at: datetime
    """The nominal time: what the cron expression says, or when it was triggered; jitter not counted."""
    started_at: datetime | None = None
    """None: not started."""
    state: FiringState
    code: str = ""
    """Of a failed one: the stable name of the reason, such as `AgentNotFound` or `TurnFailed`."""
    text: str = ""
    """The answer's beginning; why it failed; what it waits for."""
    agent_id: str | None = None
    message_id: str | None = None
    workflow_id: str | None = None
    """In Temporal, where all of it is to be seen."""


class ScheduleSummary(Open):
    """A line of the list of schedules."""

    name: str
    cron: str
    timezone: str
    agent_id: str | None
    """The agent it sends to; None when each firing starts a fresh one."""
    paused: bool
    note: str = ""
    next_at: datetime | None = None
    """None when it is not to fire again."""
    last_at: datetime | None = None
    """When it started a firing last."""


class ScheduleStatus(Open):
    """Everything there is to say of a schedule."""

    name: str
    cron: str
    timezone: str
    message: str
    agent_id: str | None = None
    spec: dict[str, JsonValue] | None = None
    """Of the agents that its firings start; None when they send to `agent_id`."""
    keep: int | None = None
    """How many of those agents are kept; None: all of them."""
    overlap: OverlapPolicy
    catchup_window: timedelta
    jitter: timedelta
    run_timeout: timedelta | None = None
    paused: bool
    note: str = ""
    created_at: datetime
    next: tuple[datetime, ...] = ()
    """When the next ten firings are due, jitter included."""
    recent: tuple[Firing, ...] = ()
    """The newest ten that started, and what was left out since the first of them; the newest first."""
    firings: int = 0
    """How many were started so far."""
    waiting: int = 0
    """How many wait for the end of an open one: those that are due, and those that were triggered or backfilled."""
    skipped: int = 0
    """How many the overlap policy left out."""
    missed: int = 0
    """How many were due while the server was down, longer ago than the catch-up window."""
