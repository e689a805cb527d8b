"""The answer to the query `status`."""

from datetime import datetime
from enum import StrEnum

from hibernaut.models.base import Open
from hibernaut.models.spec import AgentSpec
from hibernaut.models.tools import RecoveryReport


class AgentState(StrEnum):
    """What an agent is doing; the search attribute `HibernautState`."""

    RUNNING = "running"
    WAITING_APPROVAL = "waiting_approval"
    IDLE = "idle"
    HIBERNATED = "hibernated"
    PAUSED = "paused"
    RECOVERING = "recovering"
    FAILED = "failed"
    CLOSED = "closed"


class Usage(Open):
    """Tokens, counted once for each reply that was kept."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """The sum, field by field."""
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
        )


class LeaseStatus(Open):
    """The sandbox an agent holds."""

    generation: int
    host_id: str
    task_queue: str
    sandbox_id: str
    """The container's id."""
    image_id: str
    started_at: str = ""
    """When the container was started, as the Docker daemon says it: differs after every restart."""
    lease_seconds: float = 20.0
    """How long the host goes on without word from Temporal before its watchdog freezes the sandbox."""


class SnapshotStatus(Open):
    """The newest durable snapshot."""

    ref: str
    """Key of its manifest in the object store."""
    number: int
    taken_at: datetime
    files: int = 0
    """Paths in the whole delta over the image."""
    bytes_total: int = 0
    bytes_new: int = 0
    """Bytes this snapshot added to the store."""
    duration_ms: int = 0
    capture: str = ""
    summary: str = ""
    """What changed, as a line: `snapshot 12: +3 ~1 -0 files, 41 KB in 35 ms`."""


class Trouble(Open):
    """An activity that failed and is tried again: why an agent that runs gets nowhere."""

    activity: str
    attempt: int
    """Number of the attempt under way or waited for."""
    reason: str
    """What the attempt before it said."""
    next_attempt_at: datetime | None = None
    """When the next attempt is due (UTC); none while one is under way."""


class AgentStatus(Open):
    """Everything one looks at first."""

    agent_id: str
    agent_uid: str
    state: AgentState
    paused_reason: str | None = None
    spec: AgentSpec
    turn: int
    """Turns begun so far."""
    steps: int
    """Model calls kept so far."""
    branch: int = 0
    inbox: int
    """Messages that wait."""
    current_message_id: str | None = None
    exec_prefix: str | None = None
    """The tool call whose commands run; `{exec_prefix}-i0` is the exec id of the first."""
    generation: int
    lease: LeaseStatus | None = None
    acquiring: LeaseStatus | None = None
    """The sandbox that is on its way, or may have been when an attempt failed; its container's id is not known yet."""
    snapshot: SnapshotStatus | None = None
    snapshots: int = 0
    """Snapshots taken so far, unchanged ones not counted."""
    recovering: bool = False
    """Whether it is being found out what became of the sandbox, or another one is made; whatever `state` shows."""
    recoveries: int = 0
    last_recovery: RecoveryReport | None = None
    usage: Usage = Usage()
    transcript_ref: str | None = None
    born_at: datetime
    last_event: int
    """Sequence number of the newest event; 0 when there is none."""
