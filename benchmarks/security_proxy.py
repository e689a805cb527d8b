"""What the egress proxy costs: latency of a new connection and throughput, beside a direct connection.

The client is the same program in two sandboxes: one has an allowlist and the proxy, the other Docker's bridge. Both
reach the same server, on the host's address on that bridge. They take turns.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from activities.adapters.docker_client import Daemon
from benchmarks.report import middle
from tests.support.egress_host import EgressHost, Guest
from tests.support.far_hosts import make_certificates

PIECE = bytes(1 << 20)
PROGRAM = """
import json, socket, ssl, sys, time
way, scheme, host, port, requests, size = sys.argv[1:4] + [int(one) for one in sys.argv[4:7]]
context = ssl._create_unverified_context()
def get(amount):
    begun = time.perf_counter()
    link = socket.create_connection(("127.0.0.1", 3128) if way == "proxy" else (host, port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    target = f"/{amount}"
    if scheme == "tls":
        if way == "proxy":
            link.sendall(f"CONNECT {host}:{port} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\n\\r\\n".encode())
            said = link.recv(4096)
            assert b" 200 " in said, said
        link = context.wrap_socket(link)
    elif way == "proxy":
        target = f"http://{host}:{port}{target}"
    link.sendall(f"GET {target} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\nConnection: close\\r\\n\\r\\n".encode())
    first, buffer = link.recv(65536), bytearray(1 << 20)
    assert first.startswith(b"HTTP/1.1 200"), first
    got = len(first)
    while count := link.recv_into(buffer):
        got += count
    assert got > amount, got
    return time.perf_counter() - begun
taken = []
for _ in range(requests):
    taken.append(get(1) * 1000)
    # Below the rate at which a sandbox's connections are slowed down.
    time.sleep(0.025)
print(json.dumps({"latency_ms": taken, "seconds": get(size)}))
"""


@asynccontextmanager
async def _servers(address: str, folder: Path) -> AsyncGenerator[dict[str, int]]:
    """A server that sends as many bytes as the path says, plain and with TLS; their ports."""
    make_certificates(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            left = int(head.split()[1].lstrip(b"/"))
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {left}\r\nConnection: close\r\n\r\n".encode())
            while left > 0:
                writer.write(PIECE[:left])
                left -= len(PIECE)
                await writer.drain()
        finally:
            writer.close()

    plain = await asyncio.start_server(answer, address, 0)
    tls = await asyncio.start_server(answer, address, 0, ssl=context)
    async with plain, tls:
        yield {"http": plain.sockets[0].getsockname()[1], "tls": tls.sockets[0].getsockname()[1]}


async def measure(rounds: int, requests: int, size: int) -> dict[str, dict[str, float]]:
    """By scheme: medians of both ways, what the proxy adds, and the ratio of throughputs."""
    daemon = Daemon()
    bridge: Any = await asyncio.to_thread(daemon.api.inspect_network, "bridge")
    subnet = str(bridge["IPAM"]["Config"][0]["Subnet"])
    latency: dict[tuple[str, str], list[float]] = {}
    speed: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="hb-") as name:
        folder = Path(name)
        host = EgressHost(folder / "home", daemon, {"HIBERNAUT_EGRESS_REACHABLE": subnet})
        try:
            direct = await Guest(host, network={"mode": "open"}).wake()
            details: Any = await asyncio.to_thread(daemon.api.inspect_container, direct.sandbox_id)
            address = str(details["NetworkSettings"]["Networks"]["bridge"]["Gateway"])
            async with _servers(address, folder) as ports:
                rules = [f"{address}:{port}" for port in ports.values()]
                guests = {"proxy": await Guest(host, *rules).wake(), "direct": direct}
                for turn in range(rounds):
                    for scheme, port in ports.items():
                        for way in list(guests) if turn % 2 else reversed(list(guests)):
                            asked = f"{way} {scheme} {address} {port} {requests} {size}"
                            end, said = await guests[way].run(f"python3 - {asked} <<'EOF'\n{PROGRAM}\nEOF")
                            if end.exit_code != 0:
                                raise RuntimeError(f"the client failed: {said[-500:]} {end.detail}")
                            told = json.loads(said)
                            latency.setdefault((scheme, way), []).extend(told["latency_ms"])
                            speed.setdefault((scheme, way), []).append(size / told["seconds"] / 1e6)
        finally:
            for box in await host.boxes.owned():
                await host.boxes.remove(box.sandbox_id)
            await host.end()
    found: dict[str, dict[str, float]] = {}
    for scheme in ("http", "tls"):
        direct, proxied = middle(latency[scheme, "direct"]), middle(latency[scheme, "proxy"])
        fast, slower = middle(speed[scheme, "direct"]), middle(speed[scheme, "proxy"])
        found[scheme] = {
            "direct_ms": direct,
            "proxy_ms": proxied,
            "added_ms": round(proxied - direct, 1),
            "direct_mb_s": fast,
            "proxy_mb_s": slower,
            "throughput_ratio": round(slower / fast, 2),
        }
    return found
