"""A simulated store and everybody who uses it: agents, and workers that prune, collect and name."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from activities.errors import SnapshotNameTaken, SnapshotNotFound
from activities.ports.upkeep import Retention
from activities.snapshots.catalogue import Catalogue
from activities.snapshots.engine import Engine
from activities.snapshots.layout import parse_ref
from activities.snapshots.rewriting import Rewriting
from activities.snapshots.sealing import PLAIN
from activities.snapshots.sharing import Bounds
from activities.snapshots.timing import Timing
from activities.snapshots.upkeep import StoreUpkeep
from tests.support.simulated_agents import Agent, Files
from tests.support.simulated_store import Schedule, SimulatedStore
from tests.support.simulated_truth import Loss, Truth

if TYPE_CHECKING:
    from datetime import timedelta

    from tests.support.simulated_pace import Pace


@dataclass(slots=True)
class World:
    """One store, and everybody who uses it."""

    random: random.Random
    timing: Timing
    schedule: Schedule
    store: SimulatedStore
    truth: Truth
    bounds: Bounds
    pace: Pace
    pause: float
    """The longest time between two collections by the same, in seconds."""
    agents: list[Agent] = field(default_factory=list["Agent"])
    seen: Counter[str] = field(default_factory=Counter[str])
    """What happened, how often."""

    @classmethod
    def make(cls, seed: int, pace: Pace, kind: type[Timing] = Timing, **times: timedelta) -> World:
        """Make an empty world; everything in it follows from the seed."""
        chance = random.Random(seed)
        schedule = Schedule(chance, pace, stalls=chance.choice((0.02, 0.1)))
        timing = kind(now=lambda: schedule.now, uptime=schedule.uptime, **{**pace.timing, **times})
        store = SimulatedStore(schedule)
        bounds = Bounds(borrow=0, offer=0) if chance.random() < 0.8 else Bounds()
        return cls(chance, timing, schedule, store, Truth(store), bounds, pace, chance.choice(pace.collect))

    def engine(self, files: Files) -> Engine:
        """A worker that knows nothing yet."""
        return Engine(self.store, files, timing=self.timing, bounds=self.bounds)

    def upkeep(self) -> StoreUpkeep:
        """A worker that keeps things in order."""
        return StoreUpkeep(self.store, timing=self.timing)

    def rewriting(self) -> Rewriting:
        """A worker that sees to what deleted agents leave."""
        return Rewriting(self.store, Catalogue(self.store, PLAIN), PLAIN, self.timing)

    async def collect(self) -> None:
        """Collect now and then, for as long as anybody lives."""
        upkeep = self.upkeep()
        while self._alive():
            await self.schedule.turn(self.random.uniform(0, self.pause))
            report = await upkeep.collect()
            for name in ("condemned", "released", "swept"):
                self.seen[name] += getattr(report, name)

    async def prune(self) -> None:
        """Prune somebody now and then, for as long as anybody lives."""
        upkeep = self.upkeep()
        while self._alive():
            await self.schedule.turn(self.random.uniform(0, self.pace.prune))
            agent = self.random.choice(self.agents)
            keep = Retention(last=self.random.choice((0, 0, 2)), daily=self.random.choice((0, 0, 3)))
            try:
                report = await upkeep.prune(agent.uid, keep)
            except SnapshotNotFound:
                continue
            self.seen["pruned"] += len(report.removed)

    async def name(self, names: int) -> None:
        """Name some snapshots."""
        upkeep = self.upkeep()
        for number in range(names):
            await self.schedule.turn(self.random.uniform(0, 3 * self.pace.prune))
            if not self.truth.promises:
                continue
            ref = self.random.choice(sorted(self.truth.promises))
            try:
                await upkeep.name_snapshot(*parse_ref(ref), f"name-{number}")
            except (SnapshotNotFound, SnapshotNameTaken):
                continue
            if ref in self.truth.promises:
                self.truth.named.add(ref)
                self.seen["named"] += 1

    def _alive(self) -> bool:
        return any(name.startswith("live") and not task.done() for name, task in self.schedule.tasks.items())

    def start(self, name: str, *, source: str | None = None, steps: int) -> Agent:
        """Let an agent live: a new one, or a fork."""
        agent = Agent(self, f"{name}-{len(self.agents)}", steps)
        self.agents.append(agent)
        self.schedule.start(f"live {agent.uid}", agent.live(source))
        return agent

    async def drain(self) -> None:
        """Collect until there is nothing left to collect: whatever nothing names has to be gone then."""
        upkeep = self.upkeep()
        ages = self.timing.minimum_age + self.timing.grace
        for _ in range(4):
            await self.schedule.turn(ages.total_seconds())
            await upkeep.collect()
        if left := self.truth.packs() - self.truth.named_packs():
            msg = f"{sorted(left)} are never collected"
            raise Loss(msg)

    async def restore_all(self) -> None:
        """Restore everything that was promised, on a host that knows nothing."""
        files = Files()
        engine = self.engine(files)
        for number, (ref, promise) in enumerate(sorted(self.truth.promises.items())):
            box = f"last-{number}"
            uid, _ = parse_ref(ref)
            info = await engine.restore(box, agent_uid=uid, generation=10**6, ref=ref, progress=lambda _text: None)
            tree = {path: content for path, (_, content) in files.boxes[box].tree.items()}
            if info.restored != ref or promise.tree not in (None, tree):
                msg = f"{ref} does not restore: {info.reason or 'other files'}"
                raise Loss(msg)
