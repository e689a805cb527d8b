"""Names, requests and results of every workflow and activity: the seam between `workflows/` and `activities/`.

Workflows call these stubs, activities implement them under the same names, and a test compares the two.
Everything here goes through the Temporal history, so everything is small: bulk goes by reference into the object store.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field

from hibernaut.models.base import Open
from hibernaut.models.events import Event
from hibernaut.models.spec import SandboxSpec
from hibernaut.models.status import LeaseStatus, Usage
from hibernaut.models.tools import CommandOutcome, RecoveryReport, ToolCall

AGENT_WORKFLOW = "AgentWorkflow"
DELETE_WORKFLOW = "DeleteAgentWorkflow"
TASK_QUEUE = "hibernaut"
PLACEMENT_QUEUE = "hibernaut-placement"


def host_queue(host_id: str) -> str:
    """The task queue of one sandbox host alone."""
    return f"hibernaut-host-{host_id}"


INLINE_TEXT = 4_000
"""Characters of a text carried in the history; what is longer is kept in the store and carried as a reference."""


class Instructions(Open):
    """The spec's instructions: the first item of a conversation."""

    kind: Literal["instructions"] = "instructions"
    text: str = ""
    text_ref: str | None = None


class UserMessage(Open):
    """A message to the agent; `text_ref` replaces a text too long for the history."""

    kind: Literal["user"] = "user"
    message_id: str
    text: str = ""
    text_ref: str | None = None


class Note(Open):
    """Something the engine tells the model, as a developer item."""

    kind: Literal["note"] = "note"
    text: str
    report: RecoveryReport | None = None


class ToolResult(Open):
    """The answer to one tool call: a record in the store, or, when nothing ran, the outcomes or the error itself."""

    kind: Literal["tool_result"] = "tool_result"
    call_id: str
    call_kind: str
    record_ref: str | None = None
    outcomes: tuple[CommandOutcome, ...] = ()
    error: str | None = None
    max_output_length: int | None = None
    """What the call asked for; the native shell tool wants it echoed."""


NewItem = Annotated[Instructions | UserMessage | Note | ToolResult, Field(discriminator="kind")]


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
    provider: str
    model: str


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


class PlacementRequest(Open):
    """Asks any host with room to name itself."""

    agent_uid: str
    spec: SandboxSpec


class Placement(Open):
    """A host that has room."""

    host_id: str
    task_queue: str


class AcquireRequest(Open):
    """Asks a host for a fresh container of one generation."""

    agent_id: str
    agent_uid: str
    generation: int
    spec: SandboxSpec
    image_id: str | None = None
    """The image id pinned by the first acquire."""


class AcquireResult(Open):
    """The lease, and how long it took."""

    lease: LeaseStatus
    duration_ms: int


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


class ExecResult(Open):
    """What became of the commands of one tool call."""

    record_ref: str
    """Key of the ExecRecord in the store."""
    outcomes: tuple[CommandOutcome, ...]
    lost: str | None = None
    """Why the sandbox is gone, when it is."""


class SnapshotRequest(Open):
    """Asks for snapshot `number` of a sandbox."""

    agent_uid: str
    lease: LeaseStatus
    number: int
    parent: str | None
    """Key of the manifest before it."""


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


class RestoreRequest(Open):
    """Asks for a snapshot to be restored into a fresh container."""

    agent_uid: str
    lease: LeaseStatus
    ref: str


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
    """What was removed."""

    removed: tuple[str, ...]


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


class PurgeRequest(Open):
    """Asks for everything an agent has in the object store to be deleted."""

    agent_id: str
    agent_uid: str


class PurgeResult(Open):
    """Objects deleted."""

    objects: int


class ForgetRequest(Open):
    """Asks for every Temporal run of a closed agent to be deleted."""

    agent_id: str


class ForgetResult(Open):
    """Runs deleted."""

    runs: int


class DeleteRequest(Open):
    """The argument of `DeleteAgentWorkflow`."""

    agent_id: str
    agent_uid: str
    requested_at: datetime | None = None


