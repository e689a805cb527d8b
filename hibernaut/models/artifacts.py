"""Artifacts: files that an agent published. They are kept as they were, whatever becomes of its computer."""

from datetime import datetime
from typing import Literal

from hibernaut.models.base import Open


class Artifact(Open):
    """One published file."""

    format: Literal["hibernaut-artifact/1"] = "hibernaut-artifact/1"
    id: str
    """Names it among the agent's artifacts."""
    name: str
    """The file name for who downloads it."""
    path: str
    """Where it lay in the agent's computer."""
    description: str = ""
    size: int
    """Bytes."""
    sha256: str
    published_at: datetime
    turn: int = 0
    step: int = 0


class ArtifactLink(Open):
    """A link that anyone can download an artifact with, until it expires."""

    url: str
    expires_at: datetime
