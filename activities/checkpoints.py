"""checkpoint.find: which steps an agent can go back to, read from its event log.

A step's files are those that the first command of a later step found: a snapshot's event says after which step's
commands it was asked for, so what the log tells is exact whenever the snapshot ended.
"""

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from pydantic import TypeAdapter, ValidationError
from temporalio import activity

from activities.errors import HibernautActivityError, ObjectNotFound
from activities.heartbeat import beating
from activities.ports.store import ObjectStore
from activities.snapshots.layout import manifests_prefix
from hibernaut.contracts import CHECKPOINT_FIND, FindCheckpointRequest, FoundCheckpoint, Standpoint, StoreKeys
from hibernaut.models import Checkpoint, CheckpointFiles, Event, EventKind

EVENTS = TypeAdapter(tuple[Event, ...])
PARALLEL = 16


class CheckpointError(HibernautActivityError):
    """A step that was asked for cannot be gone back to."""

    retryable: ClassVar[bool] = False


class CheckpointNotFound(CheckpointError):
    """There is no such step, or it is not finished yet."""


class CheckpointGone(CheckpointError):
    """The snapshot of the step was pruned."""


class Log:
    """The checkpoints that an event log tells of, fed event by event."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self.points: dict[tuple[int, int], Checkpoint] = {}
        self.parents: dict[int, tuple[int, int]] = {}
        """For each branch the branch and the step that it grew from."""
        self._last: dict[int, int] = {}
        self._files: CheckpointFiles | None = None
        self._known: dict[str, CheckpointFiles] = {}

    def add(self, event: Event) -> None:
        """Take the next event."""
        data = event.data
        match event.kind:
            case EventKind.REPLY if "segment_ref" in data:
                fields = {**data, "turn": event.turn, "at": event.at, "summary": event.summary, "snapshot": self._files}
                self._put(Checkpoint.model_validate(fields))
            case EventKind.SNAPSHOT if "after_step" in data:
                self._hold(event, CheckpointFiles.model_validate({**data, "taken_at": event.at}))
            case EventKind.RESTORED if "after_step" in data:
                ref = str(data["ref"])
                bare = CheckpointFiles.model_validate(
                    {**data, "bytes_total": data.get("bytes", 0), "taken_at": event.at}
                )
                self._hold(event, self._known.get(ref, bare))
            case EventKind.REWOUND | EventKind.FORKED:
                point = Checkpoint.model_validate(data["checkpoint"])
                if event.kind is EventKind.REWOUND:
                    self.parents[point.branch] = (int(str(data["from_branch"])), point.step)
                    self._leave(event)
                self._files = point.snapshot
                self._put(point)
            case _:
                pass

    def _leave(self, event: Event) -> None:
        """Drop the steps of the branch that is left whose effects were lost: it never was as they say."""
        if "left_newest" in event.data:
            left, newest = int(str(event.data["left_branch"])), int(str(event.data["left_newest"]))
            for branch, step in [place for place in self.points if place[0] == left and place[1] > newest]:
                del self.points[branch, step]

    def _put(self, point: Checkpoint) -> None:
        self.points[point.branch, point.step] = point
        self._last[point.branch] = point.step

    def _hold(self, event: Event, files: CheckpointFiles) -> None:
        """From this step on, these are the files."""
        branch, after = int(str(event.data["branch"])), int(str(event.data["after_step"]))
        self._files = self._known[files.ref] = files
        for step in range(max(0, after), self._last.get(branch, -1) + 1):
            point = self.points.get((branch, step))
            if point is not None:
                self.points[branch, step] = point.model_copy(update={"snapshot": files})


class Checkpoints:
    """Runs on the control queue; needs the store alone."""

    def __init__(self, store: ObjectStore) -> None:
        """Use this store."""
        self._store = store

    @activity.defn(name=CHECKPOINT_FIND.name)
    async def find(self, request: FindCheckpointRequest) -> FoundCheckpoint:
        """Find one step.

        Raises:
            CheckpointNotFound: There is no such step, or it is not finished yet.
            CheckpointGone: Its snapshot was pruned; the message names the nearest step that has one.
        """
        source, newest = request.source, request.source.newest
        if request.step is None:
            if newest is None:
                raise CheckpointNotFound(f"Agent {source.agent_id} has no finished step yet: it has no checkpoint.")
            return FoundCheckpoint(checkpoint=newest, pending=source.pending)
        async with beating():
            log = await self._log(source)
            points = await self._kept(source, log.points)
        wanted = _resolved(log, source.branch if request.branch is None else request.branch, request.step)
        point = points.get(wanted)
        if point is None:
            raise CheckpointNotFound(_unknown(source, request, points))
        if not point.kept:
            raise CheckpointGone(_gone(source, point, points))
        pending = source.pending if newest is not None and (newest.branch, newest.step) == wanted else ()
        return FoundCheckpoint(checkpoint=point, pending=pending)

    async def all(self, source: Standpoint) -> list[Checkpoint]:
        """Every checkpoint of an agent, oldest branch first, those without a snapshot among them."""
        log = await self._log(source)
        return [point for _, point in sorted((await self._kept(source, log.points)).items())]

    async def _log(self, source: Standpoint) -> Log:
        log, last = Log(), 0
        prefix = StoreKeys.events(source.agent_uid, 0).rpartition("/")[0] + "/"
        keys = [info.key async for info in self._store.list(prefix)]
        for begin in range(0, len(keys), PARALLEL):
            read = await asyncio.gather(*(self._segment(key) for key in keys[begin : begin + PARALLEL]))
            last = _feed(log, (event for segment in read for event in segment), last)
        _feed(log, source.recent, last)
        newest = source.newest
        if newest is not None:
            log.points[newest.branch, newest.step] = newest
        # What is not finished is no place to go back to.
        finished = newest.step if newest is not None and newest.branch == source.branch else -1
        for branch, step in [one for one in log.points if one[0] == source.branch and one[1] > finished]:
            del log.points[branch, step]
        return log

    async def _segment(self, key: str) -> tuple[Event, ...]:
        try:
            return EVENTS.validate_json(await self._store.get(key))
        except (ObjectNotFound, ValidationError) as error:
            msg = f"The event log is damaged: segment {key} cannot be read, and which steps there were is in it."
            raise CheckpointError(msg) from error

    async def _kept(
        self, source: Standpoint, points: dict[tuple[int, int], Checkpoint]
    ) -> dict[tuple[int, int], Checkpoint]:
        """The same, those marked whose snapshot is in the store no more."""
        there = {info.key async for info in self._store.list(manifests_prefix(source.agent_uid))}
        return {
            place: point.model_copy(update={"kept": point.snapshot is None or point.snapshot.ref in there})
            for place, point in points.items()
        }


def _feed(log: Log, events: Iterable[Event], last: int) -> int:
    """Feed what is new; segments may overlap with what the workflow still holds."""
    for event in events:
        if event.seq > last:
            last = event.seq
            log.add(event)
    return last


def _resolved(log: Log, branch: int, step: int) -> tuple[int, int]:
    """Where a step lies that is spoken of on a branch: there, or on one that it grew from."""
    while (branch, step) not in log.points and branch in log.parents and step <= log.parents[branch][1]:
        branch = log.parents[branch][0]
    return branch, step


def _unknown(source: Standpoint, request: FindCheckpointRequest, points: dict[tuple[int, int], Checkpoint]) -> str:
    asked = f"{request.step}" if request.branch is None else f"{request.branch}:{request.step}"
    newest = f" The newest is {source.newest.name}." if source.newest is not None else " It has none yet."
    known = f" There are {len(points)}: `hibernaut checkpoints {source.agent_id}` lists them." if points else ""
    return (
        f"Agent {source.agent_id} has no checkpoint {asked}: no such step, or one that is not finished.{newest}{known}"
    )


def _gone(source: Standpoint, point: Checkpoint, points: dict[tuple[int, int], Checkpoint]) -> str:
    number = point.snapshot.number if point.snapshot is not None else 0
    kept = [one for one in points.values() if one.kept and one.branch == point.branch]
    kept = kept or [one for one in points.values() if one.kept]
    nearest = min(kept, key=lambda one: (abs(one.step - point.step), one.step), default=None)
    told = f" The nearest that can be used is {nearest.name}." if nearest is not None else " No other has one either."
    return f"Step {point.name} of agent {source.agent_id} had snapshot {number}, which was pruned.{told}"
