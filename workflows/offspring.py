"""What an agent's record knows of the agents that it started. State alone: no clock, no command."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from hibernaut.models.children import ChildState, ChildStatus, Computer

KEPT_ENDED = 20
"""Children that have ended and are still shown."""
KEPT_TASK = 200
"""Characters of a task."""


class Child(BaseModel):
    """One child."""

    model_config = ConfigDict(extra="ignore")

    agent_id: str
    task: str
    computer: Computer
    background: bool
    """Whether its answer is to come as a message; else a call waits for it, or nobody wants it any more."""
    started_at: datetime
    until: datetime
    state: ChildState = ChildState.RUNNING
    ended_at: datetime | None = None
    text: str = ""
    """Its answer, until the model has been told."""
    truncated: bool = False
    tokens: int = 0
    cost_micros: int = 0
    stop: bool = False
    """Whether it is to be stopped."""
    ordered: bool = False
    """Whether its workflow has been told so."""

    def status(self) -> ChildStatus:
        """What everybody is told of it."""
        return ChildStatus.model_validate(self.model_dump(include=set(ChildStatus.model_fields)))


class Offspring(BaseModel):
    """Carried from run to run; bounded by the limits of the spec and by `KEPT_ENDED`."""

    model_config = ConfigDict(extra="ignore")

    started: int = 0
    """How many there ever were; also the number of the newest."""
    known: list[Child] = []

    def find(self, agent_id: str) -> Child | None:
        """A child that is at work, or has ended not long ago."""
        return next((child for child in self.known if child.agent_id == agent_id), None)

    @property
    def running(self) -> list[Child]:
        """Those that have not ended."""
        return [child for child in self.known if child.state is ChildState.RUNNING]

    def add(self, child: Child) -> None:
        """Note one that is being started, and forget the oldest that have ended and been told of."""
        self.started += 1
        ended = [one for one in self.known if one.state is not ChildState.RUNNING and not one.text]
        dropped = {one.agent_id for one in ended[:-KEPT_ENDED]}
        self.known = [*(one for one in self.known if one.agent_id not in dropped), child]
