"""The state of an agent: everything continue-as-new carries from run to run."""

from collections.abc import Iterable
from datetime import datetime
from typing import cast

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hibernaut.contracts import ModelReply, NewItem, RewindOrder, UserMessage
from hibernaut.models import (
    AgentParent,
    Answer,
    Checkpoint,
    Event,
    LeaseStatus,
    Origin,
    RecoveryReport,
    SnapshotStatus,
    Usage,
    Waiting,
)
from hibernaut.models.audit import AuditHead
from workflows.accounts import BudgetState
from workflows.dirty import Covered, DirtyCommand
from workflows.offspring import Offspring
from workflows.reach import Reach
from workflows.window import CompactionState

KEPT_ANSWERS = 32
KEPT_MESSAGE_IDS = 1_000
KEPT_COMMANDS = 50
"""Commands a recovery report names."""
KEPT_REWINDS = 10
KEPT_DIRTY = 1_000
"""Commands that are remembered while no snapshot can be taken."""
KEPT_COVERED = 10
"""Snapshots of which it is known what they hold."""
KEPT_WHOLE_ANSWERS = 4
KEPT_TEXT = 500
"""Characters of the answers before the newest ones."""
MAX_INBOX = 500
INLINE_MESSAGES = 10
"""Messages that may wait with their text; the texts of more go to the store."""


class CurrentTurn(BaseModel):
    """The turn under way; between its steps a run may end and the next go on."""

    model_config = ConfigDict(extra="ignore")

    message_id: str
    started_at: datetime
    steps: int = 0
    recoveries: int = 0
    """Since the turn began, or since a person resumed it after too many."""
    joined: list[str] = []
    """Ids of the messages that were told to the model while the turn ran: its answer is theirs too."""


class Decision(BaseModel):
    """What a person said to a call that waits."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    approved: bool = True
    text: str = ""
    """The answer, or why it is denied."""
    by: str = ""


class OpenReply(BaseModel):
    """A reply whose calls are not all answered yet; a run may end between two of them, and while one waits."""

    model_config = ConfigDict(extra="ignore")

    reply: ModelReply
    done: int = 0
    """Calls that are answered."""
    intact: bool = True
    """Whether the sandbox is still the one on which the model decided."""
    waiting: Waiting | None = None
    decision: Decision | None = None
    approved: bool = False
    """Whether the next call has a person's consent."""


