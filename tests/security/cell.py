"""A sandbox for an attacker: made by the real adapter, attacked by what runs in it, looked at from outside."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from activities.adapters.disk_usage import Written
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_sandbox import LABEL_HOST
from activities.adapters.docker_sandboxes import DockerSandboxes
from activities.errors import SandboxUnavailable
from activities.ports.sandbox import CommandEnd, CommandRequest, Container, SandboxIdentity
from hibernaut.models import SandboxSpec

TRIES = 2


@dataclass(frozen=True)
class Result:
    end: CommandEnd
    stdout: str
    stderr: str


class Cell:
    """One agent's sandbox."""

    def __init__(self, daemon: Daemon, boxes: DockerSandboxes, container: Container, uid: str) -> None:
        self.daemon, self.boxes, self.container, self.uid = daemon, boxes, container, uid
        self._count = 0

    async def run(
        self,
        command: str,
        *,
        timeout_ms: int = 30_000,
        exec_id: str = "",
        max_output_bytes: int = 1 << 30,
    ) -> Result:
        self._count += 1
        request = CommandRequest(exec_id or f"e{self._count}", command, timeout_ms, max_output_bytes=max_output_bytes)
        # As the activity does: it asks again under the same id.
        for _ in range(TRIES):
            with contextlib.suppress(SandboxUnavailable):
                return await self._run(request)
        return await self._run(request)

    async def _run(self, request: CommandRequest) -> Result:
        parts = {"stdout": bytearray(), "stderr": bytearray()}

        def sink(stream: str, data: bytes) -> None:
            parts[stream] += data

        end = await self.boxes.run(self.container.sandbox_id, request, sink, lambda: False)
        return Result(end, parts["stdout"].decode(errors="replace"), parts["stderr"].decode(errors="replace"))

    async def python(self, script: str, *, timeout_ms: int = 30_000) -> Result:
        return await self.run(f"python3 - <<'EOF'\n{script}\nEOF", timeout_ms=timeout_ms)

    async def alive(self) -> None:
        """Fail unless it is the same container, and runs commands."""
        assert (await self.run("echo alive")).stdout == "alive\n"
        state = await self.boxes.inspect(self.container.sandbox_id)
        assert state.started_at == self.container.started_at

    async def details(self) -> dict[str, Any]:
        found: dict[str, Any] = await asyncio.to_thread(self.daemon.api.inspect_container, self.container.sandbox_id)
        return found

    async def written(self) -> Written:
        found = Written.find(await self.details())
        assert found is not None
        return found


def addresses() -> list[str]:
    """This host's addresses: docker0 and its own."""
    found = {"127.0.0.1"}
    for peer in ("172.17.0.1", "192.0.2.1"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((peer, 9))
            except OSError:
                continue
            found.add(str(probe.getsockname()[0]))
    return sorted(found)


@asynccontextmanager
async def cells(host: str | None = None) -> AsyncGenerator[Cells]:
    """Make cells on a daemon, and remove them at the end."""
    made = Cells(host)
    try:
        yield made
    finally:
        await made.close()


class Cells:
    """Makes them."""

    def __init__(self, host: str | None = None) -> None:
        self.daemon = Daemon(host)
        # The watch over disks ends processes: of these cells, and of no agent that this machine has.
        self.home = {LABEL_HOST: f"prison-{uuid4().hex}"}
        self.boxes = DockerSandboxes(self.daemon, self.home)
        self._uids: list[str] = []

    async def make(self, **spec: object) -> Cell:
        uid = uuid4().hex
        self._uids.append(uid)
        wanted = SandboxSpec.model_validate(spec)
        container = await self.boxes.acquire(SandboxIdentity("attacker", uid, 1), wanted, None)
        return Cell(self.daemon, self.boxes, container, uid)

    async def close(self) -> None:
        for uid in self._uids:
            await self.boxes.destroy(uid, 1)
        await self.boxes.close()
