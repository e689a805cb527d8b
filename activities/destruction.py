"""Destroys sandboxes and looks whether anything of them is left; what was found is noted for the host's audit chain."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator

from activities.errors import SandboxError, SandboxUnavailable
from activities.ports.audit import HostAudit
from activities.ports.sandbox import Sandboxes
from activities.ports.traces import Found, Trace, Traces
from hibernaut.contracts.destruction import Looked

log = logging.getLogger(__name__)


class Destruction:
    """Removes containers of one host; what they had is noted on its disk first.

    So a worker that dies in between is followed by one that still knows what to look for.
    """

    def __init__(self, sandboxes: Sandboxes, traces: Traces | None = None, audit: HostAudit | None = None) -> None:
        """Use this host's sandboxes; without `traces` nothing is looked for."""
        self._sandboxes = sandboxes
        self._traces = traces
        self._audit = audit

    async def destroy(self, agent_uid: str, generation: int) -> tuple[list[str], Found]:
        """Remove the agent's containers up to a generation; their ids, and what was looked for afterwards.

        Raises:
            SandboxUnavailable: The daemon does not answer, or what was done cannot be noted; the same call goes on.
        """
        if self._traces is not None:
            await asyncio.to_thread(self._traces.note, agent_uid, generation)
        removed = await self._sandboxes.destroy(agent_uid, generation)
        return removed, await self._looked(agent_uid, generation)

    @contextlib.asynccontextmanager
    async def replacing(self, agent_uid: str, generation: int) -> AsyncGenerator[None]:
        """Look for what the agent's containers had that the block removes, up to a generation."""
        if self._traces is not None:
            await asyncio.to_thread(self._traces.note, agent_uid, generation)
        yield
        if self._traces is not None and any(one.agent_uid == agent_uid for one in self._traces.noted()):
            try:
                await self.look_for_removed()
            except SandboxError as error:
                # The notes stay: housekeeping looks again.
                log.warning("what is left of earlier containers of %s is not known yet: %s", agent_uid, error)

    async def remove(self, sandbox_id: str, reason: str) -> None:
        """Remove one container, for a reason of the host's own."""
        if self._traces is not None:
            await asyncio.to_thread(self._traces.note_one, sandbox_id, reason)
        await self._sandboxes.remove(sandbox_id)

    async def look_for_removed(self) -> Found:
        """Look for what containers had that are gone and were noted: removed just now, or by a worker that died."""
        if self._traces is None:
            return Found()
        there = {box.sandbox_id for box in await self._sandboxes.owned()}
        noted = await asyncio.to_thread(self._traces.noted)
        return await self._settled([trace for trace in noted if trace.sandbox_id not in there])

    async def _looked(self, agent_uid: str, generation: int) -> Found:
        if self._traces is None:
            return Found()
        noted = await asyncio.to_thread(self._traces.noted)
        return await self._settled(
            [one for one in noted if one.agent_uid == agent_uid and one.generation <= generation]
        )

    async def _settled(self, traces: list[Trace]) -> Found:
        founds = [await asyncio.to_thread(self._settle, trace) for trace in traces]
        return Found(
            checked=summed([looked for found in founds for looked in found.checked]),
            remnants=tuple(remnant for found in founds for remnant in found.remnants),
        )

    def _settle(self, trace: Trace) -> Found:
        if self._traces is None:
            return Found()
        found = self._traces.look(trace)
        if found.remnants:
            log.warning("of the sandbox %s is left: %s", trace.sandbox_id[:12], "; ".join(found.remnants))
        if self._audit is not None:
            try:
                self._audit.note(
                    "sandbox.destroyed",
                    sandbox_id=trace.sandbox_id,
                    agent_id=trace.agent_id,
                    agent_uid=trace.agent_uid,
                    generation=trace.generation,
                    reason=trace.reason,
                    checked=[looked.model_dump(mode="json") for looked in found.checked],
                    remnants=list(found.remnants),
                )
            except OSError as error:
                # The note of what it had stays, so the next attempt says it.
                raise SandboxUnavailable(f"the destruction cannot be noted for the audit: {error}") from error
        self._traces.settle(trace)
        return found


def summed(looked: list[Looked]) -> tuple[Looked, ...]:
    """What was looked at, by kind, in the order in which the kinds first come."""
    total: dict[str, Looked] = {}
    for one in looked:
        so_far = total.get(one.what)
        total[one.what] = (
            one
            if so_far is None
            else one.model_copy(
                update={
                    "looked_at": so_far.looked_at + one.looked_at,
                    "found": so_far.found + one.found,
                    "removed": so_far.removed + one.removed,
                    "note": so_far.note or one.note,
                }
            )
        )
    return tuple(total.values())
