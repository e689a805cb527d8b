"""The egress proxy as a process: rules for each agent, for as long as it has a computer, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.adapters import egress_wire as wire
from activities.adapters.egress_notes import Notes
from activities.egress.journal import EgressLog
from activities.errors import SandboxLost, SandboxRefused
from hibernaut.models import SandboxSpec
from tests.security.cell import addresses
from tests.support.egress_host import EgressHost, Guest, egress_host
from tests.support.far_hosts import ADDRESS, FarHosts, far_hosts
from tests.support.hosts import until
from workers.egress.serve import Doorkeeper

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
async def far() -> AsyncIterator[FarHosts]:
    async with far_hosts() as hosts:
        yield hosts


@pytest.fixture(scope="module")
async def host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EgressHost]:
    # A path longer than the kernel takes for a socket.
    async with egress_host(tmp_path_factory.mktemp("home") / ("long" * 30)) as made:
        yield made


@pytest.fixture(autouse=True)
async def _alone(host: EgressHost) -> AsyncIterator[None]:
    yield
    # As the sweep of orphans does.
    for box in await host.boxes.owned():
        await host.boxes.remove(box.sandbox_id)
    assert (host.doors, host.notes) == (set(), set())


async def test_two_agents_on_one_host_have_rules_of_their_own(host: EgressHost, far: FarHosts) -> None:
    tls, plain = (f"{ADDRESS}:{port}" for port in (far.tls_port, far.http_port))
    first, second = await Guest(host, plain).wake(), await Guest(host, tls).wake()
    assert (await first.status(f"http://{plain}/"), await second.status(f"http://{plain}/")) == ("200", "403")
    assert (await first.status(f"-k https://{tls}/"), await second.status(f"-k https://{tls}/")) == ("000", "200")
    verdicts = {(line["tenant"]["agent_uid"], line["port"]): line["allowed"] for line in host.lines}
    assert verdicts == {
        (guest.uid, port): guest is first if port == far.http_port else guest is second
        for guest in (first, second)
        for port in (far.tls_port, far.http_port)
    }
    await first.sleep()
    # What one gives up is not the other's.
    assert (host.doors, await second.status(f"-k https://{tls}/")) == ({second.sandbox_id}, "200")
    await second.sleep()


async def test_no_rule_leads_to_a_service_of_this_host(tmp_path: Path) -> None:
    """As Temporal, a store or a gateway might be; the metadata address neither."""
    with socket.create_server(("0.0.0.0", 0)) as service:  # noqa: S104  # what is not to be reached
        port = int(service.getsockname()[1])
        places = [*(f"{address}:{port}" for address in addresses()), "169.254.169.254:80"]
        async with egress_host(tmp_path / "home", env={"HIBERNAUT_EGRESS_REACHABLE": ""}) as alone:
            network = {"mode": "allowlist", "allow": places, "allow_private": ["0.0.0.0/0"]}
            guest = await Guest(alone, network=network).wake()
            told = {place: await guest.status(f"--noproxy '' http://{place}/") for place in places}
            assert told == dict.fromkeys(places, "403")
            service.settimeout(0)
            with pytest.raises(BlockingIOError):
                service.accept()


async def test_the_rules_are_there_again_after_a_wake_and_nothing_is_left_after_it_sleeps(
    host: EgressHost, far: FarHosts
) -> None:
    guest = await Guest(host, f"{ADDRESS}:{far.http_port}").wake()
    url = f"http://{ADDRESS}:{far.http_port}/"
    assert await guest.status(url) == "200"
    await guest.sleep()
    assert (host.doors, host.notes) == (set(), set())
    await guest.wake(2)
    assert (host.doors, host.notes) == ({guest.sandbox_id}, {guest.sandbox_id})
    assert (await guest.status(url), await guest.status("http://example.com/")) == ("200", "403")
    assert host.lines[-1]["tenant"] == {
        "agent_id": f"agent-{guest.uid[:6]}",
        "agent_uid": guest.uid,
        "generation": 2,
        "sandbox_id": guest.sandbox_id,
    }


async def test_the_model_is_told_what_was_blocked_while_its_command_ran(host: EgressHost) -> None:
    guest = await Guest(host, "allowed.test").wake()
    end, said = await guest.run("curl -s https://evil.example/ https://worse.example:8443/")
    assert said == ""
    assert end.detail == (
        "blocked by policy: evil.example (not in the allowlist); "
        "blocked by policy: worse.example (not in the allowlist)"
    )
    end, _ = await guest.run("for n in $(seq 15); do curl -s http://host$n.example/; done; exit 3")
    assert (end.exit_code, end.detail.count("blocked by policy"), end.detail[-10:]) == (3, 10, "and 5 more")
    end, _ = await guest.run("true")
    assert end.detail == ""


async def test_the_proxy_has_no_rights_and_its_log_is_its_own(host: EgressHost) -> None:
    await Guest(host, "allowed.test").wake()
    lines = Path(f"/proc/{host.pid}/status").read_text().splitlines()
    status = dict(line.split(":\t") for line in lines if ":\t" in line)
    assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4
    assert (status["CapEff"], status["CapPrm"], status["Groups"].strip()) == ("0" * 16, "0" * 16, "")
    environment = Path(f"/proc/{host.pid}/environ").read_bytes()
    assert not [word for word in (b"SECRET", b"TOKEN", b"API_KEY", b"AWS_") if word in environment]
    modes = {name: stat.S_IMODE((host.folder / name).stat().st_mode) for name in ("control", "log", "log/egress.jsonl")}
    assert modes == {"control": 0o600, "log": 0o700, "log/egress.jsonl": 0o600}
    assert stat.S_IMODE(host.folder.stat().st_mode) == 0o700


async def test_a_worker_that_is_replaced_leaves_connections_under_way_alone(host: EgressHost, far: FarHosts) -> None:
    guest = await Guest(host, f"{ADDRESS}:{far.http_port}").wake()
    pid = host.pid
    big = f"http://{ADDRESS}:{far.http_port}/much/3000000"
    running = asyncio.create_task(guest.run(f"curl -sS --limit-rate 1000000 {big} | wc -c"))
    await until(lambda: host.lines[-1]["tenant"]["agent_uid"] == guest.uid, "the download")
    host.restart_worker()
    await asyncio.to_thread(host.desk.reconcile)
    assert (await running)[1].strip() == "3000000"
    assert (host.pid, host.doors) == (pid, {guest.sandbox_id})


async def test_a_proxy_that_was_killed_is_replaced_and_given_all_rules_again(host: EgressHost, far: FarHosts) -> None:
    guests = [await Guest(host, f"{ADDRESS}:{far.http_port}").wake() for _ in range(2)]
    url = f"http://{ADDRESS}:{far.http_port}/"
    before = host.pid
    await asyncio.to_thread(host.kill)
    assert await guests[0].status(url) == "000"
    await asyncio.to_thread(host.desk.reconcile)
    assert host.pid != before
    for guest in guests:
        assert (await guest.status(url), await guest.status("http://example.com/")) == ("200", "403")


async def test_a_look_at_what_is_open_closes_nothing_that_was_opened_meanwhile(
    host: EgressHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await Guest(host, "first.test").wake(), Guest(host, "second.test")
    noted = [first.sandbox_id]
    await second.wake()

    def every(_: Notes) -> list[str]:
        """What was read just before that."""
        return noted

    monkeypatch.setattr(Notes, "every", every)
    await asyncio.to_thread(host.desk.reconcile)
    assert host.doors == {first.sandbox_id, second.sandbox_id}


async def test_an_agent_that_takes_the_port_takes_it_from_nobody_else(host: EgressHost, far: FarHosts) -> None:
    first, second = [await Guest(host, f"{ADDRESS}:{far.http_port}").wake() for _ in range(2)]
    url = f"http://{ADDRESS}:{far.http_port}/"
    await asyncio.to_thread(host.kill)
    thief = "import socket, time; s = socket.create_server(('127.0.0.1', 3128)); time.sleep(900)"
    for guest in (first, second):
        # Whichever comes first when the rules are given again.
        await guest.run(f'setsid python3 -c "{thief}" >/dev/null 2>&1 & sleep 0.5')
        await asyncio.to_thread(host.desk.reconcile)
        other = second if guest is first else first
        assert host.doors == {other.sandbox_id}
        assert await other.status(url) == "200"
        await guest.run("pkill -f create_server")
        await asyncio.to_thread(host.desk.reconcile)
        assert (host.doors, await guest.status(url)) == ({first.sandbox_id, second.sandbox_id}, "200")
        await asyncio.to_thread(host.kill)


async def test_a_proxy_of_another_release_is_replaced(host: EgressHost, far: FarHosts) -> None:
    guest = await Guest(host, f"{ADDRESS}:{far.http_port}").wake()
    before = host.pid
    host.settings = host.settings.model_copy(update={"egress_reachable": (*host.settings.egress_reachable[:1],) * 2})
    host.restart_worker()
    await asyncio.to_thread(host.desk.reconcile)
    assert (host.pid != before, await guest.status(f"http://{ADDRESS}:{far.http_port}/")) == (True, "200")


async def test_a_container_started_anew_has_its_way_out_again(host: EgressHost, far: FarHosts) -> None:
    guest = await Guest(host, f"{ADDRESS}:{far.http_port}").wake()
    url = f"http://{ADDRESS}:{far.http_port}/"
    await asyncio.to_thread(host.daemon.api.stop, guest.sandbox_id, timeout=5)
    await until(lambda: not host.doors, "the end of the door")
    await host.boxes.start(guest.sandbox_id)
    assert await guest.status(url) == "200"
    # By somebody else, of which the worker is not told.
    await asyncio.to_thread(host.daemon.api.restart, guest.sandbox_id, timeout=5)
    await asyncio.to_thread(host.desk.reconcile)
    assert (await guest.status(url), await guest.status("http://example.com/")) == ("200", "403")


async def test_a_container_removed_behind_our_back_leaves_nothing(host: EgressHost) -> None:
    guest = await Guest(host, "allowed.test").wake()
    await asyncio.to_thread(host.daemon.api.remove_container, guest.sandbox_id, force=True, v=True)
    # Its listener would keep its network namespace in being.
    await until(lambda: not host.doors, "the end of the door")
    assert host.notes == {guest.sandbox_id}
    await asyncio.to_thread(host.desk.reconcile)
    assert host.notes == set()


async def test_a_container_whose_way_out_cannot_be_made_is_not_left_behind(
    host: EgressHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise SandboxLost("no way")

    monkeypatch.setattr(host.desk, "_open", refuse)
    with pytest.raises(SandboxLost):
        await Guest(host, "allowed.test").wake()
    assert (await host.boxes.owned(), host.notes) == ([], set())


@pytest.mark.parametrize(("runtime", "said"), [("kata", "kata, whose containers"), ("runsc", "needs `--network=host`")])
async def test_a_runtime_without_a_way_out_is_told_before_anything_starts(
    host: EgressHost, runtime: str, said: str
) -> None:
    with pytest.raises(SandboxRefused, match=said):
        await Guest(host, "allowed.test", runtime=runtime).wake()
    assert await host.boxes.owned() == []


async def test_a_worker_that_is_not_root_says_so_before_anything_starts(
    host: EgressHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    guest = Guest(host, "allowed.test")
    with pytest.raises(SandboxRefused, match="needs a worker that is root"):
        await guest.wake()
    # So the host declines it, and another may take it.
    with pytest.raises(SandboxRefused, match="needs a worker that is root"):
        await host.boxes.fits(guest.spec)
    await host.boxes.fits(SandboxSpec())


async def test_a_worker_that_is_not_on_linux_says_so(host: EgressHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its root would look for a container's process where there is none, by a call that it has not."""
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(SandboxRefused, match="on Linux"):
        await asyncio.to_thread(host.desk.check, "runc")


