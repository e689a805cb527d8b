"""The development stack with its real servers: what survives, what is refused, and that nothing is left behind."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client

from tests.support.devstack import processes_of, start_raw_workflow, until
from workers.devstack import SERVERS, AlreadyRunning, Component, DevStack, PortInUse, Ports, seaweed
from workers.devstack.child import Child
from workers.devstack.errors import ChildFailed
from workers.devstack.home import HomeLock
from workers.devstack.seaweed import admin_client
from workers.devstack.settings import BUCKET, Secrets
from workers.devstack.temporal import RETENTION_SECONDS, SEARCH_ATTRIBUTES, prepare


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    assert processes_of(home) == []


@pytest.mark.slow
async def test_state_survives_a_stop_and_a_start_on_other_ports(home: Path) -> None:
    async with DevStack(home, ports=Ports.free(), components=SERVERS) as stack:
        await start_raw_workflow(stack, "kept")
        s3 = admin_client(stack.ports, Secrets.of(home))
        await asyncio.to_thread(
            s3.put_object, bucket_name=BUCKET, object_name="store/kept", data=BytesIO(b"content"), length=7
        )
        token = stack.env["HIBERNAUT_GATEWAY_TOKEN"]
    assert processes_of(home) == []

    async with DevStack(home, ports=Ports.free(), components=SERVERS) as stack:
        client = await Client.connect(stack.temporal_address, namespace=stack.namespace)
        found = [run.id async for run in client.list_workflows("HibernautState = 'idle' AND HibernautSteps = 3")]
        assert found == ["kept"]
        s3 = admin_client(stack.ports, Secrets.of(home))
        answer = await asyncio.to_thread(s3.get_object, bucket_name=BUCKET, object_name="store/kept")
        assert answer.read() == b"content"
        answer.close()
        assert stack.env["HIBERNAUT_GATEWAY_TOKEN"] == token


@pytest.mark.slow
async def test_a_store_that_lists_but_serves_no_content_is_not_ready(tmp_path: Path) -> None:
    # A filer without volumes is what a start on a busy machine looks like for some seconds.
    ports, secret = Ports.free(), Secrets.of(tmp_path)
    program = Path(sys.executable).with_name("weed")
    internal = seaweed.InternalPorts.of(tmp_path)
    mini = seaweed.command(program, tmp_path, ports, internal, secret)[2:]
    kept = [part for part in mini if not part.startswith(("-admin", "-webdav", "-s3.port.iceberg", "-s3.port.lance"))]
    child = Child(
        "store",
        [str(program), "server", "-filer", "-s3", "-volume=false", *kept],
        env={**os.environ, "GOMEMLIMIT": "512MiB"},
        log=tmp_path / "log",
        say=print,
        cwd=tmp_path,
        grace=5,
    )
    client = admin_client(ports, secret)
    await child.start(lambda: seaweed.healthy(client), timeout=60)
    try:
        with pytest.raises(ChildFailed, match="gives no content within 2 s"):
            await seaweed.prepare(program, client, internal, tmp_path, timeout=2)
    finally:
        await child.stop()


async def test_the_namespace_keeps_workflows_long_and_has_our_search_attributes(home: Path) -> None:
    async with DevStack(home, ports=Ports.free(), components={Component.TEMPORAL}) as stack:
        client = await Client.connect(stack.temporal_address, namespace=stack.namespace)
        await prepare(client)
        for namespace in (stack.namespace, "another"):
            await prepare(client, namespace)
            described = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
            assert described.config.workflow_execution_retention_ttl.ToSeconds() == RETENTION_SECONDS
            listed = await client.operator_service.list_search_attributes(
                ListSearchAttributesRequest(namespace=namespace)
            )
            assert SEARCH_ATTRIBUTES.items() <= dict(listed.custom_attributes).items()
    assert RETENTION_SECONDS >= 30 * 24 * 3600


async def test_the_whole_stack_works_and_stops_in_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-the-worker-alone")
    said: list[str] = []
    async with DevStack(home, ports=Ports.free(), say=said.append) as stack:
        told = json.loads((home / "connection.json").read_text(encoding="utf-8"))
        assert told["temporal_address"] == stack.temporal_address
        assert told["gateway_token"] == stack.env["HIBERNAUT_GATEWAY_TOKEN"]
        environs = {
            component: Path(f"/proc/{stack.pid(component)}/environ").read_text(encoding="utf-8")
            for component in Component
        }
        having = {component for component, environ in environs.items() if "sk-for-the-worker-alone" in environ}
        assert having == {Component.WORKER}
        _, writer = await asyncio.open_connection("127.0.0.1", stack.ports.gateway)
        writer.close()
    stopped = [line.removeprefix("stopping ") for line in said if line.startswith("stopping ")]
    assert stopped[:3] == ["worker", "gateway", "watchdog"]
    assert set(stopped[3:]) == {"store", "temporal"}
    assert not any("killed" in line for line in said)


async def test_secrets_are_private_and_reach_only_those_who_need_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-the-worker-alone")
    async with DevStack(home, ports=Ports.free(), components=SERVERS) as stack:
        secret = Secrets.of(home)
        for name in ("secrets.json", "connection.json", "s3/identities.json"):
            assert (home / name).stat().st_mode & 0o777 == 0o600
        for component in SERVERS:
            environ = Path(f"/proc/{stack.pid(component)}/environ").read_text(encoding="utf-8")
            assert "sk-for-the-worker-alone" not in environ
    for log in (home / "logs").iterdir():
        text = log.read_text(encoding="utf-8")
        assert secret.s3_secret_key not in text
        assert secret.gateway_token not in text
    assert repr(secret) == "Secrets(...)"


async def test_a_server_that_crashes_is_started_again_with_its_state(home: Path) -> None:
    said: list[str] = []
    async with DevStack(home, ports=Ports.free(), components={Component.TEMPORAL}, say=said.append) as stack:
        await start_raw_workflow(stack, "kept")
        first = stack.pid(Component.TEMPORAL)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: stack.pid(Component.TEMPORAL) not in {None, first})

        client = await connect_when_up(stack)
        assert (await client.get_workflow_handle("kept").describe()).id == "kept"
    assert any("temporal was ended by SIGKILL; starting it again" in line for line in said)
    assert any("temporal runs again" in line for line in said)


async def connect_when_up(stack: DevStack) -> Client:
    while True:
        with suppress(RuntimeError):
            return await Client.connect(stack.temporal_address, namespace=stack.namespace)
        await asyncio.sleep(0.1)


async def test_a_home_has_one_stack_at_a_time(home: Path) -> None:
    async with DevStack(home, ports=Ports.free(), components={Component.TEMPORAL}) as first:
        with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}"):
            await DevStack(home, ports=Ports.free(), components={Component.TEMPORAL}).start()
        assert first.pid(Component.TEMPORAL) is not None
    assert HomeLock(home).holder() is None


async def test_a_busy_port_is_named_with_the_variable_that_changes_it(home: Path) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        busy = server.sockets[0].getsockname()[1]
        free = Ports.free()
        ports = Ports(temporal=free.temporal, ui=busy, store=free.store, gateway=free.gateway)
        with pytest.raises(PortInUse, match=rf"Port {busy} .* HIBERNAUT_UI_PORT"):
            await DevStack(home, ports=ports, components=SERVERS).start()
    assert HomeLock(home).holder() is None
