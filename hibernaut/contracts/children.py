"""Child agents: the ids they have, the argument and result of `ChildAgentWorkflow`, its activities' requests."""

from datetime import datetime

from pydantic import JsonValue

from hibernaut.contracts.branching import Standpoint
from hibernaut.models.base import Open
from hibernaut.models.children import AgentParent, ChildState
from hibernaut.models.messages import AnswerState
from hibernaut.models.spending import Spent

CHILD_WORKFLOW = "ChildAgentWorkflow"
CHILD_ENDED = "child_ended"
"""The signal with which it tells the parent; its argument is a `ChildReport`."""
STOP_CHILD = "stop"
"""The signal that has it end the child's turn and close the child."""
MEMO_PARENT = "hibernaut_parent"
"""The memo in which a child bears its parent's id."""
TASK_PREFIX = "task:"
RESULT_PREFIX = "child:"
"""Begins the ids of the workflows that see to children, and of the messages in which a parent reads of them."""
REPORT_TEXT = 8_000
"""Characters of a child's answer that its parent's model reads."""
_ROOM = 128 - 1 - 24 - 1 - 4 - 1 - 4
"""What of an agent id is left for the parent's: `.LABEL-NUMBER-UID` follows."""


class ChildRequest(Open):
    """The argument of `ChildAgentWorkflow`."""

    parent: AgentParent
    child_id: str
    task: str
    spec: dict[str, JsonValue]
    """The child's."""
    source: Standpoint | None = None
    """The parent's but for its spec, when the child is to be a fork of it."""
    until: datetime
    """When the child is stopped at the latest."""
    ending: bool = False
    """Whether all that is asked is to close a child whose workflow is gone, and to tell what became of it."""


class ChildReport(Open):
    """The result of `ChildAgentWorkflow`: how the task ended. The child is closed, or about to be."""

    parent_uid: str
    agent_id: str
    state: ChildState
    text: str = ""
    """The answer's beginning, or why there is none."""
    truncated: bool = False
    steps: int = 0
    spent: Spent = Spent()
    """In the child's life."""


class ChildWaitRequest(Open):
    """Asks whether a child's task has ended; fails, to be tried again, while it has not."""

    agent_id: str
    message_id: str


class ChildWaitResult(Open):
    """It has."""

    state: AnswerState


class ChildCloseRequest(Open):
    """Has a child closed; fails, to be tried again, until it is."""

    agent_id: str
    parent_id: str = ""
    """Only if it is a child of this agent, when it is not certain that it was ever made."""


class ChildCloseResult(Open):
    """It is closed."""


class ChildFindRequest(Open):
    """Asks a child what it answered, and what it spent."""

    agent_id: str
    message_id: str


class ChildFindResult(Open):
    """What it says."""

    state: AnswerState
    text: str = ""
    truncated: bool = False
    steps: int = 0
    spent: Spent = Spent()


def child_agent_id(parent_id: str, parent_uid: str, number: int, label: str = "") -> str:
    """The id of an agent's child: the same for the same number, and another one for another agent of the same id."""
    return f"{child_prefix(parent_id)}{label or 'child'}-{number}-{parent_uid[:4]}"


def child_prefix(parent_id: str) -> str:
    """Begins the ids of an agent's children, and perhaps others."""
    return f"{parent_id[:_ROOM]}."


def child_workflow_id(child_id: str) -> str:
    """The id of the workflow that sees to a child; no agent's id can have a colon."""
    return f"{RESULT_PREFIX}{child_id}"


def child_message_id(child_id: str) -> str:
    """The id of the message that gives a child its task."""
    return f"{TASK_PREFIX}{child_id}"
