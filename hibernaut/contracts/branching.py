"""Requests and results of checkpoints, forks and rewinds."""

from pydantic import JsonValue

from hibernaut.contracts.items import NewItem
from hibernaut.models.base import Open
from hibernaut.models.checkpoints import Checkpoint, Origin
from hibernaut.models.children import AgentParent
from hibernaut.models.events import Event
from hibernaut.models.status import SnapshotStatus

LAST_SNAPSHOT_FAILED = "the last snapshot of the branch failed"
"""Begins the reason of a rewind that came to nothing for want of it."""


class Standpoint(Open):
    """Where an agent stands: the answer to the query `standpoint`, and the argument of whatever looks for a step.

    With it and the store all checkpoints are known, whether the agent runs or is closed.
    """

    agent_id: str
    agent_uid: str
    spec: dict[str, JsonValue]
    """As the agent hands it on from run to run: what whoever reads it does not know is a fork's all the same."""
    branch: int
    newest: Checkpoint | None = None
    """The newest step whose calls are answered and whose files are durable."""
    pending: tuple[NewItem, ...] = ()
    """What the model has yet to hear of that step: the answers to its calls, and notes."""
    recent: tuple[Event, ...] = ()
    """Events that tell of checkpoints and may not be in the store yet."""
    image_id: str | None = None
    compacted: bool = False
    """Whether the conversation has been longer than the model's window: a fork begins with all of it."""


class FindCheckpointRequest(Open):
    """Asks for one step; by default for the newest."""

    source: Standpoint
    step: int | None = None
    branch: int | None = None
    """By default the current one: with the steps before it that it grew from."""


class FoundCheckpoint(Open):
    """The step, and what the model has yet to hear of it."""

    checkpoint: Checkpoint
    pending: tuple[NewItem, ...] = ()


class ForkRequest(Open):
    """The argument of `ForkAgentWorkflow`."""

    source: Standpoint
    """As the query `standpoint` of the agent to fork answers."""
    new_id: str
    step: int | None = None
    branch: int | None = None
    parent: AgentParent | None = None
    """The agent whose child the fork is, if an agent forks itself."""
    made: "ForkResult | None" = None
    """The fork of that name that is there: all that is asked is whether it is the one that this would make."""


class ForkResult(Open):
    """The result of `ForkAgentWorkflow`: the new agent is there."""

    agent_id: str
    agent_uid: str
    forked_from: Origin
    step: int | None = None
    """As it was asked for."""
    branch: int | None = None
    """On which that step was spoken of."""


class ForkStateRequest(Open):
    """Asks for the conversation and the files of a step to be a new agent's as well."""

    agent_uid: str
    checkpoint: Checkpoint
    pending: tuple[NewItem, ...] = ()
    new_uid: str
    branch: int
    """The new agent's first branch."""
    generation: int
    """The new agent's first."""


class ForkStateResult(Open):
    """What the new agent begins with."""

    transcript_ref: str
    snapshot: SnapshotStatus | None = None
    image_id: str | None = None
    """Of the snapshot."""


class RewindRequest(Open):
    """The argument of the update `rewind`."""

    step: int
    branch: int | None = None
    interrupt: bool = False
    """End the turn under way first; else it is a reason to refuse."""
    discard: bool = False
    """Take no last snapshot of the branch that is left: what it did since its newest one is lost."""


class RewindOrder(Open):
    """A rewind that was accepted and is to be carried out."""

    branch: int
    """The branch it opens."""
    found: FoundCheckpoint
    discard: bool = False
    at_once: bool = False
    """Whether a sandbox that is on its way, or a pause for want of one, is broken off; in runs of older builds such an
    order waited."""


class OpenBranchRequest(Open):
    """Asks for a branch to begin at a step."""

    agent_uid: str
    generation: int
    """The agent's newest: a later one means that somebody else has taken over."""
    branch: int
    found: FoundCheckpoint


class OpenBranchResult(Open):
    """Where the branch begins."""

    transcript_ref: str
