"""Sandboxes with a way out: what the allowlist of a spec adds to any implementation of the sandbox port."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from activities.errors import SandboxError, SandboxLost
from activities.ports.egress import Egress, Tenant, Unseen
from activities.ports.sandbox import (
    CommandEnd,
    CommandRequest,
    Container,
    ContainerState,
    Owned,
    Sandboxes,
    SandboxIdentity,
    Sink,
)
from hibernaut.models import FileEntry, OutcomeKind, SandboxSpec

TOLD = 10
"""Refusals that the model is told with one command."""


class EgressSandboxes:
    """Implements the port `Sandboxes` over another implementation of it."""

    def __init__(self, inner: Sandboxes, egress: Egress) -> None:
        """Add ways out to these sandboxes."""
        self._inner = inner
        self._egress = egress

    async def check(self) -> None:
        """See the port."""
        await self._inner.check()

    async def fits(self, spec: SandboxSpec) -> None:
        """SandboxRefused when this host can never give a sandbox the network of this spec."""
        if spec.network.mode == "allowlist":
            await asyncio.to_thread(self._egress.check, spec.runtime, tuple(spec.secrets))

    async def acquire(self, identity: SandboxIdentity, spec: SandboxSpec, image_id: str | None) -> Container:
        """See the port. Nothing is started where the spec's network is not to be had."""
        if spec.network.mode != "allowlist":
            return await self._inner.acquire(identity, spec, image_id)
        await asyncio.to_thread(self._egress.check, spec.runtime, tuple(spec.secrets), identity.agent_id)
        container = await self._inner.acquire(identity, spec, image_id)
        tenant = Tenant(identity.agent_id, identity.agent_uid, identity.generation, container.sandbox_id)
        try:
            # Nothing has run in it yet.
            await asyncio.to_thread(self._egress.admit, tenant, spec.network, 0, spec.secrets)
        except SandboxError:
            await self.remove(container.sandbox_id)
            raise
        return container

    async def run(
        self, sandbox_id: str, request: CommandRequest, sink: Sink, interrupted: Callable[[], bool]
    ) -> CommandEnd:
        """See the port. A command that met the policy says so: not every program shows what a proxy answers."""
        since = time.monotonic()
        unseen = await asyncio.to_thread(self._egress.redaction, sandbox_id)
        end = await self._run(sandbox_id, request, sink, interrupted, unseen)
        if end.kind not in {OutcomeKind.EXIT, OutcomeKind.TIMEOUT}:
            return end
        refusals = await asyncio.to_thread(self._egress.blocked, sandbox_id, since)
        if not refusals:
            return end
        more = len(refusals) - TOLD
        told = [*refusals[:TOLD], *([f"and {more} more"] if more > 0 else [])]
        return replace(end, detail="; ".join([*([end.detail] if end.detail else []), *told]))

    async def _run(
        self,
        sandbox_id: str,
        request: CommandRequest,
        sink: Sink,
        interrupted: Callable[[], bool],
        unseen: Unseen | None,
    ) -> CommandEnd:
        """A command, of which nothing is handed on in which a secret can be seen."""
        if unseen is None:
            return await self._inner.run(sandbox_id, request, sink, interrupted)
        output = unseen.output(sink)
        try:
            end = await self._inner.run(sandbox_id, request, output.feed, interrupted)
        except SandboxError as error:
            unseen.error(error)
            if isinstance(error, SandboxLost) and error.end is not None:
                error.end = await output.ended(error.end)
            raise
        return await output.ended(end)

    async def inspect(self, sandbox_id: str) -> ContainerState:
        """See the port."""
        return await self._inner.inspect(sandbox_id)

    async def start(self, sandbox_id: str) -> str:
        """See the port. Started again, it has another network namespace."""
        started_at = await self._inner.start(sandbox_id)
        await asyncio.to_thread(self._egress.readmit, sandbox_id)
        return started_at

    async def pause(self, sandbox_id: str) -> None:
        """See the port."""
        await self._inner.pause(sandbox_id)

    async def unpause(self, sandbox_id: str) -> None:
        """See the port."""
        await self._inner.unpause(sandbox_id)

    async def owned(self) -> list[Owned]:
        """See the port."""
        return await self._inner.owned()

    async def remove(self, sandbox_id: str) -> None:
        """See the port."""
        await self._inner.remove(sandbox_id)
        await asyncio.to_thread(self._egress.dismiss, sandbox_id)

    async def destroy(self, agent_uid: str, generation: int) -> list[str]:
        """See the port."""
        removed = await self._inner.destroy(agent_uid, generation)
        for sandbox_id in removed:
            await asyncio.to_thread(self._egress.dismiss, sandbox_id)
        return removed

    def read_file(self, sandbox_id: str, path: str) -> AsyncIterator[bytes]:
        """See the port."""
        return self._inner.read_file(sandbox_id, path)

    async def list_files(self, sandbox_id: str, path: str) -> list[FileEntry]:
        """See the port."""
        return await self._inner.list_files(sandbox_id, path)

    async def put_file(self, sandbox_id: str, path: str, mode: int, chunks: AsyncIterator[bytes]) -> int:
        """See the port."""
        return await self._inner.put_file(sandbox_id, path, mode, chunks)

    async def close(self) -> None:
        """See the port."""
        await self._inner.close()
