"""hosts.list and sandbox.sweep: who the sandbox hosts are, and the removal of containers that no agent holds.

A container is removed when it is certain that nobody holds it, and when a line of the audit log says so already: a
line may lack its removal (the worker died between the two), a removal never lacks its line.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import ValidationError
from temporalio import activity

from activities.destruction import Destruction
from activities.errors import ObjectNotFound, PreconditionFailed, SandboxError
from activities.heartbeat import beating
from activities.ports.agents import Agents, Standing
from activities.ports.sandbox import Owned, Sandboxes
from activities.ports.snapshots import SnapshotEngine
from activities.ports.store import ObjectStore
from hibernaut.contracts import (
    HOSTS_LIST,
    SANDBOX_SWEEP,
    HostsRequest,
    HostsResult,
    StoreKeys,
    SweepRequest,
    SweepResult,
    SweptContainer,
)
from hibernaut.models.base import Open

GRACE = timedelta(minutes=2)
"""A container as young as this may be one that is being acquired."""
REMEMBERED = timedelta(days=30)
"""A host that was not seen for longer is no longer asked."""
LOOK_UPS = 8
"""Agents asked for at a time: each answer may cost a worker a replay."""


class HostRecord(Open):
    """What a sandbox host says of itself in the store."""

    format: Literal["hibernaut-host/1"] = "hibernaut-host/1"
    host_id: str
    seen_at: datetime
    """When its worker last ran (UTC)."""
    version: str


class AuditLine(Open):
    """A line of the audit log, written before the deed."""

    at: datetime
    actor: str = "housekeeping"
    host_id: str
    action: str = "sandbox.remove"
    sandbox_id: str
    agent_id: str
    agent_uid: str
    generation: int
    reason: str

    @classmethod
    def of(cls, box: Owned, host_id: str, reason: str, actor: str = "housekeeping") -> "AuditLine":
        """The line for a container that is about to be removed."""
        return cls(
            at=datetime.now(UTC),
            actor=actor,
            host_id=host_id,
            sandbox_id=box.sandbox_id,
            agent_id=box.agent_id,
            agent_uid=box.agent_uid,
            generation=box.generation,
            reason=reason,
        )

    def swept(self) -> SweptContainer:
        """The container that it speaks of."""
        return SweptContainer(
            sandbox_id=self.sandbox_id,
            agent_id=self.agent_id,
            agent_uid=self.agent_uid,
            generation=self.generation,
            reason=self.reason,
        )


class HostActivities:
    """Runs on the control queue."""

    def __init__(self, store: ObjectStore) -> None:
        """Use this store."""
        self._store = store

    @activity.defn(name=HOSTS_LIST.name)
    async def list(self, request: HostsRequest) -> HostsResult:
        """List the hosts whose worker ran in the last 30 days."""
        del request
        since = datetime.now(UTC) - REMEMBERED
        found: list[str] = []
        async for info in self._store.list(StoreKeys.hosts()):
            try:
                record = HostRecord.model_validate_json(await self._store.get(info.key))
            except ObjectNotFound:
                continue
            except ValidationError as error:
                activity.logger.warning("%s is no host's record: %s", info.key, error)
                continue
            if record.seen_at >= since and StoreKeys.host(record.host_id) == info.key:
                found.append(record.host_id)
        return HostsResult(hosts=tuple(found))


class SweepActivities:
    """Runs on a sandbox host's own queue."""

    def __init__(
        self,
        host_id: str,
        sandboxes: Sandboxes,
        snapshots: SnapshotEngine,
        store: ObjectStore,
        agents: Agents,
        destruction: Destruction | None = None,
    ) -> None:
        """Use this host's sandboxes; `destruction` is what removes them, by default one that looks for nothing."""
        self._destruction = destruction or Destruction(sandboxes)
        self._host_id = host_id
        self._sandboxes = sandboxes
        self._snapshots = snapshots
        self._store = store
        self._agents = agents

    @activity.defn(name=SANDBOX_SWEEP.name)
    async def sweep(self, request: SweepRequest) -> SweepResult:
        """Remove this host's containers that certainly nobody holds; a retry goes on where the last attempt ended.

        Raises:
            StoreUnavailable: No audit line can be written, so nothing is removed.
            SandboxUnavailable: The daemon does not answer.
        """
        key = StoreKeys.audit(f"{activity.info().scheduled_time:%Y-%m-%d}", f"{request.sweep_id}-{self._host_id}")
        async with beating():
            owned = await self._sandboxes.owned()
            reasons = await self._reasons(owned)
            lines = await self._write(
                key,
                [
                    AuditLine.of(box, self._host_id, reasons[box.sandbox_id])
                    for box in owned
                    if box.sandbox_id in reasons
                ],
            )
            left = {box.sandbox_id for box in owned} - await self._remove(owned, reasons)
        removed = tuple(line.swept() for line in lines if line.sandbox_id not in left)
        return SweepResult(removed=removed, kept=len(left), audit_ref=key if lines else None)

    async def _reasons(self, owned: list[Owned]) -> dict[str, str]:
        """Why each container that is to go is to go."""
        now = datetime.now(UTC)
        grown = [box for box in owned if now - box.created_at >= GRACE]
        slots = asyncio.Semaphore(LOOK_UPS)

        async def ask(agent_id: str) -> Standing | None:
            async with slots:
                return await self._agents.standing(agent_id)

        names = sorted({box.agent_id for box in grown})
        standings = dict(zip(names, await asyncio.gather(*map(ask, names)), strict=True))
        found = {box.sandbox_id: reason_to_remove(box, standings[box.agent_id]) for box in grown}
        return {sandbox_id: reason for sandbox_id, reason in found.items() if reason is not None}

    async def _write(self, key: str, lines: list[AuditLine]) -> list[AuditLine]:
        """Add lines for containers that have none yet; all lines of this sweep, earlier attempts included."""
        while True:
            found = await self._store.head(key)
            before = (await self._store.get(key)).splitlines() if found is not None else []
            known = [AuditLine.model_validate_json(line) for line in before]
            named = {line.sandbox_id for line in known}
            new = [line for line in lines if line.sandbox_id not in named]
            if not new:
                return known
            data = b"".join(line + b"\n" for line in [*before, *(line.model_dump_json().encode() for line in new)])
            try:
                await self._store.replace(key, data, if_match=found.etag if found is not None else None)
            except PreconditionFailed:
                # An attempt that was given up runs on.
                continue
            return [*known, *new]

    async def _remove(self, owned: list[Owned], reasons: dict[str, str]) -> set[str]:
        """Remove them all, then say what could not be; the ids of those removed."""
        removed: set[str] = set()
        failure: SandboxError | None = None
        for box in owned:
            reason = reasons.get(box.sandbox_id)
            if reason is None:
                continue
            try:
                await self._destruction.remove(box.sandbox_id, reason)
            except SandboxError as error:
                failure = error
                continue
            removed.add(box.sandbox_id)
            activity.logger.info(
                "removed %s of %s, generation %d: %s", box.sandbox_id, box.agent_id, box.generation, reason
            )
            await self._snapshots.forget(box.sandbox_id)
        try:
            # Those of a worker that died between a removal and the look as well.
            await self._destruction.look_for_removed()
        except SandboxError as error:
            failure = failure or error
        if failure is not None:
            raise failure
        return removed


def reason_to_remove(box: Owned, standing: Standing | None) -> str | None:
    """Why a container is to go, or None when somebody holds it or may hold it."""
    if standing is None:
        return None
    if standing.state == "missing":
        return "agent gone"
    if standing.state == "closed":
        return "agent closed"
    if standing.agent_uid != box.agent_uid:
        # Another agent was started under the same id.
        return "agent gone"
    if box.generation < standing.generation:
        return "generation superseded"
    # Left behind on a host that did not answer when the agent gave its sandbox up.
    return "agent hibernated" if standing.asleep and box.generation == standing.generation else None
