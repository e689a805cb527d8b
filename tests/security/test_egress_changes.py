"""Rules changed while a sandbox runs, through the real proxy: reached, refused, cut; after whatever dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from activities.errors import SandboxLost
from activities.ports.egress import Tenant
from tests.support.egress_host import EgressHost, Guest, egress_host
from tests.support.far_hosts import ADDRESS, FarHosts, far_hosts
from tests.support.hosts import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
async def far() -> AsyncIterator[FarHosts]:
    async with far_hosts() as hosts:
        yield hosts


@pytest.fixture(scope="module")
async def host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EgressHost]:
    async with egress_host(tmp_path_factory.mktemp("home")) as made:
        yield made


async def give(guest: Guest, number: int, *allow: str) -> None:
    """What the activity does with an order."""
    tenant = Tenant(f"agent-{guest.uid[:6]}", guest.uid, 1, guest.sandbox_id)
    network = guest.spec.network.model_copy(update={"allow": allow})
    await asyncio.to_thread(guest.host.desk.admit, tenant, network, number)


async def test_a_host_is_reached_once_it_is_allowed_and_cut_off_once_it_is_denied(
    host: EgressHost, far: FarHosts
) -> None:
    plain, tls = (f"{ADDRESS}:{port}" for port in (far.http_port, far.tls_port))
    guest, other = await Guest(host, tls).wake(), await Guest(host, plain).wake()
    before = host.pid
    assert await guest.status(f"http://{plain}/") == "403"
    await give(guest, 1, plain, tls)
    assert (await guest.status(f"http://{plain}/"), await guest.status(f"-k https://{tls}/")) == ("200", "200")

    def under_way(one: Guest) -> bool:
        lines = [
            line for line in host.lines if line["tenant"]["agent_uid"] == one.uid and line["port"] == far.http_port
        ]
        return bool(lines) and lines[-1]["kind"] == "decided" and lines[-1]["allowed"]

    # More than the buffers on the way take at once.
    slow = f"curl -s -o /dev/null --limit-rate 2000000 http://{plain}/much/"
    cut = asyncio.create_task(guest.run(f"{slow}40000000"))
    spared = asyncio.create_task(other.run(f"{slow}12000000"))
    await until(lambda: under_way(guest) and under_way(other), "two downloads")
    await give(guest, 2, tls)
    assert (await cut)[0].exit_code not in {0, 28}
    assert (await spared)[0].exit_code == 0, "the rules of one were taken for the other's"
    ended = [line for line in host.lines if line["kind"] == "ended" and line["tenant"]["agent_uid"] == guest.uid][-1]
    assert (ended["reason"], ended["received"] < 40_000_000) == ("cut: its rule was taken away", True)
    end, _ = await guest.run(f"curl -s http://{plain}/")
    assert end.detail == f"blocked by policy: {ADDRESS}:{far.http_port} (allowed ports: {far.tls_port})"
    assert await guest.status(f"-k https://{tls}/") == "200"
    assert host.pid == before


async def test_changed_rules_outlive_the_proxy_the_worker_and_the_containers_start(
    host: EgressHost, far: FarHosts
) -> None:
    plain = f"{ADDRESS}:{far.http_port}"
    guest = await Guest(host, "allowed.test").wake()
    await give(guest, 3, plain)
    # An order that was on its way for long.
    await give(guest, 2, "other.test")
    assert await guest.status(f"http://{plain}/") == "200"
    await asyncio.to_thread(host.kill)
    host.restart_worker()
    await asyncio.to_thread(host.desk.reconcile)
    assert await guest.status(f"http://{plain}/") == "200"
    await asyncio.to_thread(host.daemon.api.stop, guest.sandbox_id, timeout=5)
    await until(lambda: guest.sandbox_id not in host.doors, "the end of the door")
    with pytest.raises(SandboxLost):
        await give(guest, 4, plain, "late.test")
    await host.boxes.start(guest.sandbox_id)
    assert await guest.status(f"http://{plain}/") == "200"
    assert (await guest.run("curl -s http://late.test/"))[0].detail == "", "the last order was for good"
    await asyncio.to_thread(host.kill)
    # The proxy died before it could be told.
    await give(guest, 5, "last.test")
    assert await guest.status(f"http://{plain}/") == "403"


async def test_connections_are_reported_once_each(host: EgressHost, far: FarHosts) -> None:
    plain = f"{ADDRESS}:{far.http_port}"
    guest = await Guest(host, plain).wake()
    await guest.run(f"curl -s http://{plain}/ http://{plain}/ https://evil.example/")
    first = await asyncio.to_thread(host.desk.report, guest.sandbox_id, "")
    assert [(one.host, one.port, one.allowed, one.count) for one in first.decisions] == [
        ("evil.example", 443, False, 1),
        (ADDRESS, far.http_port, True, 2),
    ]
    assert first.decisions[0].reason == "blocked by policy: evil.example (not in the allowlist)"
    # In the background, so to say: nobody asked while it ran.
    assert await guest.status("http://worse.example/") == "403"
    second = await asyncio.to_thread(host.desk.report, guest.sandbox_id, first.mark)
    assert [one.host for one in second.decisions] == ["worse.example"]
    assert (await asyncio.to_thread(host.desk.report, guest.sandbox_id, second.mark)).decisions == ()
    await asyncio.to_thread(host.kill)
    assert (await asyncio.to_thread(host.desk.report, guest.sandbox_id, "x")).mark == "x"
