"""Activities without their bodies."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from hibernaut.contracts.hosts import (
    AssessRequest,
    AssessResult,
    HostsRequest,
    HostsResult,
    KeepImageRequest,
    KeepImageResult,
    LoadImageRequest,
    LoadImageResult,
    PingRequest,
    PingResult,
    SweepRequest,
    SweepResult,
)
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
SANDBOX_ASSESS = ActivityStub("sandbox.assess", AssessRequest, AssessResult)
SANDBOX_SWEEP = ActivityStub("sandbox.sweep", SweepRequest, SweepResult)
HOST_PING = ActivityStub("host.ping", PingRequest, PingResult)
HOSTS_LIST = ActivityStub("hosts.list", HostsRequest, HostsResult)
IMAGE_KEEP = ActivityStub("image.keep", KeepImageRequest, KeepImageResult)
IMAGE_LOAD = ActivityStub("image.load", LoadImageRequest, LoadImageResult)
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
    SANDBOX_ASSESS,
    SANDBOX_SWEEP,
    HOST_PING,
    HOSTS_LIST,
    IMAGE_KEEP,
    IMAGE_LOAD,
    FILES_PUT,
    TRANSCRIPT_KEEP,
    EVENTS_APPEND,
    AGENT_PURGE,
    AGENT_FORGET,
)  # pyright: ignore[reportAssignmentType]  # a tuple of stubs of many types
