"""Activities without their bodies."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from hibernaut.contracts.artifacts import PublishRequest, PublishResult
from hibernaut.contracts.branching import (
    FindCheckpointRequest,
    ForkStateRequest,
    ForkStateResult,
    FoundCheckpoint,
    OpenBranchRequest,
    OpenBranchResult,
)
from hibernaut.contracts.children import (
    ChildCloseRequest,
    ChildCloseResult,
    ChildFindRequest,
    ChildFindResult,
    ChildWaitRequest,
    ChildWaitResult,
)
from hibernaut.contracts.compaction import CompactRequest, CompactResult
from hibernaut.contracts.deletion import (
    CertifyRequest,
    CertifyResult,
    ForgetRequest,
    ForgetResult,
    PurgeRequest,
    PurgeResult,
    SurveyRequest,
    SurveyResult,
)
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
from hibernaut.contracts.mcp import McpCallRequest, McpCallResult
from hibernaut.contracts.network import ApplyNetworkRequest, ApplyNetworkResult
from hibernaut.contracts.requests import (
    AcquireRequest,
    AcquireResult,
    AppendEventsRequest,
    AppendEventsResult,
    DestroyRequest,
    DestroyResult,
    ExecRequest,
    ExecResult,
    KeepTextRequest,
    KeepTextResult,
    ModelReply,
    ModelRequest,
    Placement,
    PlacementRequest,
    PutFileRequest,
    PutFileResult,
    RestoreRequest,
    RestoreResult,
    SnapshotRequest,
    SnapshotResult,
)
from hibernaut.contracts.schedules import (
    ScheduleFinishRequest,
    ScheduleFinishResult,
    ScheduleSendRequest,
    ScheduleSendResult,
    ScheduleStopRequest,
    ScheduleStopResult,
    ScheduleWaitRequest,
)
from hibernaut.contracts.upkeep import (
    AgentsRequest,
    AgentsResult,
    CollectImagesRequest,
    CollectImagesResult,
    CollectRequest,
    CollectResult,
    NameRequest,
    NameResult,
    PruneAgentsRequest,
    PruneAgentsResult,
    PruneRequest,
    PruneResult,
)
from hibernaut.contracts.verification import (
    VerifiedAgent,
    VerifiedImages,
    VerifyAgentRequest,
    VerifyImagesRequest,
)
from hibernaut.models import Answer

RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class ActivityStub(Generic[RequestT, ResultT]):
    """An activity without its body: name, typed request, typed result."""

    name: str
    request: type[RequestT]
    result: type[ResultT]


MODEL_CALL = ActivityStub("model.call", ModelRequest, ModelReply)
MCP_CALL = ActivityStub("mcp.call", McpCallRequest, McpCallResult)
PLACEMENT_CHOOSE = ActivityStub("placement.choose", PlacementRequest, Placement)
SANDBOX_ACQUIRE = ActivityStub("sandbox.acquire", AcquireRequest, AcquireResult)
SANDBOX_DESTROY = ActivityStub("sandbox.destroy", DestroyRequest, DestroyResult)
NETWORK_APPLY = ActivityStub("network.apply", ApplyNetworkRequest, ApplyNetworkResult)
SHELL_EXEC = ActivityStub("shell.exec", ExecRequest, ExecResult)
SNAPSHOT_TAKE = ActivityStub("snapshot.take", SnapshotRequest, SnapshotResult)
SNAPSHOT_RESTORE = ActivityStub("snapshot.restore", RestoreRequest, RestoreResult)
SANDBOX_ASSESS = ActivityStub("sandbox.assess", AssessRequest, AssessResult)
SANDBOX_SWEEP = ActivityStub("sandbox.sweep", SweepRequest, SweepResult)
HOST_PING = ActivityStub("host.ping", PingRequest, PingResult)
HOSTS_LIST = ActivityStub("hosts.list", HostsRequest, HostsResult)
IMAGE_KEEP = ActivityStub("image.keep", KeepImageRequest, KeepImageResult)
IMAGE_LOAD = ActivityStub("image.load", LoadImageRequest, LoadImageResult)
ARTIFACT_PUBLISH = ActivityStub("artifact.publish", PublishRequest, PublishResult)
FILES_PUT = ActivityStub("files.put", PutFileRequest, PutFileResult)
TRANSCRIPT_KEEP = ActivityStub("transcript.keep", KeepTextRequest, KeepTextResult)
TRANSCRIPT_COMPACT = ActivityStub("transcript.compact", CompactRequest, CompactResult)
EVENTS_APPEND = ActivityStub("events.append", AppendEventsRequest, AppendEventsResult)
CHECKPOINT_FIND = ActivityStub("checkpoint.find", FindCheckpointRequest, FoundCheckpoint)
AGENT_FORK = ActivityStub("agent.fork", ForkStateRequest, ForkStateResult)
AGENT_REWIND = ActivityStub("agent.rewind", OpenBranchRequest, OpenBranchResult)
AGENT_PURGE = ActivityStub("agent.purge", PurgeRequest, PurgeResult)
AGENT_FORGET = ActivityStub("agent.forget", ForgetRequest, ForgetResult)
AGENT_SURVEY = ActivityStub("agent.survey", SurveyRequest, SurveyResult)
AGENT_CERTIFY = ActivityStub("agent.certify", CertifyRequest, CertifyResult)
SNAPSHOTS_AGENTS = ActivityStub("snapshots.agents", AgentsRequest, AgentsResult)
SNAPSHOTS_VERIFY = ActivityStub("snapshots.verify", VerifyAgentRequest, VerifiedAgent)
SNAPSHOTS_PRUNE = ActivityStub("snapshots.prune", PruneRequest, PruneResult)
SNAPSHOTS_PRUNE_AGENTS = ActivityStub("snapshots.prune_agents", PruneAgentsRequest, PruneAgentsResult)
SNAPSHOTS_COLLECT = ActivityStub("snapshots.collect", CollectRequest, CollectResult)
SNAPSHOTS_NAME = ActivityStub("snapshots.name", NameRequest, NameResult)
IMAGES_COLLECT = ActivityStub("images.collect", CollectImagesRequest, CollectImagesResult)
IMAGES_VERIFY = ActivityStub("images.verify", VerifyImagesRequest, VerifiedImages)
SCHEDULE_SEND = ActivityStub("schedule.send", ScheduleSendRequest, ScheduleSendResult)
SCHEDULE_WAIT = ActivityStub("schedule.wait", ScheduleWaitRequest, Answer)
SCHEDULE_STOP = ActivityStub("schedule.stop", ScheduleStopRequest, ScheduleStopResult)
SCHEDULE_FINISH = ActivityStub("schedule.finish", ScheduleFinishRequest, ScheduleFinishResult)
CHILD_WAIT = ActivityStub("child.wait", ChildWaitRequest, ChildWaitResult)
CHILD_CLOSE = ActivityStub("child.close", ChildCloseRequest, ChildCloseResult)
CHILD_FIND = ActivityStub("child.find", ChildFindRequest, ChildFindResult)

STUBS: tuple[ActivityStub[object, object], ...] = (
    MODEL_CALL,
    MCP_CALL,
    PLACEMENT_CHOOSE,
    SANDBOX_ACQUIRE,
    SANDBOX_DESTROY,
    NETWORK_APPLY,
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
    ARTIFACT_PUBLISH,
    TRANSCRIPT_KEEP,
    TRANSCRIPT_COMPACT,
    EVENTS_APPEND,
    CHECKPOINT_FIND,
    AGENT_FORK,
    AGENT_REWIND,
    AGENT_PURGE,
    AGENT_FORGET,
    AGENT_SURVEY,
    AGENT_CERTIFY,
    SNAPSHOTS_AGENTS,
    SNAPSHOTS_VERIFY,
    SNAPSHOTS_PRUNE,
    SNAPSHOTS_PRUNE_AGENTS,
    SNAPSHOTS_COLLECT,
    SNAPSHOTS_NAME,
    IMAGES_COLLECT,
    IMAGES_VERIFY,
    SCHEDULE_SEND,
    SCHEDULE_WAIT,
    SCHEDULE_STOP,
    SCHEDULE_FINISH,
    CHILD_WAIT,
    CHILD_CLOSE,
    CHILD_FIND,
)  # pyright: ignore[reportAssignmentType]  # a tuple of stubs of many types
