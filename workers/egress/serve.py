"""The proxy's side of its talk with the workers: doors that are opened, listed and closed."""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from activities.adapters import egress_wire as wire
from activities.egress.addresses import Net
from activities.egress.authority import Authority
from activities.egress.door import Door
from activities.egress.policy import Policy
from activities.egress.vault import Vault
from activities.ports.egress import EgressSink, Tenant
from hibernaut.models import Network

IDLE_S = 60.0
"""Seconds without a sandbox after which the proxy ends."""
DESCRIPTORS = 2

log = logging.getLogger("workers.egress")


def upstream_trust(more: Path | None = None) -> ssl.SSLContext:
    """How hosts of secrets are verified: by the machine's own trust, and perhaps by more certificates in a file."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if more is not None:
        context.load_verify_locations(more)
    return context


@dataclass(slots=True)
class _Served:
    door: Door
    started_at: str
    process: int
    number: int
    """Of its rules."""


class Doorkeeper:
    """Has the doors of all sandboxes of a host."""

    def __init__(
        self, sink: EgressSink, release: str, reachable: Iterable[Net], upstream: ssl.SSLContext | None = None
    ) -> None:
        """Have none yet; `upstream` is how hosts of secrets are verified, by the machine's own trust by default."""
        self._upstream = upstream or upstream_trust()
        self._authorities: dict[str, Authority] = {}
        self._sink = sink
        self._release = release
        self._reachable = tuple(reachable)
        self._served: dict[str, _Served] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self.ended = asyncio.Event()
        """Set when a worker has asked for the end."""

    async def run(self, control: socket.socket, idle: float = IDLE_S) -> None:
        """Serve until told to end, or until there was nothing to serve for so long."""
        loop = asyncio.get_running_loop()
        control.settimeout(0)
        loop.add_reader(control, self._accept, control)
        try:
            quiet_since = loop.time()
            while not self.ended.is_set():
                if self._served:
                    quiet_since = loop.time()
                elif loop.time() - quiet_since > idle:
                    log.info("no sandbox has a way out: the egress proxy ends")
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.ended.wait(), min(1.0, idle))
        finally:
            loop.remove_reader(control)
            control.close()
            for sandbox_id in list(self._served):
                await self._close(sandbox_id)

    def _accept(self, control: socket.socket) -> None:
        with contextlib.suppress(OSError):
            link, _ = control.accept()
            task = asyncio.ensure_future(self._talk(link))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _talk(self, link: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        link.settimeout(0)
        with link, contextlib.suppress(OSError, TimeoutError):
            come = asyncio.Event()
            loop.add_reader(link, come.set)
            try:
                await asyncio.wait_for(come.wait(), wire.TIMEOUT_S)
            finally:
                loop.remove_reader(link)
            data, descriptors = wire.received(link)
            held = list(descriptors)
            try:
                reply = await self._answer(wire.request_of(data), held)
            except ValueError as error:
                reply = wire.Reply(error=f"not understood: {str(error)[:300]}")
            finally:
                for descriptor in held:
                    os.close(descriptor)
            link.send(wire.encode(reply))

    async def _answer(self, request: wire.Request, held: list[int]) -> wire.Reply:
        async with self._turn:
            served = self._served.get(request.sandbox_id)
            match request.op:
                case "open":
                    return await self._open(request, held)
                case "change" if served is not None and request.network is not None:
                    if request.number > served.number:
                        served.number = request.number
                        served.door.change(Policy(request.network, self._reachable))
                        _tell_rules(served.door, request.network)
                case "authority":
                    made = self._authorities.get(request.sandbox_id) or Authority()
                    self._authorities[request.sandbox_id] = made
                    return wire.Reply(authority=made.pem)
                case "close":
                    self._authorities.pop(request.sandbox_id, None)
                    await self._close(request.sandbox_id)
                case "blocked" | "report" | "given" if served is not None:
                    return _told(served.door, request)
                case "end":
                    self.ended.set()
                case "change" | "hello" | "list" | "blocked" | "report" | "given":
                    pass
            return wire.Reply(
                release=self._release,
                doors={name: one.started_at for name, one in self._served.items()},
                numbers={name: one.number for name, one in self._served.items()},
            )

    async def _open(self, request: wire.Request, held: list[int]) -> wire.Reply:
        tenant, network = request.tenant, request.network
        if tenant is None or network is None or len(held) != DESCRIPTORS:
            return wire.Reply(error="an open needs a tenant, a network, a listener and a process")
        if request.secrets and tenant.sandbox_id not in self._authorities:
            # Of a proxy that died since: what the container was told to trust is gone with it.
            return wire.Reply(error="an open with secrets needs an authority of this very proxy")
        before = self._served.get(tenant.sandbox_id)
        if before is not None and before.started_at == request.started_at and before.number > request.number:
            # Of a worker that read the rules before another one changed them.
            return wire.Reply(release=self._release)
        await self._close(tenant.sandbox_id)
        listener, process = socket.socket(fileno=held.pop(0)), held.pop(0)
        policy = Policy(network, self._reachable)
        door = Door(tenant, policy, self._sink, max_bytes=network.max_bytes, vault=self._vault(request, tenant))
        await door.open(listener)
        self._served[tenant.sandbox_id] = _Served(door, request.started_at, process, request.number)
        asyncio.get_running_loop().add_reader(process, self._gone, tenant.sandbox_id)
        _tell_rules(door, network)
        return wire.Reply(release=self._release)

    def _vault(self, request: wire.Request, tenant: Tenant) -> Vault | None:
        authority = self._authorities.get(tenant.sandbox_id)
        if not request.secrets or authority is None:
            return None
        log.info("%s has secrets: %s", tenant.sandbox_id[:12], ", ".join(one.name for one in request.secrets))
        return Vault(request.secrets, authority, self._upstream)

    def _gone(self, sandbox_id: str) -> None:
        """The container's first process has ended."""
        served = self._served.get(sandbox_id)
        if served is not None:
            asyncio.get_running_loop().remove_reader(served.process)
            task = asyncio.ensure_future(self._close(sandbox_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _close(self, sandbox_id: str) -> None:
        served = self._served.pop(sandbox_id, None)
        if served is None:
            return
        asyncio.get_running_loop().remove_reader(served.process)
        os.close(served.process)
        await served.door.close()
        log.info("%s has no way out any more", sandbox_id[:12])


def _told(door: Door, request: wire.Request) -> wire.Reply:
    """What a worker asks about a sandbox."""
    if request.op == "blocked":
        return wire.Reply(blocked=door.blocked(request.since))
    if request.op == "report":
        return wire.Reply(report=door.ledger.since(request.mark))
    return wire.Reply(given=door.vault.grants if door.vault is not None else ())


def _tell_rules(door: Door, network: Network) -> None:
    tenant = door.tenant
    log.info(
        "%s of agent %s, generation %d, may reach: %s",
        tenant.sandbox_id[:12], tenant.agent_id, tenant.generation, ", ".join(network.allow) or "nothing",
    )  # fmt: skip
