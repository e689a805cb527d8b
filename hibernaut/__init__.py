"""Hibernaut: durable agents with a computer that survives.

```python
from hibernaut import AgentClient, AgentSpec

client = await AgentClient.connect()
agent = await client.start("weekly-report", AgentSpec(model="gpt-5.5"))
reply = await agent.send("Summarise last week's sales")
```
"""

from importlib import import_module
from typing import TYPE_CHECKING

from hibernaut._people import PersonNeeded
from hibernaut.contracts.upkeep import Retention
from hibernaut.errors import HibernautError
from hibernaut.models import (
    AgentSpec,
    AgentState,
    AgentStatus,
    Answer,
    AnswerState,
    BudgetSpec,
    BudgetStatus,
    Checkpoint,
    Event,
    EventKind,
    FileEntry,
    Limits,
    LogChunk,
    LogEnd,
    LogEntry,
    LogStart,
    Network,
    SandboxSpec,
    SnapshotSpec,
    Ticket,
)
from hibernaut.models.mcp import McpSpec
from hibernaut.models.schedules import OverlapPolicy

if TYPE_CHECKING:
    from hibernaut._branching import CheckpointMissing, CheckpointPruned, RewindFailed, TurnUnderWay
    from hibernaut._messages import Reply
    from hibernaut.agent import AgentHandle
    from hibernaut.client import AgentClient, AgentSummary

__version__ = "0.1.0"

__all__ = [
    "AgentClient",
    "AgentHandle",
    "AgentSpec",
    "AgentState",
    "AgentStatus",
    "AgentSummary",
    "Answer",
    "AnswerState",
    "BudgetSpec",
    "BudgetStatus",
    "Checkpoint",
    "CheckpointMissing",
    "CheckpointPruned",
    "Event",
    "EventKind",
    "FileEntry",
    "HibernautError",
    "Limits",
    "LogChunk",
    "LogEnd",
    "LogEntry",
    "LogStart",
    "McpSpec",
    "Network",
    "OverlapPolicy",
    "PersonNeeded",
    "Reply",
    "Retention",
    "RewindFailed",
    "SandboxSpec",
    "SnapshotSpec",
    "Ticket",
    "TurnUnderWay",
    "__version__",
]

# Workflows import this package inside Temporal's workflow sandbox, where clients and sockets have no business:
# what talks to a network is loaded when it is first named.
_LAZY = {
    "AgentClient": "hibernaut.client",
    "AgentHandle": "hibernaut.agent",
    "AgentSummary": "hibernaut.client",
    "CheckpointMissing": "hibernaut._branching",
    "CheckpointPruned": "hibernaut._branching",
    "Reply": "hibernaut._messages",
    "RewindFailed": "hibernaut._branching",
    "TurnUnderWay": "hibernaut._branching",
}


def __getattr__(name: str) -> object:
    """Load a client-side name on first use."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
