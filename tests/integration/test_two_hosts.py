"""Two sandbox hosts, each a Docker daemon and a worker of its own: one goes away, or is cut off while it lives."""

import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from docker.errors import NotFound
from temporalio.client import Client

from activities.adapters.docker_captures import DockerCaptures
from activities.adapters.docker_client import Daemon
from activities.errors import SnapshotFenced
from activities.ports.store import ObjectStore
from activities.snapshots.engine import Engine
from activities.transcript import Transcript
from examples.scripted_model import Conversation, Reply, ScriptedModel, respond, say, shell
from hibernaut import AgentClient, AgentSpec
from hibernaut.agent import AgentHandle
from hibernaut.contracts import StoreKeys
from hibernaut.models import LeaseStatus
from hibernaut.models.spec import DEFAULT_IMAGE
from tests.chaos.link import Link
from tests.chaos.processes import WorkerProcess
from tests.support.dockerd import SecondDockerd
from tests.support.hosts import TICKING
from workers.devstack.settings import write_private
from workers.devstack.stack import DevStack
from workers.watchdog.folder import HostFolder

LEASE_S = 4.0

pytestmark = pytest.mark.slow


class SandboxHost:
    """A host of the test: where its containers are, and how its worker is run."""

    def __init__(self, name: str, home: Path, daemon: Daemon, worker: WorkerProcess) -> None:
        self.id, self.daemon, self.worker = name, daemon, worker
        self.folder = HostFolder(home, name)

    def inspect(self, container: str) -> dict[str, Any] | None:
        """What the daemon says; None when the container is gone."""
        with suppress(NotFound):
            return dict(self.daemon.api.inspect_container(container))
        return None

    def paused(self, container: str) -> bool:
        found = self.inspect(container)
        return found is not None and bool(found["State"]["Paused"])

    def ticks(self, container: str) -> int:
        found = self.inspect(container)
        path = Path(f"/proc/{found['State']['Pid']}/root/root/ticks") if found else None
        return path.stat().st_size if path is not None and path.exists() else 0

    async def close(self) -> None:
        """Stop the worker, and the watchdog that it started."""
        await self.worker.stop()
        words = self.folder.lock.read_text().split() if self.folder.lock.exists() else []
        if words:
            with suppress(ProcessLookupError):
                os.kill(int(words[0]), signal.SIGTERM)
        await asyncio.to_thread(self.daemon.close)


class TwoHosts:
    """Host A on the machine's own daemon, reached by Temporal over a link; host B on a daemon of its own."""

    def __init__(
        self, stack: DevStack, temporal: Client, store: ObjectStore, home: Path, second: SecondDockerd
    ) -> None:
        self.stack, self.temporal, self.store, self.home, self.second = stack, temporal, store, home, second
        self.model: ScriptedModel

    def host(self, name: str, docker_host: str | None, address: str) -> SandboxHost:
        unique = f"{name}-{uuid4().hex[:6]}"
        home = self.home / unique
        home.mkdir()
        providers = home / "providers.yaml"
        provider = {"base_url": self.model.base_url, "api_key_env": "OPENAI_API_KEY"}
        write_private(providers, yaml.safe_dump({"providers": {"default": provider}}))
        environ = {
            **self.stack.env,
            "TEMPORAL_ADDRESS": address,
            "HIBERNAUT_HOME": str(home),
            "HIBERNAUT_HOST_ID": unique,
            "HIBERNAUT_LEASE_SECONDS": str(LEASE_S),
            "HIBERNAUT_HOUSEKEEPING_MINUTES": "0",
            "HIBERNAUT_PROVIDERS": str(providers),
            "OPENAI_API_KEY": self.model.api_key,
            **({"HIBERNAUT_DOCKER_HOST": docker_host} if docker_host else {}),
        }
        return SandboxHost(unique, home, Daemon(docker_host), WorkerProcess(environ, home / "worker.log"))

    @asynccontextmanager
    async def first(self, link: Link) -> AsyncGenerator[SandboxHost]:
        async with self._running(self.host("a", None, link.address)) as host:
            yield host

    @asynccontextmanager
    async def other(self) -> AsyncGenerator[SandboxHost]:
        async with self._running(self.host("b", self.second.host, self.stack.temporal_address)) as host:
            yield host

    @asynccontextmanager
    async def _running(self, host: SandboxHost) -> AsyncGenerator[SandboxHost]:
        try:
            await host.worker.start()
            await host.worker.ready(self.temporal)
            yield host
        finally:
            await host.close()

    async def items(self, agent: AgentHandle) -> str:
        """The conversation, as text."""
        ref = (await agent.status()).transcript_ref
        return json.dumps([dict(item) for item in await Transcript(self.store).items(ref)])


