"""What a faulty world is made of: containers with files and a journal, snapshots that outlive them, planned faults."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from temporalio import activity
from temporalio.exceptions import ApplicationError

from hibernaut import contracts as c
from hibernaut.models import CommandOutcome, Event, LeaseStatus, OutcomeKind

HOST = "true-host"
GHOST = "true-ghost"
"""A host that makes containers and takes no task afterwards."""
IMAGE = "sha256:image"
SAFE = "safe"
"""The first word of commands that may run twice."""
LAST_WORDS = "the last message"
"""A turn in which nothing fails any more."""
PATIENCE = 40
"""Twentieths of a second that a command under an interrupt waits to be ended."""

EXEC_FAULTS = (
    "lost before", "lost during", "lost during the first", "stopped, unknown", "stopped, finished", "frozen",
    "died before", "died after", "died after, then lost", "failed after",
)  # fmt: skip
FAULTS: Mapping[str, Sequence[str]] = {
    c.SHELL_EXEC.name: EXEC_FAULTS,
    c.SNAPSHOT_TAKE.name: ("lost", "stopped", "died before", "died after", "failed", "taken, then lost"),
    c.SANDBOX_ACQUIRE.name: ("died before", "died after", "lost", "no image", "failed", "silent"),
    c.SNAPSHOT_RESTORE.name: ("died before", "lost", "older", "failed"),
    c.MODEL_CALL.name: ("died before", "died after", "failed", "lost meanwhile", "stopped meanwhile"),
    c.SANDBOX_ASSESS.name: ("died before", "died after", "failed"),
    c.SANDBOX_DESTROY.name: ("died before", "died after"),
    c.FILES_PUT.name: ("lost before", "lost after", "stopped", "died before"),
    c.IMAGE_LOAD.name: ("died before",),
    c.PLACEMENT_CHOOSE.name: ("died before",),
}
"""What may go wrong with each activity; `died` means that the attempt dies, and is made again."""


@dataclass
class Box:
    """A container."""

    generation: int
    host: str
    files: list[str] = field(default_factory=list[str])
    """The commands whose effects are there, in order."""
    journal: dict[str, OutcomeKind] = field(default_factory=dict[str, OutcomeKind])
    """By exec id: `exit` is finished, `unknown` is started."""
    running: bool = True
    exists: bool = True
    starts: int = 1
    lossy: bool = False
    """Whether it lacks what the container before it had."""
    ready_at: int = 0

    @property
    def started_at(self) -> str:
        return f"start {self.starts}"


@dataclass(frozen=True)
class Saved:
    """A snapshot."""

    number: int
    files: tuple[str, ...]
    parent: str | None


@dataclass(frozen=True)
class Ran:
    """A command that was really begun."""

    exec_id: str
    command: str
    generation: int
    at: int


@dataclass(frozen=True)
class Asked:
    """A model call whose reply was sent back."""

    request: c.ModelRequest
    at: int


@dataclass(frozen=True)
class Plan:
    """What the model asks for, what goes wrong, and what people order meanwhile."""

    messages: tuple[tuple[tuple[int, ...], ...], ...]
    """By message, by step: how many commands each of its calls holds."""
    faults: tuple[tuple[str, str], ...] = ()
    """Activity and fault; the list of one activity is used up in order."""
    orders: tuple[tuple[str, int, str], ...] = ()
    """Activity, how many of its attempts came before, and the order that is given while it runs."""
    recovery: str = "tell"
    max_recoveries: int = 5
    at_pause: tuple[str, ...] = ()
    """What the operator does about pauses, in order, before anything else: then resumes."""
    sleep_between: bool = False


Operator = Callable[[str], Awaitable[None]]


class Truth:
    """What really happened, and the faults that are still to come."""

    def __init__(self) -> None:
        self.begin(Plan(messages=()), nobody)

    def begin(self, plan: Plan, operator: Operator) -> None:
        """Forget everything and follow this plan."""
        self.plan = plan
        self.operator = operator
        self.faults: dict[str, list[str]] = {}
        for name, fault in plan.faults:
            self.faults.setdefault(name, []).append(fault)
        self.attempts: dict[str, int] = {}
        self.clock = 0
        self.log: list[str] = []
        self.boxes: dict[int, Box] = {}
        self.store: dict[str, Saved] = {}
        self.ran: list[Ran] = []
        self.finished: set[str] = set()
        """Exec ids of commands that ran to their end."""
        self.commands: dict[str, str] = {}
        self.records: dict[str, tuple[CommandOutcome, ...]] = {}
        self.asked: list[Asked] = []
        self.replies: dict[tuple[int, int, int], c.ModelReply] = {}
        self.events: dict[int, Event] = {}
        self.fallen_back: dict[tuple[int, int], set[str]] = {}
        """By the numbers of a damaged snapshot and of the older one: the commands only the damaged one held."""
        self.steps_left: list[tuple[int, ...]] = []
        self.seen_messages: set[str] = set()
        self.images: set[str] = {HOST, GHOST}
        self.believed: set[str] = set()
        """The commands whose effects the model has reason to expect."""

    @property
    def alive(self) -> list[Box]:
        """The containers that are left."""
        return [box for box in self.boxes.values() if box.exists]

    def forget(self, box: Box) -> None:
        """What a restarted container knows of its commands; a test may break it."""

    # -- faults -----------------------------------------------------------------------------------------------------

    async def _enter(self, name: str) -> str:
        """Give the orders of this moment; the fault of this attempt."""
        self.clock += 1
        count = self.attempts.get(name, 0)
        self.attempts[name] = count + 1
        fault = self.faults[name].pop(0) if self.faults.get(name) else "ok"
        self.log.append(f"{self.clock}: {name} #{count} {fault}")
        for wanted, at, order in self.plan.orders:
            if (wanted, at) == (name, count):
                self.log.append(f"{self.clock}: order {order}")
                await self.operator(order)
        ending = any(
            (wanted, at) == (name, count) and order in {"interrupt", "close"} for wanted, at, order in self.plan.orders
        )
        if ending and fault.startswith("died"):
            # The time-skipping server never ends an activity that fails once it was to be cancelled; a real one does.
            return "ok"
        if fault == "died before":
            raise died()
        if fault == "failed":
            raise failed()
        return fault

    def _held(self, lease: LeaseStatus) -> Box | None:
        """The container of a lease, as the lease knows it."""
        box = self.boxes.get(lease.generation)
        intact = box is not None and box.exists and box.running and box.started_at == lease.started_at
        return box if intact else None

    def _lose(self, box: Box | None) -> None:
        if box is not None:
            box.exists = box.running = False

    def _newest(self) -> Box | None:
        return self.boxes[max(self.boxes)] if self.boxes else None


def lost() -> ApplicationError:
    return ApplicationError("the container is gone", type=c.SANDBOX_LOST, non_retryable=True)


def died() -> ApplicationError:
    return ApplicationError("the attempt died", type="Died")


def failed() -> ApplicationError:
    return ApplicationError("it failed for good", type="Failed", non_retryable=True)


def outcome_of(exec_id: str, command: str, kind: OutcomeKind) -> CommandOutcome:
    code = 0 if kind is OutcomeKind.EXIT else None
    return CommandOutcome(exec_id=exec_id, command=command, kind=kind, exit_code=code)


async def ended_by_somebody() -> bool:
    """Run until the command is ended from outside."""
    try:
        for _ in range(PATIENCE):
            activity.heartbeat()
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        return True
    return False


async def nobody(order: str) -> None:
    del order
