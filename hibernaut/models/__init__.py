"""What crosses a boundary: specs, messages, status, events. All frozen pydantic models, all plain JSON on the wire."""

from hibernaut.models.base import Model
from hibernaut.models.events import Event, EventKind, EventsPage
from hibernaut.models.files import FileEntry, FileType
from hibernaut.models.logs import LogChunk, LogEnd, LogEntry, LoggedCommand, LoggedCommands, LogStart
from hibernaut.models.messages import Answer, AnswerState, SendRequest, Ticket
from hibernaut.models.spec import AgentSpec, Network, SandboxSpec
from hibernaut.models.status import AgentState, AgentStatus, LeaseStatus, SnapshotStatus, Trouble, Usage
from hibernaut.models.tools import CommandOutcome, OutcomeKind, RecoveryReport, ReplayedCommand, ToolCall

__all__ = [
    "AgentSpec",
    "AgentState",
    "AgentStatus",
    "Answer",
    "AnswerState",
    "CommandOutcome",
    "Event",
    "EventKind",
    "EventsPage",
    "FileEntry",
    "FileType",
    "LeaseStatus",
    "LogChunk",
    "LogEnd",
    "LogEntry",
    "LogStart",
    "LoggedCommand",
    "LoggedCommands",
    "Model",
    "Network",
    "OutcomeKind",
    "RecoveryReport",
    "ReplayedCommand",
    "SandboxSpec",
    "SendRequest",
    "SnapshotStatus",
    "Ticket",
    "ToolCall",
    "Trouble",
    "Usage",
]
