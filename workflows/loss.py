"""Trouble with a sandbox: what is known of it, and what became of it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from hibernaut import contracts
from hibernaut.models import ReplayedCommand
from workflows.dirty import DirtyCommand
from workflows.ladder import Finding


class Recovered(Enum):
    """What became of the sandbox."""

    INTACT = auto()
    """It is as it was; whatever was asked of it may be asked again."""
    RESTARTED = auto()
    """The same container with its files; its processes are gone."""
    REPLACED = auto()
    """The next generation, from the newest snapshot."""
    STOPPED = auto()
    """The turn is to end before another sandbox is there."""


@dataclass(slots=True)
class Loss:
    """Trouble with a sandbox, as whoever met it knows it."""

    reason: str
    finding: Finding
    generation: int
    finished: Sequence[DirtyCommand] = ()
    """Commands that ran to their end and are in no snapshot."""
    uncertain: Sequence[DirtyCommand] = ()
    """Commands that may or may not have taken effect, unless `collect` finds out."""
    collect: Callable[[], Awaitable[tuple[Sequence[DirtyCommand], Sequence[DirtyCommand]] | None]] | None = None
    """Asks a restarted container what its journal knows: the finished and the uncertain ones; none if it is gone."""
    placement: contracts.Placement | None = field(default=None, init=False)
    how: Recovered = field(default=Recovered.INTACT, init=False)
    gone: list[DirtyCommand] = field(default_factory=list[DirtyCommand], init=False)
    """Commands that had ended before it and are in no snapshot."""
    requested: int | None = field(default=None, init=False)
    """The snapshot that should be restored."""
    fatal: bool = field(default=False, init=False)
    """Whether a replay lost the sandbox once more: it is not tried again."""
    replayed: list[ReplayedCommand] = field(default_factory=list[ReplayedCommand], init=False)
