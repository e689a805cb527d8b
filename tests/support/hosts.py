"""Sandbox hosts for tests: containers as a worker would make them, and what goes on in them as the machine sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from activities.adapters.docker_client import Daemon
from activities.adapters.docker_sandbox import LABEL_HOST, LABEL_NAMESPACE
from activities.adapters.docker_sandboxes import DockerSandboxes
from activities.ports.sandbox import Container, SandboxIdentity
from hibernaut.models import SandboxSpec

TICKING = "while :; do echo tick >> /root/ticks; sleep 0.05; done"


async def until(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait for something that another process does."""
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s")


class Host:
    """One sandbox host: a daemon and the labels of its containers, which are removed at the end."""

    def __init__(self, daemon: Daemon, host_id: str | None = None, namespace_id: str = "namespace") -> None:
        self.daemon = daemon
        self.id = host_id or f"host-{uuid4().hex[:8]}"
        self.namespace_id = namespace_id
        self.boxes = DockerSandboxes(daemon, {LABEL_HOST: self.id, LABEL_NAMESPACE: namespace_id})

    async def acquire(self, generation: int = 1, agent_id: str = "agent", **spec: object) -> Container:
        identity = SandboxIdentity(agent_id, uuid4().hex, generation)
        return await self.boxes.acquire(identity, SandboxSpec.model_validate(spec), None)

    def tick(self, container_id: str) -> None:
        """Let something go on in a container without end."""
        made = self.daemon.api.exec_create(container_id, ["sh", "-c", TICKING])
        self.daemon.api.exec_start(made["Id"], detach=True)

    def ticks(self, container_id: str) -> int:
        """How far that has come; seen from outside, so that a frozen container answers too."""
        pid = self.daemon.api.inspect_container(container_id)["State"]["Pid"]
        path = Path(f"/proc/{pid}/root/root/ticks")
        return path.stat().st_size if path.exists() else 0

    def paused(self, container_id: str) -> bool:
        return bool(self.daemon.api.inspect_container(container_id)["State"]["Paused"])


@asynccontextmanager
async def a_host(daemon: Daemon | None = None, *, namespace_id: str = "namespace") -> AsyncGenerator[Host]:
    """A host on the machine's own daemon, or on another."""
    host = Host(daemon or Daemon(), namespace_id=namespace_id)
    try:
        yield host
    finally:
        for box in await host.boxes.owned():
            await host.boxes.remove(box.sandbox_id)
        await host.boxes.close()
