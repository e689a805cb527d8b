"""What becomes of sandboxes that the watchdog froze, once their host is in contact with Temporal again."""

import asyncio
import logging

from activities.destruction import Destruction
from activities.errors import SandboxError
from activities.ports.agents import Agents
from activities.ports.sandbox import Owned, Sandboxes
from activities.ports.snapshots import SnapshotEngine
from activities.ports.store import ObjectStore
from activities.sweep import AuditLine, reason_to_remove
from hibernaut.contracts import StoreKeys
from workers.watchdog.folder import HostFolder, since_boot

LOOK_UPS = 8
"""Agents asked for at a time: each answer may cost a worker a replay."""

_log = logging.getLogger(__name__)


class Thaw:
    """Thaws what its agent still works with, removes what nobody holds, and leaves alone what is not certain."""

    def __init__(
        self,
        host_id: str,
        folder: HostFolder,
        sandboxes: Sandboxes,
        snapshots: SnapshotEngine,
        agents: Agents,
        store: ObjectStore,
        *,
        destruction: Destruction | None = None,
    ) -> None:
        """Look after this host's sandboxes; `destruction` removes them, by default one that looks for nothing."""
        self._destruction = destruction or Destruction(sandboxes)
        self._host_id = host_id
        self._folder = folder
        self._sandboxes = sandboxes
        self._snapshots = snapshots
        self._agents = agents
        self._store = store

    async def run(self) -> None:
        """Look at every marked container once.

        Raises:
            SandboxError: The daemon does not answer, or refuses.
            StoreError: No audit line can be written, so nothing is removed.
        """
        marked = self._folder.marked()
        boxes = {box.sandbox_id: box for box in await self._sandboxes.owned()}
        for gone in marked - boxes.keys():
            self._folder.release(gone)
        slots = asyncio.Semaphore(LOOK_UPS)

        async def judge(box: Owned) -> None:
            async with slots:
                await self._judge(box)

        results = await asyncio.gather(
            *(judge(boxes[one]) for one in marked & boxes.keys()), return_exceptions=True
        )  # one that fails must not keep the others frozen
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            raise failures[0]

    async def _judge(self, box: Owned) -> None:
        asked = since_boot()
        standing = await self._agents.standing(box.agent_id)
        lease = self._folder.lease()
        if lease is None or since_boot() - asked > lease.seconds / 2:
            # The answer was long on its way: what it says may hold no more. The next renewal asks again.
            return
        reason = reason_to_remove(box, standing)
        short = box.sandbox_id[:12]
        if reason is not None:
            line = AuditLine.of(box, self._host_id, reason, actor="thaw")
            key = StoreKeys.audit(f"{line.at:%Y-%m-%d}", f"thaw-{short}-{self._host_id}")
            await self._store.put(key, line.model_dump_json().encode() + b"\n")
            await self._destruction.remove(box.sandbox_id, reason)
            self._folder.release(box.sandbox_id)
            await self._snapshots.forget(box.sandbox_id)
            await self._destruction.look_for_removed()
            _log.warning("removed %s of %s, generation %d: %s", short, box.agent_id, box.generation, reason)
        elif standing is not None and standing.held_on == self._host_id and standing.generation == box.generation:
            # Released before it is thawed: the watchdog, should it freeze again meanwhile, marks after it froze.
            self._folder.release(box.sandbox_id)
            try:
                if box.running:
                    await self._sandboxes.unpause(box.sandbox_id)
            except SandboxError:
                self._folder.mark(box.sandbox_id)
                raise
            _log.info("thawed %s of %s, generation %d", short, box.agent_id, box.generation)
        else:
            _log.info("%s of %s, generation %d, stays frozen: its agent does not say that it works with it", short,
                      box.agent_id, box.generation)  # fmt: skip
