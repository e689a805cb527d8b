"""snapshot.take and snapshot.restore."""

from typing import Literal

from temporalio import activity

from activities.heartbeat import Pulse, beating
from activities.ports.snapshots import BranchStart, Progress, SnapshotEngine, SnapshotInfo, TakeOptions
from hibernaut.contracts import (
    SNAPSHOT_RESTORE,
    SNAPSHOT_TAKE,
    LiveProgress,
    RestoreRequest,
    RestoreResult,
    SnapshotRequest,
    SnapshotResult,
)


class SnapshotActivities:
    """Runs on a sandbox host's own queue."""

    def __init__(self, engine: SnapshotEngine) -> None:
        """Use this engine."""
        self._engine = engine

    @activity.defn(name=SNAPSHOT_TAKE.name)
    async def take(self, request: SnapshotRequest) -> SnapshotResult:
        """Make what the sandbox changed durable; a retry of the same number returns the same snapshot.

        Raises:
            SandboxLost: The container is gone or stopped.
            SnapshotError: The files cannot be read, or the store cannot be written.
        """
        async with beating() as pulse:
            info = await self._engine.take(
                request.lease.sandbox_id,
                agent_uid=request.agent_uid,
                generation=request.lease.generation,
                number=request.number,
                parent=request.parent,
                progress=_telling(pulse, "snapshot"),
                options=TakeOptions(
                    compression=request.policy.compression,
                    exclude=request.policy.exclude,
                    max_bytes=request.policy.max_bytes,
                    thorough=request.thorough,
                ),
            )
        return SnapshotResult(
            ref=info.ref,
            number=info.number,
            unchanged=info.unchanged,
            added=info.added,
            changed=info.changed,
            deleted=info.deleted,
            files=info.files_total,
            bytes_new=info.bytes_new_stored,
            bytes_total=info.bytes_total,
            duration_ms=info.duration_ms,
            capture=info.capture,
            summary=_summary(request.number, info),
            skipped=info.skipped,
        )

    @activity.defn(name=SNAPSHOT_RESTORE.name)
    async def restore(self, request: RestoreRequest) -> RestoreResult:
        """Write a snapshot into a fresh container; a damaged one falls back to the one before it.

        Raises:
            SandboxLost: The container is gone or stopped.
            SnapshotError: Nothing of the chain can be restored.
        """
        async with beating() as pulse:
            info = await self._engine.restore(
                request.lease.sandbox_id,
                agent_uid=request.agent_uid,
                generation=request.lease.generation,
                ref=request.ref,
                progress=_telling(pulse, "restore"),
                branch=BranchStart(request.branch_first, request.branch_base),
            )
        return RestoreResult(
            restored_ref=info.restored,
            restored_number=info.number,
            reason=info.reason,
            files=info.files,
            bytes=info.bytes,
            duration_ms=info.duration_ms,
        )


def _telling(pulse: Pulse, what: Literal["snapshot", "restore"]) -> Progress:
    """Let the next heartbeat tell what the engine says, for whoever watches the agent."""

    def tell(text: str) -> None:
        pulse.say(LiveProgress(what=what, text=text))

    return tell


def _summary(number: int, info: SnapshotInfo) -> str:
    if info.unchanged:
        return f"snapshot {number}: unchanged"
    counts = f"+{info.added} ~{info.changed} -{info.deleted} files"
    left_out = f", {info.skipped} left out" if info.skipped else ""
    return f"snapshot {number}: {counts}{left_out}, {_size(info.bytes_new_stored)} in {info.duration_ms} ms"


def _size(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("KB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004  # decimal units
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"  # noqa: PLR2004  # two digits suffice
