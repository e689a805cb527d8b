"""A world for workflow tests: every activity under its own name, scripted, with a log of what was asked."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from temporalio import activity
from temporalio.exceptions import ApplicationError

from hibernaut import contracts as c
from hibernaut.models import CommandOutcome, LeaseStatus, OutcomeKind, ToolCall, Usage
from tests.workflows.compaction_world import CompactionWorld

HOST = "test-host"
GHOST = "ghost"
"""A host of which no worker ever takes a task."""
BUSY_QUEUE = "busy"
"""The queue of a host without a free slot: no worker polls it until a test starts one."""


def say(text: str) -> c.ModelReply:
    return c.ModelReply(segment_ref="", text_head=text, usage=Usage(input_tokens=10, output_tokens=5, total_tokens=15))


def shell(*commands: str, call_id: str = "call_1") -> c.ModelReply:
    call = ToolCall(call_id=call_id, kind="shell_call", commands=commands)
    return c.ModelReply(segment_ref="", tool_calls=(call,), usage=Usage(total_tokens=15))


def gone(message: str = "the container is gone") -> ApplicationError:
    return ApplicationError(message, type=c.SANDBOX_LOST, non_retryable=True)


Step = c.ModelReply | BaseException | Callable[[c.ModelRequest], c.ModelReply]


@dataclass
class World(CompactionWorld):
    """What the model says next, what fails next, and what happened."""

    script: list[Step] = field(default_factory=list[Step])
    requests: list[c.ModelRequest] = field(default_factory=list[c.ModelRequest])
    execs: list[c.ExecRequest] = field(default_factory=list[c.ExecRequest])
    acquired: list[c.AcquireRequest] = field(default_factory=list[c.AcquireRequest])
    restored: list[c.RestoreRequest] = field(default_factory=list[c.RestoreRequest])
    destroyed: list[c.DestroyRequest] = field(default_factory=list[c.DestroyRequest])
    snapshots: list[c.SnapshotRequest] = field(default_factory=list[c.SnapshotRequest])
    puts: list[c.PutFileRequest] = field(default_factory=list[c.PutFileRequest])
    published: list[c.PublishRequest] = field(default_factory=list[c.PublishRequest])
    kept: dict[str, str] = field(default_factory=dict[str, str])
    events: list[int] = field(default_factory=list[int])
    live: set[int] = field(default_factory=set[int])
    """Generations whose container exists."""
    lose_before_exec: int | None = None
    """Index of the exec that finds its container gone."""
    lose_during_exec: int | None = None
    stop_during_exec: int | None = None
    """Index of the exec under which its container stops, so that it can be started again."""
    journal: dict[str, OutcomeKind] = field(default_factory=dict[str, OutcomeKind])
    """What a restarted container knows of commands, by exec id; the others it knows nothing of."""
    snapshot_errors: list[BaseException | None] = field(default_factory=list[BaseException | None])
    acquire_errors: list[BaseException | None] = field(default_factory=list[BaseException | None])
    restore_errors: list[BaseException | None] = field(default_factory=list[BaseException | None])
    restore_to: tuple[str, int] | None = None
    """What a restore falls back to."""
    keep_error: BaseException | None = None
    assessed: list[c.AssessRequest] = field(default_factory=list[c.AssessRequest])
    pings: list[str] = field(default_factory=list[str])
    loaded: list[c.LoadImageRequest] = field(default_factory=list[c.LoadImageRequest])
    kept_images: list[c.KeepImageRequest] = field(default_factory=list[c.KeepImageRequest])
    stopped: set[int] = field(default_factory=set[int])
    """Generations whose container stopped, and can be started again."""
    images_kept: bool = True
    ghostly: set[int] = field(default_factory=set[int])
    """Generations whose container turns out to be on the host that never answers."""
    busy: set[int] = field(default_factory=set[int])
    """Generations whose host is too busy to take a task, though it answers its ping."""
    lose_every_exec: bool = False
    exec_error: BaseException | None = None
    """What the next exec raises; when `block_exec`, as it is cancelled."""
    place: str = HOST
    """The host that has room."""
    places: int = 0
    """How often it was asked for."""
    put_loses: bool = False
    """Whether the container dies as the next file is written into it."""
    stdout_bytes: int = 0
    block_exec: bool = False
    block_model: bool = False
    given_up: BaseException | None = None
    blocked: asyncio.Event = field(default_factory=asyncio.Event)

    def activities(self) -> Sequence[Callable[..., object]]:
        return (
            self.compact, self.call, self.choose, self.acquire, self.destroy, self.exec, self.take, self.restore,
            self.put, self.keep, self.append, self.purge, self.forget, self.assess, self.ping,
            self.keep_image, self.load_image, self.publish, self.call_tool, self.apply_rules,
        )  # fmt: skip

    @activity.defn(name=c.MODEL_CALL.name)
    async def call(self, request: c.ModelRequest) -> c.ModelReply:
        self.requests.append(request)
        if self.block_model:
            try:
                await self._hang()
            except asyncio.CancelledError as error:
                raise self.given_up or error from None
        step = self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        reply = step if isinstance(step, c.ModelReply) else step(request)
        key = c.StoreKeys.segment(request.agent_uid, request.branch, request.step, request.ordinal)
        return reply.model_copy(update={"segment_ref": key})

    @activity.defn(name=c.PLACEMENT_CHOOSE.name)
    async def choose(self, request: c.PlacementRequest) -> c.Placement:
        del request
        self.places += 1
        # The ghost's containers are made by its neighbour, or there would be none to lose.
        queue = c.host_queue(HOST) if self.place == GHOST and self.places == 1 else c.host_queue(self.place)
        return c.Placement(host_id=self.place, task_queue=queue)

    @activity.defn(name=c.SANDBOX_ACQUIRE.name)
    async def acquire(self, request: c.AcquireRequest) -> c.AcquireResult:
        self.acquired.append(request)
        await self.made_room(request.generation)
        if self.acquire_errors and (error := self.acquire_errors.pop(0)) is not None:
            raise error
        self.live = {request.generation}
        host = GHOST if request.generation in self.ghostly else HOST
        lease = LeaseStatus(
            generation=request.generation,
            host_id=host,
            task_queue=BUSY_QUEUE if request.generation in self.busy else c.host_queue(host),
            sandbox_id=f"container-{request.generation}",
            image_id="sha256:image",
            started_at="first",
            lease_seconds=2.0,
        )
        return c.AcquireResult(lease=lease, duration_ms=1, image_kept=self.images_kept)

    @activity.defn(name=c.SANDBOX_ASSESS.name)
    async def assess(self, request: c.AssessRequest) -> c.AssessResult:
        self.assessed.append(request)
        generation = request.lease.generation
        if generation in self.live:
            return c.AssessResult(state="running", lease=request.lease, reason="it runs")
        if generation in self.stopped:
            self.stopped.discard(generation)
            self.live = {generation}
            lease = request.lease.model_copy(update={"started_at": "again"})
            return c.AssessResult(state="restarted", lease=lease, reason="the container had stopped; it runs again")
        return c.AssessResult(state="gone", lease=request.lease, reason="the container is gone")

    @activity.defn(name=c.ARTIFACT_PUBLISH.name)
    async def publish(self, request: c.PublishRequest) -> c.PublishResult:
        self.published.append(request)
        if self.block_exec:
            await self._hang()
        return c.PublishResult(artifact_id=request.artifact_id, name=request.name, size=1, sha256="00")

    @activity.defn(name=c.HOST_PING.name)
    async def ping(self, request: c.PingRequest) -> c.PingResult:
        self.pings.append(request.host_id)
        return c.PingResult(host_id=request.host_id)

    @activity.defn(name=c.IMAGE_KEEP.name)
    async def keep_image(self, request: c.KeepImageRequest) -> c.KeepImageResult:
        self.kept_images.append(request)
        return c.KeepImageResult(ref="image")

    @activity.defn(name=c.IMAGE_LOAD.name)
    async def load_image(self, request: c.LoadImageRequest) -> c.LoadImageResult:
        self.loaded.append(request)
        return c.LoadImageResult(image_id=request.image_id, bytes=1)

    @activity.defn(name=c.SANDBOX_DESTROY.name)
    async def destroy(self, request: c.DestroyRequest) -> c.DestroyResult:
        self.destroyed.append(request)
        self.live -= {generation for generation in self.live if generation <= request.lease.generation}
        return c.DestroyResult(removed=(request.lease.sandbox_id,))

    @activity.defn(name=c.SHELL_EXEC.name)
    async def exec(self, request: c.ExecRequest) -> c.ExecResult:
        index = len(self.execs)
        self.execs.append(request)
        kind, lost = OutcomeKind.EXIT, None
        if request.attach_only:
            return self._journal(request)
        if self.exec_error is not None and not self.block_exec:
            error, self.exec_error = self.exec_error, None
            self.live.discard(request.lease.generation)
            raise error
        if request.lease.generation not in self.live or index == self.lose_before_exec:
            kind, lost = OutcomeKind.NOT_RUN, "the container is gone"
        elif self.lose_every_exec or index in {self.lose_during_exec, self.stop_during_exec}:
            kind, lost = OutcomeKind.UNKNOWN, "the container stopped with exit code 137"
        elif self.block_exec:
            try:
                await self._hang()
            except asyncio.CancelledError:
                if self.exec_error is not None:
                    raise self.exec_error from None
                kind = OutcomeKind.INTERRUPTED
        if lost is not None:
            self.live.discard(request.lease.generation)
            if index == self.stop_during_exec:
                self.stopped.add(request.lease.generation)
        outcomes = tuple(
            CommandOutcome(
                exec_id=f"{request.exec_prefix}-i{position}",
                command=command,
                kind=kind,
                exit_code=0 if kind is OutcomeKind.EXIT else None,
                stdout_bytes=self.stdout_bytes,
            )
            for position, command in enumerate(request.commands)
        )
        key = c.StoreKeys.exec_record(request.agent_uid, request.exec_prefix)
        return c.ExecResult(record_ref=key, outcomes=outcomes, lost=lost, network=self.reported())

    def _journal(self, request: c.ExecRequest) -> c.ExecResult:
        outcomes = [
            CommandOutcome(
                exec_id=(name := f"{request.exec_prefix}-i{position}"),
                command=command,
                kind=(kind := self.journal.get(name, OutcomeKind.NOT_RUN)),
                exit_code=0 if kind is OutcomeKind.EXIT else None,
            )
            for position, command in enumerate(request.commands)
        ]
        key = c.StoreKeys.exec_record(request.agent_uid, request.exec_prefix)
        return c.ExecResult(record_ref=key, outcomes=tuple(outcomes))

    @activity.defn(name=c.SNAPSHOT_TAKE.name)
    async def take(self, request: c.SnapshotRequest) -> c.SnapshotResult:
        self.snapshots.append(request)
        if self.snapshot_errors and (error := self.snapshot_errors.pop(0)) is not None:
            if isinstance(error, ApplicationError) and error.type == c.SANDBOX_LOST:
                self.live.discard(request.lease.generation)
            raise error
        if request.lease.generation not in self.live:
            raise gone()
        return c.SnapshotResult(
            ref=f"snapshot-{request.number}", number=request.number, unchanged=False, added=1, files=1, summary="+1"
        )

    @activity.defn(name=c.SNAPSHOT_RESTORE.name)
    async def restore(self, request: c.RestoreRequest) -> c.RestoreResult:
        self.restored.append(request)
        if self.restore_errors and (error := self.restore_errors.pop(0)) is not None:
            raise error
        ref, restored = self.restore_to or (request.ref, int(request.ref.removeprefix("snapshot-")))
        return c.RestoreResult(restored_ref=ref, restored_number=restored)

    @activity.defn(name=c.FILES_PUT.name)
    async def put(self, request: c.PutFileRequest) -> c.PutFileResult:
        self.puts.append(request)
        if request.lease.generation not in self.live:
            raise gone()
        if self.put_loses:
            self.put_loses = False
            self.live.clear()
        return c.PutFileResult(path=request.path, size=3)

    @activity.defn(name=c.TRANSCRIPT_KEEP.name)
    async def keep(self, request: c.KeepTextRequest) -> c.KeepTextResult:
        if self.keep_error is not None:
            raise self.keep_error
        ref = c.StoreKeys.message(request.agent_uid, request.message_id)
        self.kept[ref] = request.text
        return c.KeepTextResult(ref=ref)

    @activity.defn(name=c.EVENTS_APPEND.name)
    async def append(self, request: c.AppendEventsRequest) -> c.AppendEventsResult:
        self.events += [event.seq for event in request.events]
        return c.AppendEventsResult(ref="events")

    @activity.defn(name=c.AGENT_PURGE.name)
    async def purge(self, request: c.PurgeRequest) -> c.PurgeResult:
        del request
        return c.PurgeResult(objects=0)

    @activity.defn(name=c.AGENT_FORGET.name)
    async def forget(self, _: c.ForgetRequest) -> c.ForgetResult:
        return c.ForgetResult(runs=0)

    async def _hang(self) -> None:
        self.blocked.set()
        while self.block_exec or self.block_model:
            activity.heartbeat()
            await asyncio.sleep(0.05)

    def release(self) -> None:
        """Let what hangs go on."""
        self.block_exec = self.block_model = False

    def kinds(self, index: int) -> list[str]:
        """The kinds of the new items of one model call."""
        return [item.kind for item in self.requests[index].new_items]