@pytest.fixture(scope="module")
async def second() -> AsyncIterator[SecondDockerd]:
    with tempfile.TemporaryDirectory(prefix="hib-") as home:
        async with SecondDockerd(Path(home)) as daemon:
            await daemon.load(DEFAULT_IMAGE)
            yield daemon


@pytest.fixture
def hosts(stack: DevStack, temporal: Client, store: ObjectStore, tmp_path: Path, second: SecondDockerd) -> TwoHosts:
    return TwoHosts(stack, temporal, store, tmp_path, second)


def _look(conversation: Conversation) -> Reply:
    """After whatever became of the long command: what is there?"""
    del conversation
    return shell("cat /root/one; ls /root")


def _tell(conversation: Conversation) -> Reply:
    return say(conversation.calls[-1].results[0].stdout)


SCRIPT = [
    shell("echo one > /root/one"),
    shell(f"nohup sh -c '{TICKING}' >/dev/null 2>&1 & sleep 1"),
    shell("echo begun > /root/begun; sleep 600"),
    respond(_look),
    respond(_tell),
]


async def _soon(what: str, condition: Any, seconds: float = 100.0) -> None:  # noqa: ANN401  # sync or async
    for _ in range(int(seconds / 0.1)):
        found = condition()
        if (await found) if asyncio.iscoroutine(found) else found:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


async def _begun(agent: AgentHandle, host: SandboxHost) -> LeaseStatus:
    """The lease, once the third command runs and what was before it is durable."""

    async def so_far() -> bool:
        status = await agent.status()
        found = host.inspect(status.lease.sandbox_id) if status.lease else None
        return (
            found is not None
            and status.snapshots >= 2
            and Path(f"/proc/{found['State']['Pid']}/root/root/begun").exists()
        )

    await _soon("the long command begins", so_far, 60)
    lease = (await agent.status()).lease
    assert lease is not None
    assert lease.host_id == host.id
    assert lease.lease_seconds == LEASE_S
    return lease


async def test_a_host_that_is_gone_is_replaced_and_the_agent_goes_on_from_its_snapshot(hosts: TwoHosts) -> None:
    async with AsyncExitStack() as parts:
        hosts.model = await parts.enter_async_context(ScriptedModel(SCRIPT))
        link = await parts.enter_async_context(Link(hosts.stack.ports.temporal))
        host_a = await parts.enter_async_context(hosts.first(link))
        agent = await AgentClient.over(hosts.temporal).start(f"gone-{uuid4().hex[:6]}", AgentSpec(model="scripted"))
        ticket = await agent.post("go")
        first = await _begun(agent, host_a)
        host_b = await parts.enter_async_context(hosts.other())
        await host_a.worker.kill()
        host_a.daemon.api.remove_container(first.sandbox_id, force=True, v=True)
        reply = await agent.wait(ticket.message_id, timeout=110)
        assert reply.text.startswith("one\n")
        status = await agent.status()
        assert status.lease is not None
        assert (status.lease.host_id, status.lease.generation) == (host_b.id, first.generation + 1)
        assert status.recoveries == 1
        assert "recovery report" in await hosts.items(agent)
        await agent.close(timeout=60)


