"""The stack itself: starts its components in order, keeps them running, stops them in the opposite order."""

import asyncio
import os
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from temporalio.client import Client
from temporalio.service import RPCError

from hibernaut.contracts import TASK_QUEUE
from workers.devstack import seaweed, temporal
from workers.devstack.child import Child, Say
from workers.devstack.errors import PortInUse
from workers.devstack.home import ConnectionFile, HomeLock
from workers.devstack.providers import providers_file
from workers.devstack.settings import (
    ALL,
    CHECKOUT,
    GRACE_SECONDS,
    LOOPBACK,
    NAMESPACE,
    PORT_VARIABLES,
    SERVERS,
    Component,
    Ports,
    Secrets,
    client_settings,
    default_home,
    gateway_environment,
    is_free,
    listens,
    server_environment,
    worker_environment,
)
from workers.settings import HostSettings
from workers.watchdog.folder import HostFolder
from workers.watchdog.spawn import guards

_START_SECONDS = 60.0
_PORT_SECONDS = 8.0
"""The servers of a stack that was killed need a moment to notice; their ports are busy until then."""
_MEMORY = {"GOMEMLIMIT": "512MiB"}


def _silent(_text: str) -> None:
    """Say nothing."""


class DevStack:
    """Temporal, an S3 server, watchdog, worker and gateway on one home folder; state survives stop and start.

    Use it as an async context manager, or call `start` and `stop`.
    """

    def __init__(
        self,
        home: Path | None = None,
        *,
        ports: Ports | None = None,
        components: Collection[Component] = ALL,
        settings: Mapping[str, str] | None = None,
        say: Say = _silent,
    ) -> None:
        """Describe a stack; nothing is touched before `start`.

        Args:
            home: Keeps databases, secrets and logs; `$HIBERNAUT_HOME` or `.hibernaut` in the checkout by default.
            ports: Where to listen; the fixed ports or those the environment names by default.
            components: What to start. A worker or gateway needs both servers beside it. A worker whose watchdog is not
                among them starts one by itself, which outlives the stack for as long as sandboxes are left.
            settings: More environment variables for the worker and the gateway; they win over inherited ones.
            say: Told in a sentence of what happens.
        """
        self.home = (home or default_home(os.environ)).absolute()
        self.ports = ports or Ports.from_environment(os.environ)
        self.components = frozenset(components)
        self._settings = dict(settings or {})
        self._say = say
        self._lock = HomeLock(self.home)
        self._children: dict[Component, Child] = {}
        self._providers = ""

    @property
    def temporal_address(self) -> str:
        """Where Temporal listens, `host:port`."""
        return f"{LOOPBACK}:{self.ports.temporal}"

    @property
    def namespace(self) -> str:
        """The Temporal namespace of the engine."""
        return NAMESPACE

    @property
    def ui_url(self) -> str:
        """The workflows of our namespace in Temporal's web UI."""
        return f"http://{LOOPBACK}:{self.ports.ui}/namespaces/{NAMESPACE}/workflows"

    @property
    def env(self) -> dict[str, str]:
        """Settings for clients, workers and gateways of this stack, secrets among them."""
        return client_settings(self.home, self.ports, Secrets.of(self.home))

    def pid(self, component: Component) -> int | None:
        """The process of a component while it runs."""
        child = self._children.get(component)
        return child.pid if child is not None else None

    def log(self, component: Component) -> Path:
        """Where a component's output goes."""
        return self.home / "logs" / f"{component}.log"

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    async def start(self) -> None:
        """Start every component and return when all are ready.

        Raises:
            AlreadyRunning: Another process runs a stack on this home.
            PortInUse: Another program listens on one of the ports.
            ChildFailed: A component did not come up. What had been started is stopped again.
        """
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.home / "logs").mkdir(exist_ok=True)
        self._lock.acquire(os.getpid())
        try:
            await self._check_ports()
            ConnectionFile.remove(self.home)
            servers = [c for c in (Component.TEMPORAL, Component.STORE) if c in self.components]
            async with asyncio.TaskGroup() as group:
                for component in servers:
                    group.create_task(self.start_component(component))
            for component in (Component.WATCHDOG, Component.WORKER, Component.GATEWAY):
                if component in self.components:
                    await self.start_component(component)
            self._tell_clients()
        except BaseExceptionGroup as failures:
            await self.stop()
            raise failures.exceptions[0] from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop every component: first those that use the servers, then the servers. Stopping twice is harmless."""
        for component in (Component.WORKER, Component.GATEWAY, Component.WATCHDOG):
            await self.stop_component(component)
        await asyncio.gather(*(self.stop_component(component) for component in SERVERS))
        if self._lock.held:
            ConnectionFile.remove(self.home)
            self._lock.release()

    def kill(self) -> None:
        """End every component at once, as a crash of the machine would; `stop` is still due."""
        for child in self._children.values():
            child.kill()

    async def stop_component(self, component: Component) -> None:
        """Stop one component and leave the others running."""
        if child := self._children.pop(component, None):
            self._say(f"stopping {component}")
            await child.stop()

    async def start_component(self, component: Component) -> None:
        """Start one component and return when it is ready.

        Raises:
            ChildFailed: It did not come up.
        """
        started = time.monotonic()
        match component:
            case Component.TEMPORAL:
                await self._start_temporal()
            case Component.STORE:
                await self._start_store()
            case Component.WATCHDOG:
                await self._start_watchdog()
            case Component.WORKER:
                await self._start_worker()
            case Component.GATEWAY:
                await self._start_gateway()
        self._say(f"{component} is ready (pid {self.pid(component)}, {time.monotonic() - started:.1f} s)")

    async def _start_temporal(self) -> None:
        folder = self.home / "temporal"
        folder.mkdir(exist_ok=True)
        child = self._child(
            Component.TEMPORAL, temporal.command(_program("temporal"), folder, self.ports), self._server_env()
        )
        await child.start(lambda: temporal.healthy(self.temporal_address), timeout=_START_SECONDS)
        await temporal.prepare(await self._client())

    async def _start_store(self) -> None:
        folder = self.home / "s3"
        folder.mkdir(exist_ok=True)
        secret = Secrets.of(self.home)
        program, internal = _program("weed"), seaweed.InternalPorts.of(folder)
        client = seaweed.admin_client(self.ports, secret)
        child = self._child(
            Component.STORE, seaweed.command(program, folder, self.ports, internal, secret), self._server_env()
        )
        await child.start(lambda: seaweed.healthy(client), timeout=_START_SECONDS)
        await seaweed.prepare(program, client, internal, folder, timeout=_START_SECONDS)

    async def _start_watchdog(self) -> None:
        env = {**server_environment(os.environ), **self.env, **self._settings}
        host = HostSettings.load(env)
        folder = HostFolder(host.home, host.host_id)
        child = self._child(Component.WATCHDOG, [sys.executable, "-m", "workers.watchdog"], env)
        await child.start(lambda: guards(folder), timeout=_START_SECONDS)

    async def _start_worker(self) -> None:
        client, since = await self._client(), time.time()

        async def polls() -> bool:
            try:
                return await temporal.worker_polls(client, TASK_QUEUE, since=since)
            except RPCError:
                return False

        env = {**worker_environment(os.environ, Secrets.of(self.home).audit_key), **self.env, **self._settings}
        self._providers = env["HIBERNAUT_PROVIDERS"] = str(providers_file(self.home, self.ports, env))
        child = self._child(Component.WORKER, [sys.executable, "-m", "workers"], env)
        await child.start(polls, timeout=_START_SECONDS)

    async def _start_gateway(self) -> None:
        env = {**gateway_environment(os.environ), **self.env, **self._settings}
        child = self._child(Component.GATEWAY, [sys.executable, "-m", "workers.gateway"], env)
        await child.start(lambda: listens(self.ports.gateway), timeout=_START_SECONDS)

    def _child(self, component: Component, argv: list[str], env: Mapping[str, str]) -> Child:
        child = Child(
            component,
            argv,
            env=env,
            log=self.log(component),
            say=self._say,
            cwd=CHECKOUT,
            grace=GRACE_SECONDS[component],
        )
        self._children[component] = child
        return child

    def _server_env(self) -> dict[str, str]:
        return {**server_environment(os.environ), **_MEMORY}

    async def _client(self) -> Client:
        return await Client.connect(self.temporal_address, namespace=NAMESPACE)

    async def _check_ports(self) -> None:
        wanted = {
            "temporal": Component.TEMPORAL,
            "ui": Component.TEMPORAL,
            "store": Component.STORE,
            "gateway": Component.GATEWAY,
        }
        killed = ConnectionFile.read(self.home) is not None
        deadline = time.monotonic() + (_PORT_SECONDS if killed else 0)
        for name, component in wanted.items():
            port = getattr(self.ports, name)
            while component in self.components and not is_free(port):
                if time.monotonic() > deadline:
                    raise PortInUse(
                        f"Port {port} of {LOOPBACK}, which {component} needs, is used by another program.",
                        hint=f"Stop that program, or choose another port with {PORT_VARIABLES[name]}.",
                    )
                await asyncio.sleep(0.2)

    def _tell_clients(self) -> None:
        env = self.env
        ConnectionFile(
            temporal_address=self.temporal_address,
            temporal_namespace=NAMESPACE,
            gateway_url=env["HIBERNAUT_GATEWAY_URL"],
            gateway_token=env["HIBERNAUT_GATEWAY_TOKEN"],
            ui_url=self.ui_url,
            store=env["HIBERNAUT_STORE"],
            s3_endpoint=env["AWS_ENDPOINT_URL_S3"],
            pid=os.getpid(),
            providers=self._providers,
        ).write(self.home)


def _program(name: str) -> Path:
    """A program that a locked package put beside this Python."""
    return Path(sys.executable).with_name(name)
