"""Activities without their bodies."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from hibernaut.contracts.requests import (
    AcquireRequest,
    AcquireResult,
    AppendEventsRequest,
    AppendEventsResult,
    DestroyRequest,
    DestroyResult,
    ExecRequest,
    ExecResult,
    ForgetRequest,
    ForgetResult,
    KeepTextRequest,
    KeepTextResult,
    ModelReply,
    ModelRequest,
    Placement,
    PlacementRequest,
    PurgeRequest,
    PurgeResult,
    PutFileRequest,
    PutFileResult,
    RestoreRequest,
    RestoreResult,
    SnapshotRequest,
    SnapshotResult,
)

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
