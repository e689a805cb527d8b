"""A sandbox host with the real egress proxy, a process of its own, and agents on it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from activities.adapters import egress_wire as wire
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_sandbox import LABEL_HOST, LABEL_NAMESPACE
from activities.adapters.docker_sandboxes import DockerSandboxes
from activities.adapters.egress_desk import EgressDesk
from activities.adapters.egress_sandboxes import EgressSandboxes
from activities.ports.sandbox import CommandEnd, CommandRequest, SandboxIdentity
from hibernaut.models import SandboxSpec
from workers.egress.folder import egress_folder
from workers.egress.keep import desk
from workers.settings import HostSettings


class EgressHost:
    """What a worker has on a host, and what a test wants to know of it."""

    def __init__(self, home: Path, daemon: Daemon | None = None, env: Mapping[str, str] | None = None) -> None:
        self.settings = HostSettings.load(
            {
                "HIBERNAUT_HOME": str(home),
                "HIBERNAUT_HOST_ID": f"host-{uuid4().hex[:8]}",
                "HIBERNAUT_EGRESS_REACHABLE": "127.0.0.0/8",
                **(env or {}),
            }
        )
        self.daemon = daemon or Daemon()
        self.folder = egress_folder(self.settings)
        self.desk: EgressDesk
        self.boxes: EgressSandboxes
        self._boxes: list[EgressSandboxes] = []
        self.restart_worker()

    def restart_worker(self) -> None:
        """What a new worker process would have: nothing of what the one before knew."""
        self.desk = desk(self.settings, self.daemon)
        labels = {LABEL_HOST: self.settings.host_id, LABEL_NAMESPACE: "namespace"}
        self.boxes = EgressSandboxes(DockerSandboxes(self.daemon, labels), self.desk)
        self._boxes.append(self.boxes)

    async def close(self) -> None:
        """Close what every worker has opened."""
        for boxes in self._boxes:
            await boxes.close()

    async def end(self) -> None:
        """End the proxy too."""
        await self.close()
        with suppress(OSError):
            wire.ask(self.folder, wire.Request(op="end"))
            # A child of this process: waited for, so that nothing is left of it.
            await asyncio.to_thread(os.waitpid, self.pid, 0)

    @property
    def pid(self) -> int:
        """Of the proxy."""
        return int((self.folder / "lock").read_text())

    @property
    def doors(self) -> set[str]:
        """The sandboxes that the proxy serves; a proxy that is not there serves none."""
        with suppress(OSError):
            return set(wire.ask(self.folder, wire.Request(op="list")).doors or {})
        return set()

    @property
    def notes(self) -> set[str]:
        """The sandboxes that are noted to have a way out."""
        return {path.stem for path in (self.folder / "doors").glob("*")}

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log."""
        return [json.loads(line) for line in (self.folder / "log" / "egress.jsonl").read_text().splitlines()]

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the proxy, and wait until it has ended."""
        pid = self.pid
        os.kill(pid, number)
        while Path(f"/proc/{pid}").exists() and "(zombie)" not in Path(f"/proc/{pid}/status").read_text():
            time.sleep(0.01)


class Guest:
    """An agent's computer on such a host."""

    def __init__(self, host: EgressHost, *allow: str, **sandbox: object) -> None:
        self.host = host
        self.uid = uuid4().hex
        self.spec = SandboxSpec.model_validate({"network": {"mode": "allowlist", "allow": allow}, **sandbox})
        self.sandbox_id = ""
        self._count = 0

    async def wake(self, generation: int = 1) -> Guest:
        """A container of this generation."""
        identity = SandboxIdentity(f"agent-{self.uid[:6]}", self.uid, generation)
        self.sandbox_id = (await self.host.boxes.acquire(identity, self.spec, None)).sandbox_id
        return self

    async def sleep(self) -> None:
        """Give the container up."""
        await self.host.boxes.destroy(self.uid, 1_000)

    async def run(self, command: str) -> tuple[CommandEnd, str]:
        """A command, and all it wrote."""
        self._count += 1
        parts: list[bytes] = []
        request = CommandRequest(f"t{self._count}", command, 60_000)
        end = await self.host.boxes.run(self.sandbox_id, request, lambda _, data: parts.append(data), lambda: False)
        return end, b"".join(parts).decode(errors="replace")

    async def status(self, url: str) -> str:
        """The HTTP status of a request, `000` when there was no answer."""
        _, said = await self.run(f"curl -s -o /dev/null -w '%{{http_code}}' --max-time 20 {url}")
        return said


@asynccontextmanager
async def egress_host(home: Path, daemon: Daemon | None = None) -> AsyncGenerator[EgressHost]:
    """Run one; its containers and its proxy end with the block."""
    host = EgressHost(home, daemon)
    try:
        yield host
    finally:
        for box in await host.boxes.owned():
            await host.boxes.remove(box.sandbox_id)
        await host.end()
