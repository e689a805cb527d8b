"""The world that is broken: real servers, a Docker daemon of its own, worker processes; only the model is scripted."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import docker
import yaml
from docker.errors import NotFound
from temporalio.client import Client

from activities.adapters.docker_sandbox import LABEL_UID
from activities.ports.store import ObjectStore
from activities.transcript import Transcript
from examples.scripted_model import ScriptedModel
from hibernaut import AgentClient
from hibernaut.models.spec import DEFAULT_IMAGE
from tests.chaos.errand import Cast
from tests.chaos.link import Link
from tests.chaos.processes import WorkerProcess
from tests.chaos.store_proxy import StoreProxy
from tests.support import dockerd_keeper
from tests.support.dockerd import SecondDockerd
from workers import wiring
from workers.devstack.settings import SERVERS, Component, Ports, write_private
from workers.devstack.stack import DevStack
from workers.settings import Settings
from workers.worker import connect

DISK_BYTES = 3 * 2**30
"""The disk of the Docker daemon: small enough to be filled at once."""
MACHINE_DOCKER = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
MODEL_TIMEOUT_S = 5
"""Seconds the provider may be silent before the worker asks again."""


class ChaosWorld:
    """Everything an agent needs, each part a process that can be killed."""

    stack: DevStack
    proxy: StoreProxy
    link: Link
    """From the worker to Temporal."""
    dockerd: SecondDockerd
    worker: WorkerProcess
    model: ScriptedModel
    temporal: Client
    client: AgentClient
    store: ObjectStore

    def __init__(self, home: Path) -> None:
        """Prepare; nothing runs before `async with`."""
        self.home = home
        self.cast = Cast()
        self.host_id = f"chaos-{uuid4().hex[:6]}"
        self._parts = AsyncExitStack()
        self._daemons: list[docker.DockerClient] = []

    @property
    def api(self) -> Any:  # noqa: ANN401  # docker-py's low-level API is untyped
        """The API of the Docker daemon that is broken."""
        return self.apis[0]

    @property
    def apis(self) -> list[Any]:
        """That one's, and that of the machine's own daemon, which is another host's and stays whole."""
        return [daemon.api for daemon in self._daemons]

    async def __aenter__(self) -> Self:
        """Start everything."""
        async with AsyncExitStack() as parts:
            disk = parts.enter_context(_disk())
            self.dockerd = await parts.enter_async_context(SecondDockerd(disk / "docker"))
            await self.dockerd.load(DEFAULT_IMAGE)
            for address in (self.dockerd.host, MACHINE_DOCKER):
                daemon = docker.DockerClient(base_url=address, version="1.41", timeout=60)
                parts.callback(daemon.close)
                self._daemons.append(daemon)
            self.stack = DevStack(self.home / "stack", ports=Ports.free(), components=SERVERS)
            await parts.enter_async_context(self.stack)
            self.proxy = await parts.enter_async_context(StoreProxy(self.stack.ports.store))
            self.link = await parts.enter_async_context(Link(self.stack.ports.temporal))
            self.model = await parts.enter_async_context(ScriptedModel(self.cast))
            settings = Settings.load(self.stack.env)
            self.temporal = await connect(settings)
            self.client = AgentClient.over(self.temporal)
            # Past the proxy: what a test itself reads and breaks.
            self.store = wiring.open_store(settings)
            parts.push_async_callback(self.store.close)
            self.worker = self.new_worker(self.host_id, self.dockerd.host, TEMPORAL_ADDRESS=self.link.address)
            await self.worker.start()
            parts.push_async_callback(self._stop_worker)
            await self.worker.ready(self.temporal)
            self._parts = parts.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        self.proxy.mend()
        await self._parts.aclose()

    def new_worker(self, host_id: str, docker_host: str, **environ: str) -> WorkerProcess:
        """A worker of a sandbox host of its own; it is not started."""
        home = self.home / host_id
        home.mkdir(exist_ok=True)
        providers = home / "providers.yaml"
        provider = {"base_url": self.model.base_url, "api_key_env": "OPENAI_API_KEY", "timeout_s": MODEL_TIMEOUT_S}
        write_private(providers, yaml.safe_dump({"providers": {"default": provider}}))
        settings = {
            **self.stack.env,
            "AWS_ENDPOINT_URL_S3": self.proxy.url,
            "DOCKER_HOST": docker_host,
            "HIBERNAUT_HOME": str(home),
            "HIBERNAUT_HOST_ID": host_id,
            "HIBERNAUT_PROVIDERS": str(providers),
            "OPENAI_API_KEY": self.model.api_key,
            **environ,
        }
        return WorkerProcess(settings, home / "worker.log")

    async def mend(self) -> None:
        """Make everything whole that an earlier fault may have left broken."""
        self.proxy.mend()
        self.link.mend()
        if self.dockerd.pid is None:
            await self.dockerd.start()
        if self.stack.pid(Component.STORE) is None:
            await self.stack.start_component(Component.STORE)
        if not self.worker.runs:
            await self.worker.start()
            await self.worker.ready(self.temporal)

    async def restart_worker(self) -> None:
        """Kill the worker; its supervisor starts another at once."""
        await self.worker.kill()
        await self.worker.start()

    def kill(self, component: Component) -> None:
        """Kill a server; the stack starts it again on the same files."""
        pid = self.stack.pid(component)
        if pid is None:
            raise RuntimeError(f"{component} does not run")
        self.kill_process(pid)

    def kill_process(self, pid: int) -> None:
        """End a process with SIGKILL."""
        os.kill(pid, signal.SIGKILL)

    def kill_containers(self) -> None:
        """Kill every process of every container, as the crash of the machine would."""
        dockerd_keeper.kill_containers(self.dockerd.home)

    async def stop_model(self) -> None:
        """Nobody listens at the model's address any more."""
        await self.model.__aexit__(None, None, None)

    async def start_model(self) -> None:
        """Listen there again."""
        await self.model.__aenter__()

    @asynccontextmanager
    async def other_host(self) -> AsyncGenerator[WorkerProcess]:
        """A second sandbox host, on the machine's own Docker daemon."""
        worker = self.new_worker(f"{self.host_id}-other-{uuid4().hex[:4]}", MACHINE_DOCKER)
        await worker.start()
        try:
            await worker.ready(self.temporal)
            yield worker
        finally:
            await worker.stop()
            worker.end_watchdog()

    def containers(self, uid: str) -> list[str]:
        """Ids of every container of an agent on any host, running or not."""
        labels = {"label": f"{LABEL_UID}={uid}"}
        return [str(one["Id"]) for api in self.apis for one in api.containers(all=True, filters=labels)]

    def runs(self, container: str) -> bool:
        """Whether a container of the daemon that is broken runs, and is not frozen."""
        try:
            state = self.api.inspect_container(container)["State"]
        except NotFound:
            return False
        return bool(state["Running"]) and not state["Paused"]

    def sweep(self, uid: str) -> None:
        """Remove what is left of an agent, so that it is in nobody's way."""
        for api in self.apis:
            for one in api.containers(all=True, filters={"label": f"{LABEL_UID}={uid}"}):
                with contextlib.suppress(NotFound):
                    api.remove_container(one["Id"], force=True, v=True)

    async def items(self, ref: str | None) -> list[dict[str, Any]]:
        """The conversation, oldest item first."""
        return [dict(item) for item in await Transcript(self.store).items(ref)]

    async def _stop_worker(self) -> None:
        await self.worker.stop()
        self.worker.end_watchdog()


@contextmanager
def _disk() -> Generator[Path]:
    """A small file system on a loop device, mounted in a folder with a short name."""
    folder = Path(tempfile.mkdtemp(prefix="hbn-"))
    image = folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
        image.unlink()
        shutil.rmtree(folder, ignore_errors=True)


async def soon(condition: Any, what: str, seconds: float = 60.0) -> None:  # noqa: ANN401  # sync or async
    """Wait for something that must come.

    Raises:
        AssertionError: It did not come.
    """
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = condition()
                if await answer if asyncio.iscoroutine(answer) else answer:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{what}: not within {seconds:.0f} s") from None
