"""The port to what Temporal knows of an agent."""

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Standing:
    """What is certain of the newest workflow under an agent id."""

    state: Literal["open", "closed", "missing"]
    """`missing`: there is none; what there was has been deleted, or its retention is over."""
    agent_uid: str = ""
    """Of an open one."""
    generation: int = 0
    """The newest generation that an open one has asked for, or is about to."""
    held_on: str = ""
    """The host whose sandbox of that generation an open one works with; none while it recovers or has no sandbox."""
    asleep: bool = False
    """Whether an open one hibernates, with no sandbox held or on its way: the next will be of a later generation."""


class Agents(Protocol):
    """Asks for agents."""

    async def standing(self, agent_id: str) -> Standing | None:
        """What is certain of an agent; None when nothing is: no answer, an error, a moment between two runs."""
        ...
