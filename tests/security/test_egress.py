"""What a sandbox with an allowlist reaches, and what it does not: from inside a real container."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.far_hosts import ADDRESS, far_hosts
from tests.support.hosts import a_host
from tests.support.way_out import Cell, a_cell, answer


@pytest.fixture(scope="module")
async def cell() -> AsyncIterator[Cell]:
    async with far_hosts() as far, a_host() as host, a_cell(host, far) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh(cell: Cell) -> None:
    cell.resolved.clear()
    cell.far.asked.clear()


async def test_an_allowed_host_is_reached_by_tls_that_nobody_opens(cell: Cell) -> None:
    port = cell.far.tls_port
    async with cell.door(f"allowed.test:{port}"):
        code, said = await cell.curl(f"https://allowed.test:{port}/a?b=c")
        # The client has checked the far host's own certificate.
        assert (code, answer(said)["path"], answer(said)["query"]) == (0, "/a", "b=c")
        end = await cell.ended()
    assert cell.decided == [("allowed.test", port, True)]
    assert (end.address, end.allowed, end.reason) == (ADDRESS, True, "")
    assert end.sent > 300
    assert end.received > 300


async def test_another_host_is_blocked_and_the_model_can_read_why(cell: Cell) -> None:
    port = cell.far.tls_port
    async with cell.door(f"allowed.test:{port}") as door:
        code, said = await cell.curl(f"https://other.test:{port}/")
        assert code == 56
        assert "HTTP/1.1 403 blocked by policy: other.test (not in the allowlist)" in said
        assert "X-Hibernaut-Egress: blocked by policy: other.test" in said
        fetch = f"import urllib.request as u; u.urlopen('https://other.test:{port}')"
        _, python = await cell.run("python3", "-c", fetch)
        assert "Tunnel connection failed: 403 blocked by policy: other.test" in python
        code, plain = await cell.curl(f"http://other.test:{cell.far.http_port}/")
        assert (code, plain.splitlines()[-1]) == (0, "blocked by policy: other.test (not in the allowlist)")
        assert door.blocked(0) == ("blocked by policy: other.test (not in the allowlist)",)
    assert cell.far.asked == []
    # A name that is not allowed is told to no resolver either: it may be the message.
    assert cell.looked_up == []


async def test_a_wildcard_is_every_name_below_and_not_the_name_itself(cell: Cell) -> None:
    port = cell.far.tls_port
    async with cell.door(f"*.allowed.test:{port}"):
        assert (await cell.curl(f"https://sub.allowed.test:{port}/"))[0] == 0
        for host in ("allowed.test", "notallowed.test", "sub.allowed.test.evil.test"):
            assert "403 blocked by policy" in (await cell.curl(f"https://{host}:{port}/"))[1]
        code, said = await cell.curl(f"https://SUB.Allowed.test:{port}/")
        assert code == 0, said
    assert len(cell.far.asked) == 2


async def test_a_port_that_no_rule_names_is_blocked(cell: Cell) -> None:
    port = cell.far.tls_port
    async with cell.door("allowed.test", f"other.test:{port}"):
        code, said = await cell.curl(f"https://allowed.test:{port}/")
        assert code == 56
        assert f"blocked by policy: allowed.test:{port} (allowed ports: 80, 443)" in said
    assert cell.decided == [("allowed.test", port, False)]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("other.test", "blocked by policy: other.test (named in TLS (SNI), where the tunnel was asked for allowed"),
        ("", "blocked by policy: allowed.test (the TLS connection names no host (SNI))"),
    ],
)
async def test_a_tunnel_leads_to_the_name_it_was_allowed_for(cell: Cell, name: str, why: str) -> None:
    port = cell.far.tls_port
    async with cell.door(f"allowed.test:{port}") as door:
        code, said = await cell.handshake(f"allowed.test:{port}", name)
        assert code == 1
        assert "access denied" in said.lower()
        assert door.blocked(0)[0].startswith(why)
        # The same program with the name that was allowed: it is the name that made the difference.
        code, said = await cell.handshake(f"allowed.test:{port}", "allowed.test")
        assert (code, "200 OK" in said) == (0, True), said
    assert cell.decided == [("allowed.test", port, False), ("allowed.test", port, True)]


@pytest.mark.parametrize("instead", ["GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n"])
async def test_a_tunnel_carries_nothing_but_tls(cell: Cell, instead: str) -> None:
    port = cell.far.http_port
    async with cell.door(f"allowed.test:{port}") as door:
        _, said = await cell.handshake(f"allowed.test:{port}", "", instead)
        assert "b'\\x15\\x03" in said
        assert door.blocked(0) == ("blocked by policy: allowed.test (a tunnel must begin with TLS 1.2 or later)",)
    assert cell.far.asked == []


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.1.2.3", "is not a public address"),
        ("100.64.0.1", "is not a public address"),
        ("169.254.169.254", "is the host's own, or its link's or cloud's"),
        ("::ffff:169.254.169.254", "is the host's own, or its link's or cloud's"),
    ],
)
async def test_an_allowed_name_does_not_lead_to_an_address_that_is_not_public(
    cell: Cell, address: str, why: str
) -> None:
    cell.resolved["allowed.test"] = [address]
    async with cell.door("allowed.test"):
        code, said = await cell.curl("http://allowed.test/latest/meta-data/")
        assert (code, said.splitlines()[-1]) == (0, f"blocked by policy: allowed.test ({address} {why})")


async def test_what_was_checked_is_what_is_connected_to(cell: Cell) -> None:
    port = cell.far.http_port
    answers = iter([[ADDRESS], ["169.254.169.254"], [ADDRESS]])

    async def rebinding(host: str, _port: int) -> list[str]:
        cell.looked_up.append(host)
        return next(answers)

    async with cell.door(f"allowed.test:{port}") as door:
        door.policy._resolver = rebinding
        said = [(await cell.curl(f"http://allowed.test:{port}/{at}"))[1] for at in range(3)]
    # One look a request: there is no second one that could say something else.
    assert cell.looked_up == ["allowed.test"] * 3
    assert [" 200 " in text.splitlines()[0] for text in said] == [True, False, True]
    assert cell.far.asked == [f"GET allowed.test:{port} /{at}" for at in (0, 2)]


async def test_of_several_addresses_only_the_permitted_are_tried(cell: Cell) -> None:
    port = cell.far.http_port
    cell.resolved["allowed.test"] = ["10.255.255.1", "127.0.0.3", ADDRESS]
    async with cell.door(f"allowed.test:{port}"):
        assert (await cell.curl(f"http://allowed.test:{port}/"))[0] == 0
        assert (await cell.ended()).address == ADDRESS


async def test_an_address_is_reached_when_a_rule_is_that_address(cell: Cell) -> None:
    port = cell.far.tls_port
    async with cell.door(f"{ADDRESS}:{port}", allow_private=()):
        code, said = await cell.curl(f"https://{ADDRESS}:{port}/by-address")
        assert (code, answer(said)["path"]) == (0, "/by-address"), said
        _, said = await cell.curl(f"https://127.0.0.3:{port}/")
        assert "403 blocked by policy: 127.0.0.3" in said
    assert len(cell.far.asked) == 1


async def test_a_host_that_a_resolver_would_read_as_an_address_is_no_host(cell: Cell) -> None:
    odd = ("2130706434", "0x7f000002", "127.2", "127.0.0.2%25lo", "a..b", "-a.test", "")
    ask = (
        "import socket, sys\n"
        "for host in sys.argv[1:]:\n"
        "    s = socket.create_connection(('127.0.0.1', 3128))\n"
        "    s.sendall(f'CONNECT {host}:443 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'.encode())\n"
        "    print(s.recv(4096).decode().splitlines()[0])\n"
    )
    async with cell.door("*.example.test", "127.0.0.2:443"):
        code, said = await cell.run("python3", "-c", ask, *odd)
    assert (code, said.splitlines()) == (0, ["HTTP/1.1 400 CONNECT needs host:port"] * len(odd))
    assert cell.looked_up == []


async def test_more_connections_than_the_log_can_remember_are_slowed_down(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.egress.door.BURST", 5)
    async with cell.door("allowed.test") as door:
        delays = [door._delay() for _ in range(20)]
    assert delays[:4] == [0.0] * 4
    assert delays[-1] > 0.2
    assert delays == sorted(delays)


async def test_without_the_proxy_there_is_no_way_out(cell: Cell) -> None:
    async with cell.door("allowed.test"):
        # Its loopback is its own.
        code, said = await cell.curl(f"http://{ADDRESS}:{cell.far.http_port}/", "--noproxy", "*")
        assert (code, "Failed to connect" in said) == (7, True)
        assert (await cell.curl("http://1.1.1.1/", "--noproxy", "*"))[0] == 7
        code, said = await cell.curl("http://allowed.test/", "--noproxy", "*")
        assert (code, "Could not resolve host" in said) == (6, True)
        _, said = await cell.run("cat", "/proc/net/dev")
        assert [line.split(":")[0].strip() for line in said.splitlines()[2:]] == ["lo"]


async def test_a_plain_request_is_written_anew_and_its_body_arrives_whole(cell: Cell) -> None:
    port = cell.far.http_port
    make = "head -c 3000000 /dev/urandom >/big; sha256sum /big"
    expected = (await cell.run("sh", "-c", make))[1].split()[0]
    url = f"http://allowed.test:{port}/up"
    async with cell.door(f"allowed.test:{port}"):
        for options in (("-T", "/big"), ("-T", "/big", "-H", "Transfer-Encoding: chunked"), ("-T", "/big", "-0")):
            code, said = await cell.curl(url, *options, "-H", "Proxy-Authorization: secret", "-H", "X-Mine: kept")
            assert (code, answer(said)["sha256"], answer(said)["bytes"]) == (0, expected, 3_000_000), said
            assert "x-mine" in answer(said)["headers"]
            assert "proxy-authorization" not in answer(said)["headers"]
        code, said = await cell.curl(url, "-I")
        assert (code, " 200 " in said.splitlines()[0]) == (0, True)
        code, said = await cell.run("curl", "-sS", "-o", "/got", f"http://allowed.test:{port}/much/5000000")
        assert (code, (await cell.run("wc", "-c", "/got"))[1].split()[0]) == (0, "5000000")


async def test_a_plain_request_for_two_hosts_at_once_is_blocked(cell: Cell) -> None:
    port = cell.far.http_port
    async with cell.door(f"allowed.test:{port}"):
        code, said = await cell.curl(f"http://allowed.test:{port}/", "-H", "Host: other.test")
        assert (code, " 403 " in said.splitlines()[0], "Host header 'other.test'" in said) == (0, True, True)
        raw = (
            "import socket; s = socket.create_connection(('127.0.0.1', 3128)); "
            f"s.sendall(b'GET http://allowed.test:{port}/ HTTP/1.1\\r\\nHost: allowed.test:{port}\\r\\n"
            "Content-Length: 5\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"
            "0\\r\\n\\r\\nGET /smuggled HTTP/1.1\\r\\n\\r\\n'); "
            "print(s.recv(4096).decode())"
        )
        await cell.run("python3", "-c", raw)
    assert f"GET allowed.test:{port} /smuggled" not in cell.far.asked


async def test_the_limit_of_bytes_ends_what_runs_and_what_would_begin(cell: Cell) -> None:
    port = cell.far.http_port
    async with cell.door(f"allowed.test:{port}", max_bytes=100_000):
        code, _ = await cell.run("curl", "-sS", "-o", "/got", f"http://allowed.test:{port}/much/5000000")
        assert code == 18
        assert (await cell.ended()).reason == "the limit of bytes is used up"
        _, said = await cell.curl(f"http://allowed.test:{port}/")
        assert "limit of 100000 bytes is used up" in said


async def test_a_sandbox_has_so_many_connections_and_no_more(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.egress.door.MAX_CONNECTIONS", 5)
    hog = (
        "import socket; held = [socket.create_connection(('127.0.0.1', 3128)) for _ in range(5)]; "
        "late = socket.create_connection(('127.0.0.1', 3128)); print(late.recv(4096).decode())"
    )
    async with cell.door("allowed.test"):
        code, said = await cell.run("python3", "-c", hog)
        assert (code, " 503 " in said.splitlines()[0]) == (0, True)
        # They are free again once they are let go of.
        async with asyncio.timeout(20):
            while "403 blocked" not in (await cell.curl("http://other.test/"))[1]:
                await asyncio.sleep(0.05)


async def test_nonsense_is_answered_and_does_no_harm(cell: Cell) -> None:
    shout = (
        "import os, socket\n"
        "lines = (b'CONNECT\\r\\n\\r\\n', b'GET / HTTP/1.1\\r\\n\\r\\n')\n"
        "for junk in (*lines, b'\\0' * 100, b'A' * 200000, os.urandom(5000)):\n"
        "    s = socket.create_connection(('127.0.0.1', 3128)); s.settimeout(10)\n"
        "    try:\n        s.sendall(junk); s.shutdown(1); s.recv(100)\n"
        "    except OSError: pass\n"
    )
    port = cell.far.http_port
    async with cell.door(f"allowed.test:{port}"):
        assert (await cell.run("python3", "-c", shout))[0] == 0
        assert (await cell.curl(f"http://allowed.test:{port}/after"))[0] == 0
    assert cell.far.asked == [f"GET allowed.test:{port} /after"]


async def test_closing_the_door_ends_connections_under_way(cell: Cell) -> None:
    port = cell.far.tls_port
    async with cell.door(f"allowed.test:{port}"):
        url = f"https://allowed.test:{port}/much/2000000000"
        held = asyncio.create_task(cell.run("curl", "-sS", "-o", "/dev/null", "--cacert", "/ca.pem", url))
        while not cell.decided:
            await asyncio.sleep(0.02)
    code, _ = await held
    assert code != 0
    assert (await cell.ended()).reason == "the sandbox's way out was closed"
    assert (await cell.curl(f"https://allowed.test:{port}/"))[0] == 7