async def test_a_host_that_is_cut_off_is_frozen_before_another_goes_on(hosts: TwoHosts) -> None:
    async with AsyncExitStack() as parts:
        hosts.model = await parts.enter_async_context(ScriptedModel(SCRIPT))
        link = await parts.enter_async_context(Link(hosts.stack.ports.temporal))
        host_a = await parts.enter_async_context(hosts.first(link))
        agent = await AgentClient.over(hosts.temporal).start(f"cut-{uuid4().hex[:6]}", AgentSpec(model="scripted"))
        ticket = await agent.post("go")
        first = await _begun(agent, host_a)
        box = first.sandbox_id
        uid = (await agent.status()).agent_uid
        # A's own engine, which knows the head as it is now.
        engine = Engine(hosts.store, DockerCaptures(host_a.daemon))
        await engine._heads.check(uid, first.generation)
        assert host_a.ticks(box) > 0
        host_b = await parts.enter_async_context(hosts.other())

        link.cut()
        await _soon("the freeze", lambda: host_a.paused(box), 30)
        frozen_at = time.time()
        stopped_at = host_a.ticks(box)
        reply = await agent.wait(ticket.message_id, timeout=110)
        assert reply.text.startswith("one\n")
        status = await agent.status()
        assert status.lease is not None
        assert (status.lease.host_id, status.lease.generation) == (host_b.id, first.generation + 1)
        assert "recovery report" in await hosts.items(agent)

        # It was frozen before the next one was made, and nothing moved in it since.
        made = host_b.inspect(status.lease.sandbox_id)
        assert made is not None
        assert frozen_at < _seconds(made["Created"])
        assert host_a.paused(box)
        assert host_a.ticks(box) == stopped_at

        # What A still has to say is refused, and leaves no trace.
        head = json.loads(await hosts.store.get(StoreKeys.head(uid)))
        assert head["generation"] == first.generation + 1
        with pytest.raises(SnapshotFenced):
            await engine.take(
                box, agent_uid=uid, generation=first.generation, number=77, parent=None, progress=lambda _text: None
            )
        assert [one.key async for one in hosts.store.list(StoreKeys.agent(uid)) if one.key.endswith("00000077")] == []

        link.mend()
        await _soon("the removal of what was replaced", lambda: host_a.inspect(box) is None, 60)
        await agent.close(timeout=60)


async def test_a_short_cut_loses_nothing(hosts: TwoHosts) -> None:
    script = [shell("echo run >> /root/runs; sleep 12; cat /root/runs"), respond(_tell)]
    async with AsyncExitStack() as parts:
        hosts.model = await parts.enter_async_context(ScriptedModel(script))
        link = await parts.enter_async_context(Link(hosts.stack.ports.temporal))
        host_a = await parts.enter_async_context(hosts.first(link))
        agent = await AgentClient.over(hosts.temporal).start(f"short-{uuid4().hex[:6]}", AgentSpec(model="scripted"))
        ticket = await agent.post("go")

        async def runs() -> bool:
            lease = (await agent.status()).lease
            found = host_a.inspect(lease.sandbox_id) if lease else None
            return found is not None and Path(f"/proc/{found['State']['Pid']}/root/root/runs").exists()

        await _soon("the command", runs, 60)
        lease = (await agent.status()).lease
        assert lease is not None
        link.cut()
        await _soon("the freeze", lambda: host_a.paused(lease.sandbox_id), 30)
        link.mend()
        reply = await agent.wait(ticket.message_id, timeout=110)
        assert reply.text == "run\n"
        status = await agent.status()
        assert (status.generation, status.recoveries) == (1, 0)
        await agent.close(timeout=60)


def _seconds(text: str) -> float:
    """Docker's time, which has nanoseconds, as seconds since 1970."""
    whole, _, rest = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{rest or 0}")
