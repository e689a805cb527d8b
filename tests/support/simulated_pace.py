"""How fast things happen in a simulated store, against the times that writers and the collection agree on."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from activities.snapshots import commit, retention

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping


@dataclass(frozen=True, slots=True)
class Pace:
    """All in seconds."""

    timing: Mapping[str, timedelta]
    """Of `Timing`; empty: what is used outside tests."""
    turn: float
    """The longest time that one request takes."""
    leaps: tuple[tuple[float, float], ...]
    """Odds that much time passes before a request, and how much at most."""
    stall: tuple[float, float]
    """A request that is held up is so for ten to the power of something between."""
    idle: tuple[float, ...]
    """Between two things that an agent does."""
    collect: tuple[float, ...]
    """At most, between two passes of one collector."""
    prune: float
    late: tuple[float, ...]
    """How long a frozen writer sleeps."""
    recent: float
    """Snapshots younger than this are not pruned."""

    @contextmanager
    def kept(self, full_every: int = 3) -> Generator[None]:
        """Have modules go by it, and make chains short."""
        before = retention.RECENT, commit.FULL_EVERY
        retention.RECENT, commit.FULL_EVERY = timedelta(seconds=self.recent), full_every
        try:
            yield
        finally:
            retention.RECENT, commit.FULL_EVERY = before


SLOW = Pace(
    timing={},
    turn=0.5,
    leaps=((0.004, 30 * 3600), (0.02, 3 * 3600), (0.1, 600)),
    stall=(1, 5.2),
    idle=(0, 5, 600, 4 * 3600, 30 * 3600),
    collect=(25 * 3600, 3600, 300),
    prune=4 * 3600,
    late=(5, 3600, 40 * 3600),
    recent=3600,
)
"""The times of the real thing."""
FAST = Pace(
    timing={
        "longest": timedelta(seconds=20),
        "limit": timedelta(seconds=4),
        "same_packs": timedelta(seconds=20),
        "minimum_age": timedelta(seconds=45),
        "grace": timedelta(seconds=26),
    },
    turn=0.2,
    leaps=((0.002, 60), (0.01, 10)),
    stall=(0, 2.3),
    idle=(0, 1, 5, 30),
    collect=(10, 1),
    prune=8,
    late=(1, 10, 60),
    recent=2,
)
"""So short a grace that passes, prunings and snapshots are always under way together."""
