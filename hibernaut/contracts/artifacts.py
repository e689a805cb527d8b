"""The request and the result of `artifact.publish`."""

from hibernaut.models.base import Open
from hibernaut.models.status import LeaseStatus


class PublishRequest(Open):
    """Asks for a file of a sandbox to be kept as an artifact."""

    agent_uid: str
    lease: LeaseStatus
    artifact_id: str
    """The same on every retry."""
    path: str
    name: str
    description: str = ""
    max_bytes: int
    turn: int = 0
    step: int = 0


class PublishResult(Open):
    """What was kept."""

    artifact_id: str
    name: str
    size: int
    sha256: str
