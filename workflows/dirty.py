"""Commands whose effects no snapshot holds yet, and which snapshot was the first to hold others'."""

from pydantic import BaseModel, ConfigDict

KEPT_COMMAND = 1_000
"""Characters of a command that is carried in order to be run again."""
KEPT_HEAD = 200
"""Characters of any other."""


class DirtyCommand(BaseModel):
    """A command that ran after the newest durable snapshot."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    command: str
    """Whole when it may be run again, else its head."""
    safe: bool = False
    """Whether it may be run again."""

    @classmethod
    def of(cls, command: str, *, safe: bool) -> "DirtyCommand":
        """Note a command; one too long to be carried cannot be run again."""
        safe = safe and len(command) <= KEPT_COMMAND
        return cls(command=command if safe else command[:KEPT_HEAD], safe=safe)

    @property
    def head(self) -> str:
        """What reports show of it."""
        return self.command[:KEPT_HEAD]


class Covered(BaseModel):
    """What a snapshot holds beyond the one before it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    number: int
    commands: tuple[str, ...]
    """Heads of the commands whose effects it was the first to hold."""
