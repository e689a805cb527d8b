"""A random sequence of faults that a seed decides: which fault, at which job, in which phase of it."""

import random
from dataclasses import dataclass
from enum import StrEnum


class Strike(StrEnum):
    """What is broken."""

    KILL_WORKER = "worker kill -9"
    REMOVE_CONTAINER = "container docker rm -f"
    KILL_CONTAINER = "container docker kill"
    KILL_TEMPORAL = "Temporal server kill -9"
    KILL_STORE = "object store kill -9"
    STORE_ERRORS = "object store answers 503"
    CUT_UPLOADS = "uploads cut off"
    KILL_DOCKERD = "dockerd kill -9"
    STOP_DOCKERD = "dockerd stopped"
    MODEL_FAILS = "model API fails"


class Phase(StrEnum):
    """When."""

    COMMAND = "command"
    """While the job's command runs."""
    MODEL_CALL = "model call"
    """While the model thinks of the job; the snapshot of the job before it may be under way."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault at one position."""

    job: int
    """Number of the job, from 0."""
    phase: Phase
    strike: Strike


LOSES = frozenset({Strike.REMOVE_CONTAINER, Strike.KILL_CONTAINER, Strike.KILL_DOCKERD, Strike.STOP_DOCKERD})
"""Those that may cost the work of a tool call."""


def plan(seed: int, jobs: int, *, every: tuple[int, int] = (3, 7)) -> tuple[Blow, ...]:
    """The blows of a run; the same for the same arguments.

    Args:
        seed: Decides.
        jobs: Shell calls of the run.
        every: Fewest and most jobs from one blow to the next.
    """
    dice = random.Random(seed)
    blows: list[Blow] = []
    bag: list[Strike] = []
    at = dice.randint(1, every[1])
    while at < jobs:
        if not bag:
            # Every kind once before any kind again.
            bag = list(Strike)
            dice.shuffle(bag)
        blows.append(Blow(at, dice.choice(list(Phase)), bag.pop()))
        at += dice.randint(*every)
    return tuple(blows)
