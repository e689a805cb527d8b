"""Checkpoints: the steps an agent can be forked at or rewound to."""

from datetime import datetime

from hibernaut.models.base import Open


class CheckpointFiles(Open):
    """The snapshot that holds the files of a checkpoint."""

    ref: str
    """Key of its manifest in the object store."""
    number: int
    taken_at: datetime
    files: int = 0
    """Paths in the whole delta over the image."""
    bytes_total: int = 0


class Checkpoint(Open):
    """An agent's conversation and files as a step left them."""

    branch: int
    step: int
    turn: int = 0
    at: datetime
    """When the step's reply was kept."""
    summary: str = ""
    """What the model said or asked for, in a line."""
    segment_ref: str
    """Key of the transcript segment that ends with the step's reply."""
    snapshot: CheckpointFiles | None = None
    """The files as the next step's first command found them; none: those of the image."""
    kept: bool = True
    """Whether the snapshot is still in the store: without it there is nothing to fork or to rewind to."""

    @property
    def name(self) -> str:
        """What it is called on a command line: `BRANCH:STEP`."""
        return f"{self.branch}:{self.step}"


class Origin(Open):
    """What an agent was forked from."""

    agent_id: str
    agent_uid: str
    branch: int
    step: int

    @property
    def name(self) -> str:
        """What the step is called on a command line: `BRANCH:STEP`."""
        return f"{self.branch}:{self.step}"
