"""Child agents: how many an agent may start with `start_agent`, and what is known of those it started."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from hibernaut.models.base import Model, Open

MAX_TASK = 20_000
"""Characters of a child's task."""
MAX_OPEN = 50
MAX_TOTAL = 1_000
MAX_DEPTH = 5

Computer = Literal["new", "copy"]


class ChildrenSpec(Model):
    """Limits of the agents that an agent starts itself; the tool `start_agent` must be among its `tools`."""

    most: Annotated[int, Field(ge=1, le=MAX_OPEN)] = 4
    """Children that are at work at once."""
    total: Annotated[int, Field(ge=1, le=MAX_TOTAL)] = 100
    """Children in the agent's whole life; each of them has a count of its own."""
    depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = 1
    """Generations below the agent: with 1 its children are not offered the tool, with 2 theirs are not."""
    timeout: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=365))] = timedelta(hours=24)
    """How long a child may take; a call may ask for less."""


class AgentParent(Open):
    """The agent that started this one."""

    agent_id: str
    agent_uid: str


class ChildState(StrEnum):
    """What became of a child's task."""

    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    """The child's model declined."""
    INTERRUPTED = "interrupted"
    """Its turn was interrupted, or it was closed: by a person, or because its parent was."""
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    UNKNOWN = "unknown"
    """Nothing is known of how it ended; the child itself may say more."""


class ChildStatus(Open):
    """One child, as its parent knows it."""

    agent_id: str
    state: ChildState
    task: str
    """The task's beginning."""
    computer: Computer = "new"
    """`copy`: it began as a fork of its parent."""
    background: bool = False
    """Whether the parent goes on meanwhile, and gets the answer as a message."""
    started_at: datetime
    until: datetime
    """When it is stopped at the latest."""
    ended_at: datetime | None = None
    tokens: int = 0
    """What it used, its own children included; known when it has ended, and counted in its parent's budget then."""
    cost_micros: int = 0