async def test_a_sandbox_without_an_allowlist_needs_no_proxy(tmp_path: Path) -> None:
    async with egress_host(tmp_path) as host:
        guest = await Guest(host, network={"mode": "none"}).wake()
        assert (await guest.run("env | grep -ci proxy"))[1] == "0\n"
        await asyncio.to_thread(host.desk.reconcile)
        assert not host.folder.exists()


async def test_a_proxy_with_nothing_to_serve_ends(tmp_path: Path) -> None:
    keeper = Doorkeeper(EgressLog(tmp_path), "release", ())
    await asyncio.wait_for(keeper.run(wire.listening(tmp_path), idle=0.05), 10)


async def test_what_is_no_request_is_answered_with_an_error(tmp_path: Path) -> None:
    keeper = Doorkeeper(EgressLog(tmp_path), "release", ())
    running = asyncio.create_task(keeper.run(wire.listening(tmp_path)))

    def shout() -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
            link.connect(str(tmp_path / "control"))
            link.send(b'{"op": "open sesame"}')
            return link.recv(10_000)

    assert b"not understood" in await asyncio.to_thread(shout)
    reply = await asyncio.to_thread(wire.ask, tmp_path, wire.Request(op="open"))
    assert "needs a tenant" in reply.error
    await asyncio.to_thread(wire.ask, tmp_path, wire.Request(op="end"))
    await asyncio.wait_for(running, 10)
