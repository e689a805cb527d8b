"""A world whose events and snapshots lie in a store, so that checkpoints can be found there."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.adapters.local_store import LocalStore
from activities.checkpoints import EVENTS, CheckpointGone, Checkpoints
from activities.snapshots.layout import manifest_key, parse_ref
from hibernaut import contracts as c
from hibernaut.models import SnapshotStatus
from tests.workflows.world import World, gone


@dataclass
class BranchWorld(World):
    """Finds checkpoints as the engine does; forks and rewinds by name alone."""

    folder: Path = Path()
    forks: list[c.ForkStateRequest] = field(default_factory=list[c.ForkStateRequest])
    rewinds: list[c.OpenBranchRequest] = field(default_factory=list[c.OpenBranchRequest])
    purged: list[c.PurgeRequest] = field(default_factory=list[c.PurgeRequest])
    unchanged: set[int] = field(default_factory=set[int])
    """Numbers of snapshots that find nothing changed."""
    slow: dict[int, asyncio.Event] = field(default_factory=dict[int, asyncio.Event])
    """Snapshots that wait for an event."""
    hold_rewind: asyncio.Event | None = None
    hold_destroy: asyncio.Event | None = None
    removal_fails: bool = False
    """Whether no container can be removed for now."""
    hold_put: asyncio.Event | None = None
    hold_restore: bool = False
    """Whether a restore never ends."""
    block_choose: bool = False
    """Whether there is no room anywhere."""
    fork_error: ApplicationError | None = None
    rewind_error: ApplicationError | None = None

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.folder)

    def activities(self) -> Sequence[Callable[..., object]]:
        return (*super().activities(), Checkpoints(self.store).find, self.fork, self.rewind)

    @activity.defn(name=c.AGENT_FORK.name)
    async def fork(self, request: c.ForkStateRequest) -> c.ForkStateResult:
        self.forks.append(request)
        if self.fork_error is not None:
            raise self.fork_error
        files = request.checkpoint.snapshot
        ref = c.StoreKeys.segment(request.new_uid, request.branch, request.checkpoint.step, 0)
        if files is None:
            return c.ForkStateResult(transcript_ref=ref)
        snapshot = SnapshotStatus(ref=manifest_key(request.new_uid, 1), number=1, taken_at=files.taken_at)
        await self.store.put(snapshot.ref, b"")
        return c.ForkStateResult(transcript_ref=ref, snapshot=snapshot, image_id="sha256:image")

    @activity.defn(name=c.AGENT_REWIND.name)
    async def rewind(self, request: c.OpenBranchRequest) -> c.OpenBranchResult:
        self.rewinds.append(request)
        if self.hold_rewind is not None:
            await self.hold_rewind.wait()
        if self.rewind_error is not None:
            raise self.rewind_error
        if any(one.generation > request.generation for one in self.acquired):
            # An acquire claims the head of the snapshots first of all.
            raise ApplicationError("a later generation has taken over", type=c.SNAPSHOT_FENCED, non_retryable=True)
        step = request.found.checkpoint.step
        return c.OpenBranchResult(transcript_ref=c.StoreKeys.segment(request.agent_uid, request.branch, step, 0))

    @activity.defn(name=c.PLACEMENT_CHOOSE.name)
    async def choose(self, request: c.PlacementRequest) -> c.Placement:
        placement = await super().choose(request)
        if self.block_choose:
            raise ApplicationError("no room", type="SandboxUnavailable")
        return placement

    @activity.defn(name=c.SNAPSHOT_TAKE.name)
    async def take(self, request: c.SnapshotRequest) -> c.SnapshotResult:
        result = await super().take(request)
        if any(one.generation > request.lease.generation for one in self.rewinds):
            # So does a rewind.
            raise ApplicationError("a later generation has taken over", type=c.SNAPSHOT_FENCED, non_retryable=True)
        if request.number in self.slow:
            await self.slow[request.number].wait()
        if request.number in self.unchanged:
            number = parse_ref(request.parent)[1] if request.parent else request.number
            return result.model_copy(update={"ref": request.parent, "number": number, "unchanged": True})
        ref = manifest_key(request.agent_uid, request.number)
        await self.store.put(ref, b"")
        return result.model_copy(update={"ref": ref})

    @activity.defn(name=c.SNAPSHOT_RESTORE.name)
    async def restore(self, request: c.RestoreRequest) -> c.RestoreResult:
        self.restored.append(request)
        if self.restore_errors and (error := self.restore_errors.pop(0)) is not None:
            raise error
        while self.hold_restore:
            activity.heartbeat()
            await asyncio.sleep(0.05)
        if request.lease.generation not in self.live:
            raise gone()
        return c.RestoreResult(restored_ref=request.ref, restored_number=parse_ref(request.ref)[1])

    @activity.defn(name=c.SANDBOX_DESTROY.name)
    async def destroy(self, request: c.DestroyRequest) -> c.DestroyResult:
        result = await super().destroy(request)
        if self.removal_fails:
            raise ApplicationError("the daemon does not answer", type="SandboxUnavailable")
        if self.hold_destroy is not None:
            await self.hold_destroy.wait()
        return result

    @activity.defn(name=c.FILES_PUT.name)
    async def put(self, request: c.PutFileRequest) -> c.PutFileResult:
        if self.hold_put is not None:
            self.puts.append(request)
            await self.hold_put.wait()
            raise gone()
        return await super().put(request)

    @activity.defn(name=c.EVENTS_APPEND.name)
    async def append(self, request: c.AppendEventsRequest) -> c.AppendEventsResult:
        await self.store.put(
            c.StoreKeys.events(request.agent_uid, request.events[0].seq), EVENTS.dump_json(request.events)
        )
        return await super().append(request)

    @activity.defn(name=c.AGENT_PURGE.name)
    async def purge(self, request: c.PurgeRequest) -> c.PurgeResult:
        self.purged.append(request)
        return c.PurgeResult(objects=0)


def pruned() -> ApplicationError:
    return ApplicationError("the snapshot was pruned", type=CheckpointGone.__name__, non_retryable=True)
