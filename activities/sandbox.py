"""placement.choose, sandbox.acquire, sandbox.destroy and files.put."""

import contextlib
import time
from collections.abc import Awaitable, Callable, Generator

from temporalio import activity

from activities.destruction import Destruction
from activities.errors import HibernautActivityError, SandboxRefused, SandboxUnavailable
from activities.heartbeat import beating
from activities.images import is_kept
from activities.ports.sandbox import Sandboxes, SandboxIdentity
from activities.ports.snapshots import SnapshotEngine
from activities.ports.store import ObjectStore
from hibernaut.contracts import (
    FILES_PUT,
    PLACEMENT_CHOOSE,
    SANDBOX_ACQUIRE,
    SANDBOX_DESTROY,
    AcquireRequest,
    AcquireResult,
    DestroyRequest,
    DestroyResult,
    Placement,
    PlacementRequest,
    PutFileRequest,
    PutFileResult,
    host_queue,
)
from hibernaut.models import LeaseStatus, SandboxSpec

UNFIT_HOSTS = 3
"""Attempts after which it is believed that no host serves a spec."""


def _know(request: PlacementRequest | AcquireRequest) -> None:
    """Refuse what this release does not know: a network or a limit that somebody asked for is not left out."""
    if request.unknown:
        names = ", ".join(f"sandbox.{name}" for name in request.unknown)
        msg = f"This host's release is too old for {names} of the spec. Upgrade its worker."
        raise SandboxUnavailable(msg)


class PlacementActivities:
    """Runs on every sandbox host with room: whichever polls first names itself."""

    def __init__(
        self, host_id: str, sandboxes: Sandboxes, fits: Callable[[SandboxSpec], Awaitable[None]] | None = None
    ) -> None:
        """Answer for this host; `fits` raises SandboxRefused for a spec that the host can never serve."""
        self._host_id = host_id
        self._sandboxes = sandboxes
        self._fits = fits

    @activity.defn(name=PLACEMENT_CHOOSE.name)
    async def choose(self, request: PlacementRequest) -> Placement:
        """Name this host. Touches nothing, so a lost answer leaves nothing behind.

        Raises:
            SandboxUnavailable: The daemon here does not answer, or the host does not serve such a spec; the next
                attempt may reach another host.
            SandboxRefused: The spec was not served in several attempts.
        """
        _know(request)
        await self._sandboxes.check()
        if self._fits is not None:
            try:
                await self._fits(request.spec)
            except SandboxRefused as error:
                if activity.info().attempt < UNFIT_HOSTS:
                    raise SandboxUnavailable(f"host {self._host_id}: {error}") from error
                raise
        return Placement(host_id=self._host_id, task_queue=host_queue(self._host_id))


class SandboxActivities:
    """Runs on a sandbox host's own queue."""

    def __init__(
        self,
        host_id: str,
        sandboxes: Sandboxes,
        snapshots: SnapshotEngine,
        store: ObjectStore,
        lease_seconds: float,
        destruction: Destruction | None = None,
    ) -> None:
        """Use this host's sandboxes.

        Args:
            host_id: This host.
            sandboxes: Its containers.
            snapshots: Of what they hold.
            store: Where uploads come from.
            lease_seconds: How long the host goes on without contact with Temporal.
            destruction: What removes containers; by default one that looks for nothing afterwards.
        """
        self._destruction = destruction or Destruction(sandboxes)
        self._lease_seconds = lease_seconds
        self._host_id = host_id
        self._sandboxes = sandboxes
        self._snapshots = snapshots
        self._store = store

    @activity.defn(name=SANDBOX_ACQUIRE.name)
    async def acquire(self, request: AcquireRequest) -> AcquireResult:
        """Create and start the container of a generation; a retry replaces what an earlier attempt left half-made.

        From here on no earlier generation of the agent can write a snapshot, wherever it may still run.

        Raises:
            SnapshotFenced: A later generation was acquired meanwhile.
            ImageNotFound: The image is neither here nor to be pulled.
            SandboxRefused: The daemon rejects the spec.
            SandboxUnavailable: The daemon does not answer, or this host's release is older than what is asked for.
        """
        _know(request)
        begun = time.monotonic()
        async with beating():
            await self._snapshots.claim(agent_uid=request.agent_uid, generation=request.generation)
            with self._fetched_ahead(request.restores):
                async with self._destruction.replacing(request.agent_uid, request.generation):
                    container = await self._sandboxes.acquire(
                        SandboxIdentity(request.agent_id, request.agent_uid, request.generation),
                        request.spec,
                        request.image_id,
                    )
                try:
                    await self._snapshots.prepare(
                        container.sandbox_id, agent_uid=request.agent_uid, generation=request.generation
                    )
                    kept = await is_kept(self._store, container.image_id)
                except HibernautActivityError:
                    await self._destruction.destroy(request.agent_uid, request.generation)
                    raise
        lease = LeaseStatus(
            generation=request.generation,
            host_id=self._host_id,
            task_queue=host_queue(self._host_id),
            sandbox_id=container.sandbox_id,
            image_id=container.image_id,
            started_at=container.started_at,
            lease_seconds=self._lease_seconds,
        )
        duration_ms = int((time.monotonic() - begun) * 1000)
        return AcquireResult(lease=lease, duration_ms=duration_ms, image_kept=kept)

    @contextlib.contextmanager
    def _fetched_ahead(self, ref: str | None) -> Generator[None]:
        """Fetch a snapshot beside the block, for a restore after it; what fails is followed by none."""
        if ref is None:
            yield
            return
        self._snapshots.prefetch(ref)
        try:
            yield
        except BaseException:
            self._snapshots.drop_prefetched(ref)
            raise

    @activity.defn(name=SANDBOX_DESTROY.name)
    async def destroy(self, request: DestroyRequest) -> DestroyResult:
        """Remove every container of the agent up to the lease's generation, with its volumes; look what is left.

        Raises:
            SandboxUnavailable: The daemon does not answer.
        """
        async with beating():
            removed, found = await self._destruction.destroy(request.agent_uid, request.lease.generation)
            await self._snapshots.forget(request.lease.sandbox_id)
        return DestroyResult(removed=tuple(removed), checked=found.checked, remnants=found.remnants)

    @activity.defn(name=FILES_PUT.name)
    async def put(self, request: PutFileRequest) -> PutFileResult:
        """Write an uploaded object to a path, whole or not at all.

        Raises:
            PathNotUsable: The path cannot be written.
            ObjectNotFound: The upload is gone.
        """
        async with beating():
            size = await self._sandboxes.put_file(
                request.lease.sandbox_id, request.path, request.mode, self._store.stream(request.upload_ref)
            )
        return PutFileResult(path=request.path, size=size)
