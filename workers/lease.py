"""The host's lease as the worker keeps it: contact with Temporal, proved again and again. See `workers/watchdog`."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

from hibernaut.contracts import control_queue
from workers.watchdog.folder import HostFolder, HostLease, boot_id, since_boot

RENEWALS = 5
"""Renewals in the time of a lease."""

_log = logging.getLogger(__name__)


class LeaseKeeper:
    """Renews one host's lease, and has frozen sandboxes looked after while there is contact."""

    def __init__(
        self, client: Client, folder: HostFolder, host_id: str, lease: HostLease, thaw: Callable[[], Awaitable[None]]
    ) -> None:
        """Describe it.

        Args:
            client: The worker's own: what reaches Temporal through it is what its polls reach.
            folder: Shared with the watchdog.
            host_id: This host.
            lease: What is written, with the time of contact put in.
            thaw: Called after every renewal while containers are marked as frozen.
        """
        self._client = client
        self._folder = folder
        self._host_id = host_id
        self._lease = lease
        self._thaw = thaw
        self._thawing: asyncio.Task[None] | None = None
        self._reached = True

    @asynccontextmanager
    async def kept(self) -> AsyncGenerator[None]:
        """Renew now and until the block ends."""
        self._folder.make()
        await self._renew()
        task = asyncio.create_task(self._repeat())
        try:
            yield
        finally:
            for each in (task, self._thawing):
                if each is not None:
                    each.cancel()
                    with suppress(asyncio.CancelledError):
                        await each
            self._folder.renew(replace(self._lease, stopped=True))

    async def _repeat(self) -> None:
        every = self._lease.seconds / RENEWALS
        while True:
            begun = since_boot()
            await asyncio.sleep(every)
            await self._renew()
            if since_boot() - begun > self._lease.seconds:
                _log.warning("a renewal of the lease took %.1f s: this worker is held up", since_boot() - begun)

    async def _renew(self) -> None:
        # Before the request: whatever Temporal decides after it was answered is decided later than this.
        asked = since_boot()
        if not await self._reach():
            return
        self._lease = replace(self._lease, contact=asked)
        self._folder.renew(self._lease)
        if self._folder.marked() and (self._thawing is None or self._thawing.done()):
            self._thawing = asyncio.create_task(self._look_after())

    async def _reach(self) -> bool:
        """Ask about the queue on which `host.ping` comes: where that is answered, a ping comes through as well."""
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=control_queue(self._host_id)),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
        limit = timedelta(seconds=self._lease.seconds / RENEWALS)
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._client.workflow_service.describe_task_queue(request, retry=False, timeout=limit)
        except (RPCError, RuntimeError, TimeoutError) as error:
            if self._reached:
                _log.warning("no contact with Temporal: %s", error or "no answer in time")
            self._reached = False
            return False
        if not self._reached:
            _log.info("in contact with Temporal again")
        self._reached = True
        return True

    async def _look_after(self) -> None:
        try:
            await self._thaw()
        except Exception:  # noqa: BLE001  # whatever it was
            # It is tried again at the next renewal; the renewals must not end for it.
            _log.exception("frozen sandboxes could not be looked after")


def first_lease(folder: HostFolder, seconds: float, namespace_id: str, *, holding: bool) -> HostLease:
    """The lease a worker begins with.

    While the host holds containers, a lease is never longer than it was: agents count on what they were told.
    """
    kept = folder.lease()
    if holding and kept is not None and kept.namespace_id == namespace_id:
        seconds = min(seconds, kept.seconds)
    return HostLease(seconds=seconds, contact=0.0, boot=boot_id(), namespace_id=namespace_id, pid=os.getpid())
