"""The same way out under gVisor, where Docker's daemon starts it with `--network=host`: no device but the loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from activities.adapters.docker_client import Daemon
from deploy.setup.gvisor import FLAGS, ensure_gvisor
from tests.support.boxes import IMAGE
from tests.support.dockerd import RuntimeConfig, SecondDockerd
from tests.support.egress_host import Guest, egress_host
from tests.support.far_hosts import ADDRESS, far_hosts
from tests.support.gvisor import RUNTIME

pytestmark = pytest.mark.slow

CONNECTED = tuple("--network=host" if flag == "--network=none" else flag for flag in FLAGS)


async def test_an_allowlist_holds_under_gvisor(tmp_path: Path) -> None:
    runsc = await asyncio.to_thread(ensure_gvisor)
    runtimes = {RUNTIME: RuntimeConfig(str(runsc), CONNECTED)}
    async with far_hosts() as far, SecondDockerd(tmp_path / "d", runtimes=runtimes) as dockerd:
        await dockerd.load(IMAGE)
        async with egress_host(tmp_path / "h", Daemon(dockerd.host)) as host:
            guest = await Guest(host, f"{ADDRESS}:{far.http_port}", f"{ADDRESS}:{far.tls_port}", runtime=RUNTIME).wake()
            assert "gVisor" in (await guest.run("dmesg"))[1]
            assert await guest.status(f"http://{ADDRESS}:{far.http_port}/") == "200"
            assert await guest.status(f"-k https://{ADDRESS}:{far.tls_port}/") == "200"
            end, said = await guest.run("curl -s http://example.com/")
            blocked = "blocked by policy: example.com (not in the allowlist)"
            assert (said, end.detail) == (f"{blocked}\n", blocked)
            _, devices = await guest.run("cat /proc/net/dev")
            assert [line.split(":")[0].strip() for line in devices.splitlines()[2:]] == ["lo"]
            assert await guest.status(f"--noproxy '*' http://{ADDRESS}:{far.http_port}/") == "000"
            assert await guest.status("--noproxy '*' http://1.1.1.1/") == "000"
            await guest.sleep()
            assert (host.doors, host.notes) == (set(), set())
