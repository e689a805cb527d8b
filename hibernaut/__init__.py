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

from hibernaut.errors import HibernautError
from hibernaut.models import (
    AgentSpec,
    AgentState,
    AgentStatus,
    Answer,
    AnswerState,
    Event,
    EventKind,
    FileEntry,
    LogChunk,
    LogEnd,
    LogEntry,
    LogStart,
    Network,
    SandboxSpec,
    Ticket,
)

if TYPE_CHECKING:
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
    "Event",
    "EventKind",
    "FileEntry",
    "HibernautError",
    "LogChunk",
    "LogEnd",
    "LogEntry",
    "LogStart",
    "Network",
    "Reply",
    "SandboxSpec",
    "Ticket",
    "__version__",
]

# Workflows import this package inside Temporal's workflow sandbox, where clients and sockets have no business:
# what talks to a network is loaded when it is first named.
_LAZY = {
    "AgentClient": "hibernaut.client",
    "AgentHandle": "hibernaut.agent",
    "AgentSummary": "hibernaut.client",
    "Reply": "hibernaut._messages",
}


def __getattr__(name: str) -> object:
    """Load a client-side name on first use."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