class PutFile(Open):
    """The argument of the update `put_file`; the gateway has uploaded the bytes already."""

    upload_ref: str
    path: str
    mode: int = 0o644


RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class ActivityStub(Generic[RequestT, ResultT]):
    """An activity without its body: name, typed request, typed result."""

    name: str
    request: type[RequestT]
    result: type[ResultT]


MODEL_CALL = ActivityStub("model.call", ModelRequest, ModelReply)
PLACEMENT_CHOOSE = ActivityStub("placement.choose", PlacementRequest, Placement)
SANDBOX_ACQUIRE = ActivityStub("sandbox.acquire", AcquireRequest, AcquireResult)
SANDBOX_DESTROY = ActivityStub("sandbox.destroy", DestroyRequest, DestroyResult)
SHELL_EXEC = ActivityStub("shell.exec", ExecRequest, ExecResult)
SNAPSHOT_TAKE = ActivityStub("snapshot.take", SnapshotRequest, SnapshotResult)
SNAPSHOT_RESTORE = ActivityStub("snapshot.restore", RestoreRequest, RestoreResult)
FILES_PUT = ActivityStub("files.put", PutFileRequest, PutFileResult)
TRANSCRIPT_KEEP = ActivityStub("transcript.keep", KeepTextRequest, KeepTextResult)
EVENTS_APPEND = ActivityStub("events.append", AppendEventsRequest, AppendEventsResult)
AGENT_PURGE = ActivityStub("agent.purge", PurgeRequest, PurgeResult)
AGENT_FORGET = ActivityStub("agent.forget", ForgetRequest, ForgetResult)

STUBS: tuple[ActivityStub[object, object], ...] = (
    MODEL_CALL,
    PLACEMENT_CHOOSE,
    SANDBOX_ACQUIRE,
    SANDBOX_DESTROY,
    SHELL_EXEC,
    SNAPSHOT_TAKE,
    SNAPSHOT_RESTORE,
    FILES_PUT,
    TRANSCRIPT_KEEP,
    EVENTS_APPEND,
    AGENT_PURGE,
    AGENT_FORGET,
)  # pyright: ignore[reportAssignmentType]  # a tuple of stubs of many types

# Error types (ApplicationError.type) that workflows act on; activities raise them.
SANDBOX_LOST = "sandbox_lost"
"""The sandbox of the lease is gone or was stopped."""
SANDBOX_NOT_FRESH = "snapshot_sandbox_not_fresh"
"""An earlier attempt began to restore another snapshot in the container: a new one is needed."""
INVALID_COMMAND = "sandbox_invalid_command"
"""The command cannot be handed to a shell; the model is told."""


class StoreKeys:
    """Keys in the object store. Every key of an agent lies under a prefix that bears its uid."""

    @staticmethod
    def segment(uid: str, branch: int, step: int, ordinal: int) -> str:
        """A transcript segment: new items and the reply of one model call."""
        return f"agents/{uid}/transcript/b{branch:04d}/s{step:08d}-o{ordinal:04d}.json"

    @staticmethod
    def message(uid: str, digest: str) -> str:
        """A text too long for the history, under the digest of its message id."""
        return f"agents/{uid}/messages/{digest}.txt"

    @staticmethod
    def events(uid: str, first: int) -> str:
        """A segment of the event log, under the sequence number of its first event."""
        return f"agents/{uid}/events/{first:010d}.json"

    @staticmethod
    def exec_record(uid: str, exec_prefix: str) -> str:
        """What became of one tool call, with the output the model was shown."""
        return f"agents/{uid}/exec/{exec_prefix}.json"

    @staticmethod
    def exec_stream(uid: str, exec_id: str, stream: str) -> str:
        """The whole of one command's stdout or stderr."""
        return f"agents/{uid}/exec/{exec_id}.{stream}"

    @staticmethod
    def upload(uid: str, upload_id: str) -> str:
        """Bytes on their way into a sandbox."""
        return f"agents/{uid}/uploads/{upload_id}"

    @staticmethod
    def agent(uid: str) -> str:
        """The prefix of everything an agent has, its snapshots included."""
        return f"agents/{uid}/"
