"""Agents that live in a simulated store: they work, crash, wake, fork and end, while others prune and collect."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from activities.errors import (
    HibernautActivityError,
    SnapshotConflict,
    SnapshotDamaged,
    SnapshotFenced,
    SnapshotNotFound,
)
from activities.snapshots.cutting import is_cut
from activities.snapshots.entries import Entry, Kind
from activities.snapshots.layout import packs_prefix, parse_ref
from tests.support.memory_capture import MemoryCapture
from tests.support.simulated_truth import Loss, Tree

if TYPE_CHECKING:
    from activities.snapshots.capture import Capture
    from activities.snapshots.engine import Engine
    from tests.support.simulated_world import World

_POOL = [random.Random(number).randbytes(600) for number in range(8)]


class Files:
    """The containers of one host."""

    def __init__(self) -> None:
        self.boxes: dict[str, MemoryCapture] = {}

    def open(self, container_id: str, known: Capture | None) -> Capture:
        del known
        return self.boxes.setdefault(container_id, MemoryCapture())


class Agent:
    """One agent: a workflow, a container at a time, and workers that die."""

    def __init__(self, world: World, uid: str, steps: int) -> None:
        self.world = world
        self.uid = uid
        self._steps = steps
        self._generation = 0
        self._number = 0
        self._ref: str | None = None
        self._files = Files()
        self._engine = world.engine(self._files)
        self._attempts = 0

    async def live(self, source: str | None) -> None:
        """Do one thing after the other."""
        world = self.world
        if source is not None and not await self._fork_from(source):
            return
        await self._wake(self._ref)
        for _ in range(self._steps):
            await world.schedule.turn(world.random.choice(world.pace.idle))
            step = world.random.choice("wwwwcccrRiiffq")
            if step == "q" and world.random.random() < 0.5:
                await self._end()
                return
            await self._step(step)
        if world.random.random() < 0.4:
            await self._end()

    async def _step(self, step: str) -> None:
        world = self.world
        match step:
            case "c":
                self._work()
                await self._crash()
                await self._take(again=True)
            case "r":
                await self._wake(self._ref)
            case "R":
                await self._rewind()
            case "i":
                self._engine = world.engine(self._files)
                await self._take()
            case "f":
                if world.truth.promises and len(world.agents) < 6:
                    world.start("fork", source=world.random.choice(sorted(world.truth.promises)), steps=2)
            case _:
                self._work()
                await self._take()

    @property
    def _box(self) -> MemoryCapture:
        return self._files.boxes[self._container]

    @property
    def _container(self) -> str:
        return f"{self.uid}-box{self._generation}"

    def _tree(self) -> Tree:
        return {path: content for path, (_, content) in self._box.tree.items()}

    def _work(self) -> None:
        chance = self.world.random
        for _ in range(chance.randint(1, 4)):
            path = b"file%d" % chance.randrange(6)
            if chance.random() < 0.2:
                self._box.tree.pop(path, None)
            else:
                self._box.add(Entry(path, Kind.FILE, mtime_ns=chance.randrange(3)), chance.choice(_POOL))

    async def _take(self, *, again: bool = False) -> None:
        """Take a snapshot, as often as it is worth trying."""
        if not again:
            self._number += 1
        for _ in range(3):
            try:
                await self._attempt(self._engine, self._number, self._ref, self._tree(), current=True)
                return
            except SnapshotConflict:
                self.world.seen["conflict"] += 1
                return
            except HibernautActivityError as error:
                self.world.seen[type(error).__name__] += 1
                if not error.retryable:
                    raise
                await self.world.schedule.turn(self.world.random.uniform(0, self.world.pace.prune))

    async def _attempt(self, engine: Engine, number: int, parent: str | None, tree: Tree, *, current: bool) -> None:
        info = await engine.take(
            self._container,
            agent_uid=self.uid,
            generation=self._generation,
            number=number,
            parent=parent,
            progress=lambda _text: None,
        )
        self.world.seen["unchanged" if info.unchanged else "taken"] += 1
        # One that was late by hours may have seen what was done since.
        self.world.truth.acknowledge(info.ref, tree if current else None)
        if current:
            self._ref = info.ref
            self.world.truth.hold(self.uid, info.ref)

    async def _crash(self) -> None:
        """Begin a snapshot with a worker that freezes half-way: for good, or to wake much later."""
        world = self.world
        self._number += 1
        self._attempts += 1
        name = f"attempt {self.uid} {self._attempts}"
        engine, self._engine = self._engine, world.engine(self._files)
        number, ref, tree = self._number, self._ref, self._tree()

        async def attempt() -> None:
            try:
                await self._attempt(engine, number, ref, tree, current=False)
                world.seen["late"] += 1
            except (SnapshotFenced, SnapshotConflict):
                world.seen["refused"] += 1
            except HibernautActivityError as error:
                if not error.retryable:
                    raise

        world.schedule.freezing[name] = world.random.randint(1, 14)
        task = world.schedule.start(name, attempt())
        while not task.done() and name not in world.schedule.frozen:
            await world.schedule.turn(1)
        if world.random.random() < 0.6:
            world.schedule.start(f"waking {name}", self._thaw(name))

    async def _thaw(self, name: str) -> None:
        await self.world.schedule.turn(self.world.random.choice(self.world.pace.late))
        self.world.schedule.frozen.discard(name)

    async def _wake(self, ref: str | None) -> None:
        """Get a new container, with the files of a snapshot."""
        self._generation += 1
        self._files.boxes[self._container] = MemoryCapture()
        if self.world.random.random() < 0.5:
            self._engine = self.world.engine(self._files)
        await self._engine.claim(agent_uid=self.uid, generation=self._generation)
        await self._engine.prepare(self._container, agent_uid=self.uid, generation=self._generation)
        if ref is None:
            return
        promise = self.world.truth.promises.get(ref)
        info = await self._engine.restore(
            self._container, agent_uid=self.uid, generation=self._generation, ref=ref, progress=lambda _text: None
        )
        if info.restored != ref:
            if ref in self.world.truth.promises:
                msg = f"{ref} could not be restored: {info.reason}"
                raise Loss(msg)
            self.world.seen["fell back"] += 1
        elif promise is not None and promise.tree not in (None, self._tree()):
            msg = f"{ref} was restored to other files"
            raise Loss(msg)
        self._ref = info.restored

    async def _rewind(self) -> None:
        """Go back to an earlier snapshot: nothing keeps it until the next one is taken."""
        own = [ref for ref in self.world.truth.promises if parse_ref(ref)[0] == self.uid]
        if own:
            ref = self.world.random.choice(own)
            try:
                await self._wake(ref)
            except SnapshotNotFound:
                await self._wake(self._ref)
            except SnapshotDamaged as error:
                # A pruning that is under way deletes what it builds on first.
                if ref in self.world.truth.promises:
                    msg = f"{ref} cannot be gone back to: {error}"
                    raise Loss(msg) from error
                await self._wake(self._ref)
            self.world.seen["rewound"] += 1
            await self._take()

    async def _fork_from(self, source: str) -> bool:
        promise = self.world.truth.promises.get(source)
        self._number = 1
        for _ in range(4):
            try:
                info = await self._engine.fork(source, agent_uid=self.uid, generation=1)
            except HibernautActivityError as error:
                self.world.seen[f"fork: {type(error).__name__}"] += 1
                if not error.retryable:
                    if source in self.world.truth.promises:
                        msg = f"{source} could not be forked: {error}"
                        raise Loss(msg) from error
                    return False
                continue
            if promise is not None:
                self.world.truth.acknowledge(info.ref, promise.tree)
                self.world.truth.hold(self.uid, info.ref)
            self._ref = info.ref
            self.world.seen["forked"] += 1
            return True
        return False

    async def _end(self) -> None:
        """Delete the agent, at times with a worker that freezes half-way."""
        world = self.world
        inherited = await world.rewriting().inherited(self.uid)
        world.truth.forget(self.uid)
        await world.engine(Files()).delete_agent(self.uid)
        if world.random.random() < 0.4:
            name = f"deletion {self.uid}"
            world.schedule.freezing[name] = world.random.randint(1, 40)
            task = world.schedule.start(name, self._rewrite(inherited))
            while not task.done() and name not in world.schedule.frozen:
                await world.schedule.turn(1)
            if world.random.random() < 0.6:
                world.schedule.start(f"waking {name}", self._thaw(name))
        await self._rewrite(inherited)
        world.seen["deleted"] += 1

    async def _rewrite(self, inherited: tuple[str, ...]) -> None:
        while True:
            try:
                kept = await self.world.rewriting().rewrite(self.uid, inherited, lambda _text: None)
            except HibernautActivityError as error:
                self.world.seen[f"rewriting: {type(error).__name__}"] += 1
                if not error.retryable:
                    raise
                continue
            self.world.seen["emptied"] += kept.idle
            prefix, objects = packs_prefix(self.uid), self.world.store.objects
            left = [objects[f"{prefix}{pack.pack}"].data for pack in kept.packs if f"{prefix}{pack.pack}" in objects]
            self.world.seen["cut"] += sum(map(is_cut, left))
            return
