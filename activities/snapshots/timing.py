"""How long things may take: what keeps a collection from deleting what a writer is about to name.

All of it is one chain of inequalities, checked in one place. Clocks of different machines may differ by what is left
over: with the times below, hours.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def wall_clock() -> datetime:
    """Return the time now."""
    return datetime.now(UTC)


def uptime() -> float:
    """Return seconds that never go back and go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Timing:
    """The times that writers and the collection agree on."""

    longest: timedelta = timedelta(hours=6)
    """From the first look at a container's files to the acknowledged write of the manifest."""
    limit: timedelta = timedelta(minutes=10)
    """From a look at the condemned list to the acknowledged write of a manifest that names packs of others."""
    same_packs: timedelta = timedelta(hours=12)
    """Attempts at one snapshot that begin in the same such period give the same packs the same keys; later ones do
    not, so a key that was ever condemned is never written again."""
    minimum_age: timedelta = timedelta(hours=24)
    """A younger pack is not condemned: its manifest may still come."""
    grace: timedelta = timedelta(hours=24)
    """From the condemnation of a pack to its deletion."""
    now: Callable[[], datetime] = field(default=wall_clock, repr=False)
    uptime: Callable[[], float] = field(default=uptime, repr=False)

    def __post_init__(self) -> None:
        """Refuse times under which something that is needed could be deleted.

        Raises:
            ValueError: They do not fit together.
        """
        if self.grace <= self.longest + self.limit:
            msg = (
                f"A grace of {self.grace} is too short: it must be longer than the longest snapshot allowed "
                f"({self.longest}) and the limit of a commit ({self.limit}) together."
            )
            raise ValueError(msg)
        if self.minimum_age <= self.longest + self.same_packs:
            msg = (
                f"Packs must be older than {self.longest + self.same_packs} before they are condemned, and "
                f"{self.minimum_age} is less."
            )
            raise ValueError(msg)

    def period(self) -> bytes:
        """Return what names the present period in which attempts at a snapshot share the keys of packs."""
        return b"%d" % ((self.now() - _EPOCH) // self.same_packs)

    def start(self) -> Stopwatch:
        """Begin to measure."""
        return Stopwatch(self)


class Stopwatch:
    """Measures by two clocks and believes the one that says more: each may stand still or be set back."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._wall = timing.now()
        self._up = timing.uptime()

    def elapsed(self) -> timedelta:
        """Return the time since it was made."""
        return max(self._timing.now() - self._wall, timedelta(seconds=self._timing.uptime() - self._up))


TIMING = Timing()
