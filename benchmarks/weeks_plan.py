"""What the long benchmark does how often, and how that is said on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

PARTS = ("life", "asleep", "wake", "schedule")
"""In their order; none needs another."""
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Life:
    """Days of workflow time, and what happens in them."""

    days: int = 60
    turns: int = 5
    """Turns a day."""
    steps_a_turn: int = 20
    long_every: int = 6
    """Each so many days, the first included, has one turn more."""
    long_turn: int = 400
    """Steps of that one."""
    points: tuple[int, ...] = (10, 1_000, 10_000)
    """Steps at which it is said what a step costs."""

    @property
    def steps(self) -> int:
        """All steps of the life."""
        return self.days * self.turns * self.steps_a_turn + -(-self.days // self.long_every) * self.long_turn


@dataclass(frozen=True, slots=True)
class Asleep:
    """Agents that sleep, and the upkeep that runs meanwhile."""

    agents: int = 20
    messages: int = 2
    """Turns that each has lived before it sleeps."""
    files: int = 10
    """Files of 100 kB that no compression makes smaller, written in its first turn."""
    housekeepings: int = 4
    collections: int = 4


@dataclass(frozen=True, slots=True)
class Wake:
    """Deltas to wake with."""

    sizes: tuple[int, ...] = (0, MEGABYTE, 30 * MEGABYTE, 300 * MEGABYTE)
    """Bytes that no compression makes smaller."""
    rounds: int = 5


@dataclass(frozen=True, slots=True)
class Schedule:
    """Firings of a day."""

    every: int = 86
    """Seconds between two."""
    firings: int = 1_000
    fresh: int = 200
    """Firings of a second schedule, each with a fresh agent."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which parts, and how much of each."""

    parts: tuple[str, ...] = PARTS
    life: Life = Life()
    asleep: Asleep = Asleep()
    wake: Wake = Wake()
    schedule: Schedule = Schedule()
    keep: bool = True
    """Whether results are written down."""


QUICK = Plan(
    life=Life(days=4, turns=2, steps_a_turn=5, long_every=2, long_turn=30, points=(10, 100)),
    asleep=Asleep(agents=2, messages=1, files=1, housekeepings=2, collections=2),
    wake=Wake(sizes=(MEGABYTE,), rounds=1),
    schedule=Schedule(firings=20, fresh=4),
    keep=False,
)


def plan_of(arguments: Sequence[str] | None) -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make bench-weeks", description="What weeks of an agent cost.")
    parser.add_argument("--quick", action="store_true", help="little of everything; writes no results")
    parser.add_argument("--part", action="append", choices=PARTS, help="this part alone (again: that one too)")
    chosen = parser.parse_args(arguments)
    plan = QUICK if chosen.quick else Plan()
    parts = tuple(name for name in PARTS if not chosen.part or name in chosen.part)
    return Plan(parts, plan.life, plan.asleep, plan.wake, plan.schedule, plan.keep)
