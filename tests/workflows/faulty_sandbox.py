"""The sandbox of a faulty world: where it is made, what runs in it, what becomes of it."""

from temporalio import activity
from temporalio.exceptions import ApplicationError

from hibernaut import contracts as c
from hibernaut.models import CommandOutcome, LeaseStatus, OutcomeKind
from tests.workflows.faulty_truth import (
    GHOST,
    HOST,
    IMAGE,
    Box,
    Ran,
    Truth,
    died,
    ended_by_somebody,
    failed,
    lost,
    outcome_of,
)


class FaultySandbox(Truth):
    """Hosts and containers."""

    @activity.defn(name=c.PLACEMENT_CHOOSE.name)
    async def choose(self, request: c.PlacementRequest) -> c.Placement:
        del request
        await self._enter(c.PLACEMENT_CHOOSE.name)
        return c.Placement(host_id=HOST, task_queue=c.host_queue(HOST))

    @activity.defn(name=c.SANDBOX_ACQUIRE.name)
    async def acquire(self, request: c.AcquireRequest) -> c.AcquireResult:
        fault = await self._enter(c.SANDBOX_ACQUIRE.name)
        if fault == "lost":
            raise lost()
        if fault == "no image":
            self.images.discard(HOST)
        if HOST not in self.images and request.image_id is not None:
            raise ApplicationError("no such image", type=c.IMAGE_NOT_FOUND, non_retryable=True)
        self.images.add(HOST)
        host = GHOST if fault == "silent" else HOST
        for box in self.boxes.values():
            if box.generation <= request.generation and box.host == host:
                self._lose(box)
        box = Box(request.generation, host, lossy=bool(self.believed), ready_at=self.clock)
        self.boxes[request.generation] = box
        if fault == "died after":
            raise died()
        lease = LeaseStatus(
            generation=request.generation,
            host_id=host,
            task_queue=c.host_queue(host),
            sandbox_id=f"container-{request.generation}",
            image_id=IMAGE,
            started_at=box.started_at,
        )
        return c.AcquireResult(lease=lease, duration_ms=1)

    @activity.defn(name=c.IMAGE_LOAD.name)
    async def load_image(self, request: c.LoadImageRequest) -> c.LoadImageResult:
        await self._enter(c.IMAGE_LOAD.name)
        self.images.add(HOST)
        return c.LoadImageResult(image_id=request.image_id, bytes=1)

    @activity.defn(name=c.IMAGE_KEEP.name)
    async def keep_image(self, request: c.KeepImageRequest) -> c.KeepImageResult:
        del request
        return c.KeepImageResult(ref="image")

    @activity.defn(name=c.SNAPSHOT_RESTORE.name)
    async def restore(self, request: c.RestoreRequest) -> c.RestoreResult:
        fault = await self._enter(c.SNAPSHOT_RESTORE.name)
        box = self._held(request.lease)
        if fault == "lost":
            self._lose(box)
        if box is None or not box.exists:
            raise lost()
        wanted = saved = self.store[request.ref]
        ref = request.ref
        if fault == "older" and saved.parent is not None:
            ref, saved = saved.parent, self.store[saved.parent]
            self.fallen_back[wanted.number, saved.number] = set(wanted.files) - set(saved.files)
        box.files = list(saved.files)
        box.lossy = not self.believed <= set(saved.files)
        box.ready_at = self.clock
        return c.RestoreResult(restored_ref=ref, restored_number=saved.number)

    @activity.defn(name=c.SANDBOX_ASSESS.name)
    async def assess(self, request: c.AssessRequest) -> c.AssessResult:
        fault = await self._enter(c.SANDBOX_ASSESS.name)
        box = self.boxes.get(request.lease.generation)
        if box is None or not box.exists:
            return c.AssessResult(state="gone", lease=request.lease, reason="the container is gone")
        if not box.running:
            box.running = True
            box.starts += 1
            self.forget(box)
        if fault == "died after":
            raise died()
        lease = request.lease.model_copy(update={"started_at": box.started_at})
        if lease.started_at == request.lease.started_at:
            return c.AssessResult(state="running", lease=lease, reason="it runs")
        return c.AssessResult(state="restarted", lease=lease, reason="the container had stopped; it runs again")

    @activity.defn(name=c.HOST_PING.name)
    async def ping(self, request: c.PingRequest) -> c.PingResult:
        await self._enter(c.HOST_PING.name)
        return c.PingResult(host_id=request.host_id)

    @activity.defn(name=c.SANDBOX_DESTROY.name)
    async def destroy(self, request: c.DestroyRequest) -> c.DestroyResult:
        fault = await self._enter(c.SANDBOX_DESTROY.name)
        for box in self.boxes.values():
            if box.generation <= request.lease.generation and box.host == HOST:
                self._lose(box)
        if fault == "died after":
            raise died()
        return c.DestroyResult(removed=(request.lease.sandbox_id,))


