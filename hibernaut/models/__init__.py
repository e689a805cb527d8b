"""What crosses a boundary: specs, messages, status, events. All frozen pydantic models, all plain JSON on the wire."""

from hibernaut.models.artifacts import Artifact, ArtifactLink
from hibernaut.models.base import Model
from hibernaut.models.budget import BudgetChange, BudgetSpec, Limits
from hibernaut.models.checkpoints import Checkpoint, CheckpointFiles, Origin
from hibernaut.models.children import AgentParent, ChildrenSpec, ChildState, ChildStatus
from hibernaut.models.events import Event, EventKind, EventsPage
from hibernaut.models.files import FileEntry, FileType
from hibernaut.models.isolation import IsolationSpec
from hibernaut.models.logs import LogChunk, LogEnd, LogEntry, LoggedCommand, LoggedCommands, LogStart
from hibernaut.models.messages import Answer, AnswerState, SendRequest, Ticket
from hibernaut.models.network import Network
from hibernaut.models.people import (
    ApprovalRule,
    ApprovalSpec,
    ApproveRequest,
    DenyRequest,
    RespondRequest,
    Waiting,
    WaitKind,
)
from hibernaut.models.secrets import SecretSpec
from hibernaut.models.snapshots import (
    ChangeKind,
    SnapshotChange,
    SnapshotDetail,
    SnapshotLink,
    SnapshotPack,
    SnapshotPage,
    SnapshotPath,
    SnapshotSummary,
)
from hibernaut.models.spec import AgentSpec, SandboxSpec, SnapshotSpec
from hibernaut.models.spending import Accounts, BudgetStatus, Spent
from hibernaut.models.status import AgentState, AgentStatus, LeaseStatus, SnapshotStatus, Trouble, Usage
from hibernaut.models.tools import CommandOutcome, OutcomeKind, RecoveryReport, ReplayedCommand, ToolCall

__all__ = [
    "Accounts",
    "AgentParent",
    "AgentSpec",
    "AgentState",
    "AgentStatus",
    "Answer",
    "AnswerState",
    "ApprovalRule",
    "ApprovalSpec",
    "ApproveRequest",
    "Artifact",
    "ArtifactLink",
    "BudgetChange",
    "BudgetSpec",
    "BudgetStatus",
    "ChangeKind",
    "Checkpoint",
    "CheckpointFiles",
    "ChildState",
    "ChildStatus",
    "ChildrenSpec",
    "CommandOutcome",
    "DenyRequest",
    "Event",
    "EventKind",
    "EventsPage",
    "FileEntry",
    "FileType",
    "IsolationSpec",
    "LeaseStatus",
    "Limits",
    "LogChunk",
    "LogEnd",
    "LogEntry",
    "LogStart",
    "LoggedCommand",
    "LoggedCommands",
    "Model",
    "Network",
    "Origin",
    "OutcomeKind",
    "RecoveryReport",
    "ReplayedCommand",
    "RespondRequest",
    "SandboxSpec",
    "SecretSpec",
    "SendRequest",
    "SnapshotChange",
    "SnapshotDetail",
    "SnapshotLink",
    "SnapshotPack",
    "SnapshotPage",
    "SnapshotPath",
    "SnapshotSpec",
    "SnapshotStatus",
    "SnapshotSummary",
    "Spent",
    "Ticket",
    "ToolCall",
    "Trouble",
    "Usage",
    "WaitKind",
    "Waiting",
]
