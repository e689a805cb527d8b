"""The answer to the query `status`."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from hibernaut.models.audit import AuditHead
from hibernaut.models.base import Lenient, Open
from hibernaut.models.checkpoints import Origin
from hibernaut.models.children import AgentParent, ChildStatus
from hibernaut.models.network_change import NetworkStatus
from hibernaut.models.people import Waiting
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
    """Tokens and what they cost, counted once for each reply that was kept."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_input_tokens: int = 0
    """Those of the input that the provider had cached."""
    cost_micros: int = 0
    """In millionths of a unit of `currency`, by the worker's price table as it was when the reply came."""
    unpriced_tokens: int = 0
    """Tokens of models for which the worker had no price: their cost is not in `cost_micros`."""
    currency: str = ""
    """Of the price table; empty when nothing had a price."""

    @property
    def tokens(self) -> int:
        """All tokens, whether or not the provider told their sum."""
        return self.total_tokens or self.input_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        """The sum, field by field."""
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            total_tokens=self.tokens + other.tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            cost_micros=self.cost_micros + other.cost_micros,
            unpriced_tokens=self.unpriced_tokens + other.unpriced_tokens,
            currency=other.currency or self.currency,
        )

    def times(self, number: int) -> "Usage":
        """The same so many times; none for zero."""
        return sum([self] * number, Usage())


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
    spec: Lenient[AgentSpec]
    turn: int
    """Turns begun so far."""
    steps: int
    """Model calls kept so far."""
    branch: int = 0
    """The line of steps that it is on; each rewind opens another."""
    rewinding: int | None = None
    """The branch that a rewind under way opens."""
    rewind_failure: str = ""
    """Why the newest rewind that was accepted came to nothing."""
    rewinds: dict[int, str] = Field(default_factory=dict[int, str])
    """What became of the newest rewinds, by the branch that each was to open: empty when it was opened."""
    forked_from: Origin | None = None
    parent: AgentParent | None = None
    """The agent that started this one."""
    children: tuple[ChildStatus, ...] = ()
    """Agents that this one started: those at work, and the newest that have ended."""
    inbox: int
    """Messages that wait."""
    waiting: Waiting | None = None
    """The call of the turn under way that waits for a person, a time or a child agent."""
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
    network: NetworkStatus | None = None
    """The network rules, once they were changed."""
    recovering: bool = False
    """Whether it is being found out what became of the sandbox, or another one is made; whatever `state` shows."""
    recoveries: int = 0
    last_recovery: RecoveryReport | None = None
    usage: Usage = Usage()
    """Of the replies that were kept."""
    usage_estimate: Usage = Usage()
    """What may have been paid beyond that: calls that a dead worker had begun, and calls that were given up."""
    transcript_ref: str | None = None
    compactions: int = 0
    """How often older steps of the conversation gave way to a summary."""
    born_at: datetime
    last_event: int
    """Sequence number of the newest event; 0 when there is none."""
    audit: AuditHead = AuditHead()
    """Where the agent's audit chain ends: a chain in the store that ends before it was cut."""