class AgentRecord(BaseModel):
    """Mutable on purpose: the workflow's one variable. Bounded: lists are cut or kept in the store."""

    model_config = ConfigDict(extra="ignore")

    uid: str
    born_at: datetime

    turn: int = 0
    branch: int = 0
    step: int = 0
    """Number of the next model call."""
    ordinal: int = 0
    """Attempts of that step that were given up."""
    branches: int = 0
    """The highest number that a branch has, or was to have."""
    ran: int = -1
    """The newest step of the branch whose commands may have begun, or with which a turn has ended."""
    answered: Checkpoint | None = None
    """The newest step whose calls are all answered; its files are another matter."""
    checkpoint: Checkpoint | None = None
    """The newest step whose files are durable as well."""
    rewind: RewindOrder | None = None
    rewind_failure: str = ""
    rewinds: dict[int, str] = {}
    """What became of the newest orders to rewind, by the branch that each was to open: empty when it was opened."""
    forked_from: Origin | None = None
    parent: AgentParent | None = None
    children: Offspring = Field(default_factory=Offspring)
    """The agents that it started."""
    transcript_ref: str | None = None
    pending: list[NewItem] = []
    """Items that no kept model call has seen yet."""
    current: CurrentTurn | None = None
    open: OpenReply | None = None
    steering: list[UserMessage] = []
    """Messages that the running turn takes up before its next model call."""
    functions_ref: str | None = None
    """Where the spec's functions are kept."""
    consented: list[str] = []
    """Calls that nobody is asked about any more, see `workflows.approvals.key_of`."""
    compaction: CompactionState | None = None
    """None until a reply has come near the model's window; a rewind that is not sure of it may set it to None."""
    usage: Usage = Usage()
    usage_estimate: Usage = Usage()
    """What may have been paid beyond it, of which no reply was kept."""
    budget: BudgetState = Field(default_factory=BudgetState)

    network: Reach = Field(default_factory=Reach)

    inbox: list[UserMessage] = []
    message_ids: list[str] = []
    """The newest ids, for deduplication."""
    answers: list[Answer] = []

    generation: int = 0
    lease: LeaseStatus | None = None
    acquiring: LeaseStatus | None = None
    """Where a container may be that is not held yet; its ids are not known."""
    image_id: str | None = None
    image_kept: bool = True
    """Whether the object store holds the image."""
    snapshot: SnapshotStatus | None = None
    branch_first: int = 0
    """Number from which on snapshots are of the present branch; 0: all are."""
    branch_base: str | None = None
    """The snapshot that the present branch began with; none: the image."""
    snapshot_number: int = 0
    """Number of the newest request; a number is never used twice."""
    snapshots: int = 0
    dirty: list[DirtyCommand] = []
    """Commands that ran after the newest durable snapshot."""
    too_large: str | None = None
    """Why the files are more than a snapshot may hold, as the model was told last; cleared by the next snapshot."""
    covered: list[Covered] = []
    """Of the newest snapshots, oldest first: what is lost with one that turns out to be damaged."""
    tell_woke: bool = False
    """Whether the model has yet to hear that its computer was hibernated."""
    recoveries: int = 0
    last_recovery: RecoveryReport | None = None

    paused: bool = False
    paused_reason: str | None = None
    interrupt: bool = False
    want_hibernate: bool = False
    want_wake: bool = False
    shown_state: str | None = None
    """The search attribute's value, which continue-as-new carries too."""
    closing: bool = False
    closed: bool = False

    events: list[Event] = []
    """The tail of the event log."""
    last_event: int = 0
    events_kept: int = 0
    """Events up to this number are in the store."""
    audit: AuditHead = AuditHead()
    """Where the agent's audit chain ends."""

    @field_validator("dirty", mode="before")
    @classmethod
    def _heads(cls, value: object) -> object:
        """Older runs carried the heads alone."""
        if not isinstance(value, list):
            return value
        items = cast("list[object]", value)
        return [{"command": item} if isinstance(item, str) else item for item in items]

    @property
    def stopping(self) -> bool:
        """Whether the turn under way is to end instead of going on; between turns, what is waited for there."""
        return self.interrupt or self.closing or self.going_back

    @property
    def going_back(self) -> bool:
        """Whether a rewind is due: a sandbox that cannot be had must not keep the agent from where it can."""
        return self.rewind is not None and self.rewind.at_once and self.current is None

    def rewind_ended(self, branch: int, failure: str = "") -> None:
        """Record what became of an order to rewind, for whoever waits for it."""
        self.rewinds[branch] = failure
        for older in sorted(self.rewinds)[:-KEPT_REWINDS]:
            del self.rewinds[older]

    @property
    def waiting(self) -> Waiting | None:
        """What the turn under way waits for, if a person or the time has not decided it yet."""
        if self.open is None or self.open.decision is not None or self.stopping:
            return None
        return self.open.waiting

    def tick(self, now: datetime) -> None:
        """Count time into the budget's accounts. To be called whenever one of its clocks starts or stops."""
        working = self.current is not None and not self.paused and self.waiting is None
        self.budget.accounts = self.budget.accounts.ticked(now, working=working, holding=self.lease is not None)

    @property
    def untold(self) -> bool:
        """Whether something was lost, or is about to be, of which the model has not heard."""
        return any(item.kind == "note" and (item.urgent or item.report is not None) for item in self.pending)

    def cover(self, number: int, commands: Iterable[DirtyCommand]) -> None:
        """Note which commands' effects a snapshot is the first to hold."""
        heads = tuple(command.head for command in commands)[-KEPT_COMMANDS:]
        if heads:
            self.covered.append(Covered(number=number, commands=heads))
            del self.covered[:-KEPT_COVERED]

    def uncover(self, number: int) -> list[str]:
        """Heads of the commands that only snapshots after this one held."""
        lost = [head for entry in self.covered if entry.number > number for head in entry.commands]
        self.covered = [entry for entry in self.covered if entry.number <= number]
        return lost

    def new_items(self) -> tuple[NewItem, ...]:
        """The pending items in the order the wire wants: answers to calls first, then notes, then messages."""
        rank = {"instructions": 0, "tool_result": 1, "note": 2, "user": 3}
        return tuple(sorted(self.pending, key=lambda item: rank[item.kind]))

    def remember(self, message_id: str) -> bool:
        """Record a message id; False when it was known."""
        if message_id in self.message_ids:
            return False
        self.message_ids.append(message_id)
        del self.message_ids[:-KEPT_MESSAGE_IDS]
        return True

    def answer(self, answer: Answer) -> None:
        """Record what became of a message."""
        self.answers.append(answer)
        del self.answers[:-KEPT_ANSWERS]
        for index, old in enumerate(self.answers[:-KEPT_WHOLE_ANSWERS]):
            if len(old.text) > KEPT_TEXT:
                # The payload of continue-as-new has a limit; the gateway reads the whole from the transcript.
                self.answers[index] = old.model_copy(update={"text": old.text[:KEPT_TEXT], "truncated": True})

    def forget(self, message_id: str) -> None:
        """Take a message id back whose message could not be kept."""
        if message_id in self.message_ids:
            self.message_ids.remove(message_id)
