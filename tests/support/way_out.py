"""A container in whose network namespace a test's own door listens, with a resolver that says what the test wants."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

from activities.adapters.netns import Process, listen_inside
from activities.egress.door import Door
from activities.egress.policy import Policy
from activities.ports.egress import PROXY_ENV, PROXY_PORT, EgressEvent, Tenant
from hibernaut.models import Network
from tests.support.far_hosts import ADDRESS, FarHosts
from tests.support.hosts import Host

LOOPBACK = ip_network("127.0.0.0/8")

HANDSHAKE = """
import socket, ssl, sys
target, name = sys.argv[1], sys.argv[2] or None
link = socket.create_connection(("127.0.0.1", 3128))
link.sendall(f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n".encode())
said = link.recv(4096).decode()
if " 200 " not in said:
    sys.exit(said)
if len(sys.argv) > 3:
    link.sendall(sys.argv[3].encode())
    print(link.recv(4096))
    sys.exit()
context = ssl._create_unverified_context()
context.check_hostname = False
try:
    tls = context.wrap_socket(link, server_hostname=name)
except OSError as error:
    sys.exit(str(error))
tls.sendall(b"GET /inside HTTP/1.1\\r\\nHost: fronted.test\\r\\nConnection: close\\r\\n\\r\\n")
print(tls.recv(4096).decode())
"""
"""Arguments: what to CONNECT to, the name to ask for in TLS, and what to send instead of TLS."""


class Cell:
    """A container without a network, and the hosts that it may or may not reach."""

    def __init__(self, host: Host, sandbox_id: str, far: FarHosts) -> None:
        self.host = host
        self.sandbox_id = sandbox_id
        self.far = far
        self.events: list[EgressEvent] = []
        self.looked_up: list[str] = []
        self.resolved: dict[str, list[str]] = {}
        """What names resolve to; others to where the far hosts are."""

    @asynccontextmanager
    async def door(self, *allow: str, **network: object) -> AsyncGenerator[Door]:
        """A door with these rules, its names resolved by the test."""
        self.events.clear()
        self.looked_up.clear()
        spec = Network.model_validate(
            {"mode": "allowlist", "allow": allow, "allow_private": [str(LOOPBACK)], **network}
        )
        policy = Policy(spec, (LOOPBACK,), self._resolve)
        door = Door(Tenant("agent", "uid", 1, self.sandbox_id), policy, self.events.append, max_bytes=spec.max_bytes)
        process = Process.hold(self.host.daemon.api.inspect_container(self.sandbox_id)["State"]["Pid"])
        try:
            await door.open(listen_inside(process, PROXY_PORT))
            yield door
        finally:
            await door.close()
            process.close()

    async def _resolve(self, host: str, port: int) -> list[str]:
        del port
        self.looked_up.append(host)
        return self.resolved.get(host, [ADDRESS])

    async def run(self, *argv: str) -> tuple[int, str]:
        """A program in the container: its exit code and all it wrote."""

        def work() -> tuple[int, str]:
            container = self.host.daemon.client.containers.get(self.sandbox_id)
            done: Any = container.exec_run(list(argv), environment=PROXY_ENV)
            return int(done.exit_code or 0), bytes(done.output).decode(errors="replace")

        return await asyncio.to_thread(work)

    async def curl(self, url: str, *options: str) -> tuple[int, str]:
        """`curl` with the far hosts' CA."""
        return await self.run("curl", "-sS", "-i", "--max-time", "20", "--cacert", "/ca.pem", *options, url)

    async def handshake(self, target: str, name: str, instead: str = "") -> tuple[int, str]:
        """A TLS connection for one name through a tunnel to another."""
        return await self.run("python3", "-c", HANDSHAKE, target, name, *([instead] if instead else []))

    @property
    def decided(self) -> list[tuple[str, int, bool]]:
        """Host, port and verdict of every decision."""
        return [(event.host, event.port, event.allowed) for event in self.events if event.kind == "decided"]

    async def ended(self) -> EgressEvent:
        """The end of a connection, once it was told."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for event in self.events:
                if event.kind == "ended":
                    return event
            await asyncio.sleep(0.02)
        raise AssertionError("no connection has ended")


def answer(text: str) -> dict[str, Any]:
    """The JSON at the end of what `curl -i` shows."""
    return json.loads(text[text.index("{") :])


@asynccontextmanager
async def a_cell(host: Host, far: FarHosts) -> AsyncGenerator[Cell]:
    """A running one, which knows the far hosts' CA."""
    container = await host.acquire(network={"mode": "allowlist"})
    cell = Cell(host, container.sandbox_id, far)
    code, said = await cell.run("python3", "-c", f"open('/ca.pem', 'w').write({far.ca!r})")
    assert code == 0, said
    yield cell