class FaultyShell(Truth):
    """Commands."""

    @activity.defn(name=c.SHELL_EXEC.name)
    async def exec(self, request: c.ExecRequest) -> c.ExecResult:
        fault = await self._enter(c.SHELL_EXEC.name)
        again = request.asked_before or activity.info().attempt > 1
        outcomes: list[CommandOutcome] = []
        reason: str | None = None
        if fault == "lost before":
            self._lose(self._held(request.lease))
        last = len(request.commands) - 1
        for index, command in enumerate(request.commands):
            exec_id = f"{request.exec_prefix}-i{index}"
            self.commands[exec_id] = command
            box = self._held(request.lease)
            if reason is not None or box is None:
                # The real activity can no more than this one tell what an earlier attempt had begun.
                reason = reason or "the container is gone"
                kind = OutcomeKind.UNKNOWN if again or request.attach_only else OutcomeKind.NOT_RUN
            elif request.attach_only:
                kind = box.journal.get(exec_id, OutcomeKind.NOT_RUN)
            elif exec_id in box.journal:
                kind = box.journal[exec_id]
            else:
                here = fault if index == last or fault == "lost during the first" else "ok"
                kind, reason = await self._run(box, exec_id, command, here)
            outcomes.append(outcome_of(exec_id, command, kind))
        if fault in {"died after", "died after, then lost"}:
            if fault == "died after, then lost":
                self._lose(self._held(request.lease))
            raise died()
        if fault == "failed after":
            raise failed()
        self.records[request.exec_prefix] = tuple(outcomes)
        ref = c.StoreKeys.exec_record(request.agent_uid, request.exec_prefix)
        return c.ExecResult(record_ref=ref, outcomes=tuple(outcomes), lost=reason)

    async def _run(self, box: Box, exec_id: str, command: str, fault: str) -> tuple[OutcomeKind, str | None]:
        """Begin a command; what is known of its end, and why the container is gone."""
        self.ran.append(Ran(exec_id, command, box.generation, self.clock))
        self.log.append(f"{self.clock}: ran {exec_id} ({command}) in {box.generation}")
        box.journal[exec_id] = OutcomeKind.UNKNOWN
        box.files.append(command)
        self.believed.add(command)
        reason = "the container stopped with exit code 137"
        if fault in {"lost during", "lost during the first"}:
            self._lose(box)
            return OutcomeKind.UNKNOWN, reason
        if fault == "stopped, unknown":
            box.running = False
            return OutcomeKind.UNKNOWN, reason
        ended = await ended_by_somebody() if self._interrupting() else False
        box.journal[exec_id] = OutcomeKind.INTERRUPTED if ended else OutcomeKind.EXIT
        self.finished.add(exec_id)
        if fault == "stopped, finished":
            box.running = False
        if fault in {"stopped, finished", "frozen"}:
            return OutcomeKind.UNKNOWN, reason
        return box.journal[exec_id], None

    def _interrupting(self) -> bool:
        """Whether somebody interrupts or closes during this very attempt."""
        now = (c.SHELL_EXEC.name, self.attempts[c.SHELL_EXEC.name] - 1)
        return any(order in {"interrupt", "close"} for name, at, order in self.plan.orders if (name, at) == now)
