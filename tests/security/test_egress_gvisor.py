"""The same way out under gVisor, where Docker's daemon starts it with `--network=host`: no device but the loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from activities.adapters.docker_client import Daemon
from activities.adapters.secret_values import SecretValues
from deploy.setup.gvisor import FLAGS, ensure_gvisor
from hibernaut.models.secrets import placeholder
from tests.support.boxes import IMAGE
from tests.support.dockerd import RuntimeConfig, SecondDockerd
from tests.support.egress_host import Guest, egress_host
from tests.support.far_hosts import ADDRESS, far_hosts
from tests.support.gvisor import RUNTIME

pytestmark = pytest.mark.slow

VALUE = "value-under-gvisor"
CONNECTED = tuple("--network=host" if flag == "--network=none" else flag for flag in FLAGS)


async def test_an_allowlist_holds_under_gvisor(tmp_path: Path) -> None:
    runsc = await asyncio.to_thread(ensure_gvisor)
    runtimes = {RUNTIME: RuntimeConfig(str(runsc), CONNECTED)}
    async with far_hosts() as far, SecondDockerd(tmp_path / "d", runtimes=runtimes) as dockerd:
        await dockerd.load(IMAGE)
        (tmp_path / "ca.pem").write_text(far.ca)
        env = {"HIBERNAUT_EGRESS_CA_FILE": str(tmp_path / "ca.pem")}
        values = SecretValues(environ={"HIBERNAUT_SECRET_KEY": VALUE})
        async with egress_host(tmp_path / "h", Daemon(dockerd.host), env, values) as host:
            allowed = f"{ADDRESS}:{far.http_port}", f"{ADDRESS}:{far.tls_port}"
            guest = await Guest(host, *allowed, runtime=RUNTIME, secrets={"KEY": {"hosts": [allowed[1]]}}).wake()
            # Its certificate is trusted, and its placeholder is swapped there and back.
            _, said = await guest.run(f'curl -sS -H "X-Key: $KEY" https://{ADDRESS}:{far.tls_port}/echo/raw')
            assert (said, far.heard[0].headers["x-key"]) == (placeholder(guest.uid, "KEY"), VALUE)
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
