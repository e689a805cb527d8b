"""What takes part in the benchmark of snapshots: ours, and the interface that its peers have too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from benchmarks.snapshot_boxes import BenchBoxes
from benchmarks.snapshot_process import Partner


@dataclass(frozen=True, slots=True)
class Taken:
    """One snapshot."""

    seconds: float
    stored: int
    """Bytes that it added to the store; 0 where that is not known for a single one."""
    requests: int | None = None
    """To the store, where that is known."""
    unchanged: bool | None = None
    """Whether it says that nothing had changed, where it does."""


class Subject(Protocol):
    """Takes snapshots of one container, and restores the last one into others."""

    name: str

    def fresh(self) -> None:
        """Begin with an empty store."""
        ...

    def take(self) -> Taken:
        """Take a snapshot."""
        ...

    def restore(self) -> float:
        """Make a new container, restore the last snapshot, run a command in it; seconds. The container is removed."""
        ...

    def stored(self) -> int:
        """Bytes in the store."""
        ...


class OurSubject:
    """Our engine, over a series of stores that were opened when the container was new."""

    def __init__(self, name: str, partner: Partner, boxes: BenchBoxes, stores: list[str], sizes: SizeOf) -> None:
        """Use engines that the partner has opened under the names of these stores, one after the other."""
        self.name = name
        self._partner, self._boxes, self._sizes = partner, boxes, sizes
        self._left = list(stores)
        self._store = ""

    def fresh(self) -> None:
        """See `Subject.fresh`."""
        self._store = self._left.pop(0)

    def take(self) -> Taken:
        """See `Subject.take`."""
        info = self._partner.ask("take", name=self._store)
        return Taken(info["seconds"], info["bytes_new_stored"], info["requests"], unchanged=bool(info["unchanged"]))

    def restore(self) -> float:
        """See `Subject.restore`."""
        began = time.perf_counter()
        self._partner.ask("restoring", name=self._store)
        copy = self._boxes.make()
        self._partner.ask("restore", name=self._store, container=copy.id)
        copy.run(["true"])
        seconds = time.perf_counter() - began
        self._boxes.check(copy)
        self._partner.ask("forget", name=self._store, container=copy.id)
        self._boxes.discard(copy.id)
        return seconds

    def stored(self) -> int:
        """See `Subject.stored`."""
        return self._sizes(self._store)

    def peak(self) -> int:
        """Bytes that were resident in the engine's process at once, at most, since it began."""
        return int(self._partner.ask("memory")["peak"])


SizeOf = Callable[[str], int]
"""Bytes of all objects below a store's URL."""
