"""What of a container's files a snapshot is to hold, and how much of them it may."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from activities.snapshots.exclusion import Exclusion
from activities.snapshots.limit import UNLIMITED, Limit

if TYPE_CHECKING:
    from activities.ports.snapshots import TakeOptions


@dataclass(frozen=True, slots=True)
class Scope:
    """Made for one capture, and used by one thread."""

    exclusion: Exclusion = field(default_factory=lambda: Exclusion(()))
    limit: Limit = UNLIMITED

    @classmethod
    def of(cls, options: TakeOptions) -> Self:
        """From the options of a snapshot."""
        return cls(Exclusion(options.exclude), Limit(options.max_bytes))


EVERYTHING = Scope()
