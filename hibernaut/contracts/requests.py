"""Requests and results of every activity and update."""

from hibernaut.contracts.destruction import Looked
from hibernaut.contracts.items import NewItem
from hibernaut.contracts.mcp import McpOffer
from hibernaut.contracts.wanted import Wanted
from hibernaut.models.base import Open, Sparse
from hibernaut.models.events import Event
from hibernaut.models.network_change import NetworkReport
from hibernaut.models.spec import SnapshotSpec
from hibernaut.models.status import LeaseStatus, Usage
from hibernaut.models.tools import CommandOutcome, ToolCall


class ModelRequest(Open):
    """One model call. (agent_uid, branch, step, ordinal) name the transcript segment that keeps its reply."""

    agent_uid: str
    branch: int
    step: int
    ordinal: int
    """Counts attempts of a step that were given up (interrupted, failed): each writes its own segment."""
    transcript_ref: str | None
    """Key of the segment before this one."""
    new_items: tuple[NewItem, ...]
    compaction_ref: str | None = None
    """Key of the compaction that stands for the older part of the conversation."""
    provider: str
    model: str
    priced: bool = False
    """Whether money is limited: a model without a price is refused before it is asked."""
    limited: bool = False
    """Whether tokens or money are limited: what may have been paid is told at once, and not asked for again."""
    tools: tuple[str, ...] = ()
    """Names of the engine's own tools that the model is offered beside the shell."""
    functions_ref: str | None = None
    """Where the spec's functions are kept; none when it has none."""
    mcp: tuple[McpOffer, ...] = ()
    """MCP servers whose tools the model is offered."""


class ModelReply(Open):
    """What the workflow needs of a reply; the whole is in the segment."""

    segment_ref: str
    tool_calls: tuple[ToolCall, ...] = ()
    text_head: str = ""
    """The first 8,000 characters of the answer."""
    text_truncated: bool = False
    refusal: bool = False
    usage: Usage = Usage()
    duration_ms: int = 0
    """Time the provider took."""
    replayed: bool = False
    """Whether an earlier attempt had already kept this reply."""
    estimated: Usage = Usage()
    """What may have been paid beside `usage`: for calls before this one that left no reply, and `unreported`."""
    unreported: Usage = Usage()
    """What this reply may have cost, when the provider told no usage of it."""
    compact: bool = False
    """Whether the conversation has come near the model's window."""


class PlacementRequest(Wanted):
    """Asks any host with room to name itself."""

    agent_uid: str


class Placement(Open):
    """A host that has room."""

    host_id: str
    task_queue: str


class AcquireRequest(Wanted):
    """Asks a host for a fresh container of one generation."""

    agent_id: str
    agent_uid: str
    generation: int
    image_id: str | None = None
    """The image id pinned by the first acquire."""
    restores: str | None = None
    """Key of the snapshot that will be restored into it: its content may be fetched meanwhile."""


class AcquireResult(Open):
    """The lease, and how long it took."""

    lease: LeaseStatus
    duration_ms: int
    image_kept: bool = True
    """Whether the object store holds the image; if not, it is to be kept there."""


class ExecRequest(Open):
    """The commands of one tool call, run in order; `exec_id` of command i is `{exec_prefix}-i{i}`."""

    agent_uid: str
    lease: LeaseStatus
    exec_prefix: str
    call_id: str
    commands: tuple[str, ...]
    segment_ref: str | None = None
    """Where the whole commands are, when they were cut for the history."""
    timeout_ms: int
    """Per command."""
    max_output_length: int
    """Characters of each stream the model is shown."""
    max_output_bytes: int = 1_073_741_824
    """Bytes a command may write before it is ended."""
    attach_only: bool = False
    """Start nothing: say what the journal knows of these commands."""
    stop: bool = False
    """End those that run, and say how they ended."""
    asked_before: bool = False
    """Whether an earlier request under this prefix may have begun what a sandbox that is gone can no longer show: such
    a command is `unknown`, never `not_run`."""
    network_mark: str = ""
    """Of the newest report of connections."""


class ExecResult(Open):
    """What became of the commands of one tool call."""

    record_ref: str
    """Key of the ExecRecord in the store."""
    outcomes: tuple[CommandOutcome, ...]
    lost: str | None = None
    """Why the sandbox is gone, when it is."""
    network: NetworkReport | None = None
    """What was decided about its connections since the mark of the request."""


class SnapshotRequest(Open):
    """Asks for snapshot `number` of a sandbox."""

    agent_uid: str
    lease: LeaseStatus
    number: int
    parent: str | None
    """Key of the manifest before it."""
    policy: Sparse[SnapshotSpec] = SnapshotSpec()
    thorough: bool = False
    """Whether every path is looked at, whatever proof there is that nothing ran: before the container is given up."""


class SnapshotResult(Open):
    """A durable snapshot, or the parent's own reference when nothing had changed."""

    ref: str | None
    """None when nothing was ever changed over the image."""
    number: int
    unchanged: bool
    added: int = 0
    changed: int = 0
    deleted: int = 0
    files: int = 0
    bytes_new: int = 0
    bytes_total: int = 0
    duration_ms: int = 0
    capture: str = ""
    summary: str = ""
    skipped: int = 0
    """Sockets, and paths too long to be named, which no snapshot holds."""


class RestoreRequest(Open):
    """Asks for a snapshot to be restored into a fresh container."""

    agent_uid: str
    lease: LeaseStatus
    ref: str
    branch_first: int = 0
    """Number from which on snapshots are of the branch that goes on: a damaged one is followed by none of another."""
    branch_base: str | None = None
    """The snapshot that the branch began with; none: the image, when `branch_first` is not 0."""


class RestoreResult(Open):
    """What was restored; `restored_ref` differs from the request when the newest snapshot was damaged."""

    restored_ref: str
    restored_number: int
    reason: str | None = None
    files: int = 0
    bytes: int = 0
    duration_ms: int = 0


class DestroyRequest(Open):
    """Asks for every container of an agent up to a generation to be removed from one host."""

    agent_uid: str
    lease: LeaseStatus


class DestroyResult(Open):
    """What was removed, and what was looked for afterwards."""

    removed: tuple[str, ...]
    checked: tuple[Looked, ...] = ()
    """Empty from a host whose release does not look."""
    remnants: tuple[str, ...] = ()
    """What is left, each as its kind and name."""


class PutFileRequest(Open):
    """Writes an uploaded object to a path of a sandbox."""

    agent_uid: str
    lease: LeaseStatus
    upload_ref: str
    path: str
    mode: int = 0o644


class PutFileResult(Open):
    """What was written."""

    path: str
    size: int


class KeepTextRequest(Open):
    """Keeps a text that is too long for the workflow's state."""

    agent_uid: str
    message_id: str
    text: str


class KeepTextResult(Open):
    """Where the text is."""

    ref: str


class AppendEventsRequest(Open):
    """Writes events to the store, under the number of the first."""

    agent_uid: str
    events: tuple[Event, ...]


class AppendEventsResult(Open):
    """Key of the event segment."""

    ref: str


class PutFile(Open):
    """The argument of the update `put_file`; the gateway has uploaded the bytes already."""

    upload_ref: str
    path: str
    mode: int = 0o644
