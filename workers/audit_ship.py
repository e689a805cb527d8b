"""Ships a host's audit chain while its worker runs, and anchors its head in the host's own workflow."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio.client import Client, RPCTimeoutOrCancelledError, WorkflowQueryFailedError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.adapters.egress_tail import EgressTail
from activities.beside import beside
from activities.errors import HibernautActivityError
from activities.host_chain import HostChain
from activities.ports.store import ObjectStore
from hibernaut.contracts import AUDIT_WORKFLOW, TASK_QUEUE, audit_workflow_id
from hibernaut.models.audit import AuditHead
from workers.audit_spool import spool_of
from workers.egress.folder import egress_folder
from workers.settings import HostSettings

INTERVAL_S = 2.0
"""Seconds between two looks at what waits."""
LONGEST_S = 60.0
"""Between two tries while the store or Temporal does not answer."""
PARTS = 50
"""Written before their end is anchored."""
RPC_TIMEOUT = timedelta(seconds=10)

_log = logging.getLogger(__name__)


class Shipping:
    """The task that ships."""

    def __init__(self, settings: HostSettings, client: Client, store: ObjectStore) -> None:
        """Ship this host's chain into this store."""
        self._client = client
        self._host_id = settings.host_id
        tail = EgressTail(egress_folder(settings) / "log")
        self._chain = HostChain(settings.host_id, store, spool_of(settings), tail)
        self._anchored = 0
        self._opened = False

    @asynccontextmanager
    async def kept(self) -> AsyncGenerator[None]:
        """Ship until the block ends, and what waits then once more."""
        async with beside(self._repeat()):
            yield
        try:
            async with asyncio.timeout(LONGEST_S / 12):
                await self.ship()
        except Exception as error:  # noqa: BLE001  # whatever it is, the spool keeps what waits for the next worker
            _log.info("the rest of the audit spool waits for the next worker: %s", error)
        finally:
            self._chain.leave()

    async def _repeat(self) -> None:
        wait = INTERVAL_S
        while True:
            try:
                await self.ship()
                wait = INTERVAL_S
            except (
                HibernautActivityError,
                RPCError,
                RPCTimeoutOrCancelledError,
                WorkflowQueryFailedError,
                OSError,
            ) as error:
                _log.warning("the host's audit chain waits in its spool: %s", error)
                wait = min(2 * wait, LONGEST_S)
            except Exception:  # noqa: BLE001  # whatever it is, it is told and tried again
                # A task that ended would leave everything in the spool for good.
                _log.exception("the host's audit chain waits in its spool")
                wait = min(2 * wait, LONGEST_S)
            await asyncio.sleep(wait)

    async def ship(self) -> None:
        """Write all that waits, and anchor the head."""
        if not self._chain.take():
            # Another worker of this host, about to end, ships.
            return
        if not self._opened:
            await self._chain.open(await self._anchor())
            self._opened = True
        for _ in range(PARTS):
            if await self._chain.ship() is None:
                break
        await self._tell(self._chain.head)

    async def _anchor(self) -> AuditHead:
        """What the workflow knows; nothing when there is none yet."""
        handle = self._client.get_workflow_handle(audit_workflow_id(self._host_id))
        try:
            return await handle.query("head", result_type=AuditHead, rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return AuditHead()
            raise

    async def _tell(self, head: AuditHead) -> None:
        if head.seq <= self._anchored:
            return
        await self._client.start_workflow(
            AUDIT_WORKFLOW,
            id=audit_workflow_id(self._host_id),
            task_queue=TASK_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal="anchor",
            start_signal_args=[head],
            static_summary=f"where the audit chain of host {self._host_id} ends",
            rpc_timeout=RPC_TIMEOUT,
        )
        self._anchored = head.seq
