"""What a sandbox and a host can say to each other through the proxy, byte by byte; no container is needed."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import pytest

from activities.adapters import egress_wire as wire
from activities.egress import tunnel
from activities.egress.authority import Authority
from activities.egress.door import Door
from activities.egress.journal import EgressLog
from activities.egress.opened import Streams
from activities.egress.policy import Policy
from activities.egress.traffic import Flow, Meter
from activities.egress.vault import Vault
from activities.ports.egress import EgressEvent, Tenant
from activities.ports.secrets import Grant
from hibernaut.models import Network, SecretSpec
from hibernaut.models.secrets import placeholder
from workers.egress.serve import Doorkeeper

VALUE = "dXNlcjpw+Xc5MTIzNDU="
TENANT = Tenant("agent", "uid", 1, "sandbox")
LOW = "low-value-91234"
"""May be the name of a host."""
MARK, LOW_MARK = placeholder(TENANT.agent_uid, "KEY"), placeholder(TENANT.agent_uid, "LOW")
Answer = Callable[[bytes], bytes | None]
"""What a host says to what it was sent; None: nothing, for ever."""


@dataclass
class Far:
    """A sandbox's way out, and the host it leads to."""

    door: Door
    at: socket.socket
    host: str
    heard: list[bytes]
    events: list[EgressEvent]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As a program in the sandbox would."""
        return await asyncio.open_connection(*self.at.getsockname())

    async def ask(self, head: str, body: str = "") -> bytes:
        """The whole answer to one request."""
        reader, writer = await self.connect()
        writer.write(f"{head.format(host=self.host)}\r\n\r\n{body}".encode())
        async with asyncio.timeout(60):
            said = await reader.read()
        writer.close()
        return said


@asynccontextmanager
async def far(answer: Answer, *, secret: bool = True) -> AsyncGenerator[Far]:
    """Run a host that answers so, and a door to it."""
    heard: list[bytes] = []
    events: list[EgressEvent] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = b""
        while b"\r\n\r\n" not in said and (piece := await reader.read(65_536)):
            said += piece
        heard.append(said)
        told = answer(said)
        if told is None:
            await reader.read()
        writer.write(told or b"")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    spec = SecretSpec(hosts=(f"http://{host}",))
    grants = [Grant("KEY", MARK, VALUE, spec), Grant("LOW", LOW_MARK, LOW, spec)]
    vault = Vault(grants, Authority(), ssl.create_default_context()) if secret else None
    policy = Policy(Network(mode="allowlist", allow=(host,)), [ip_network("127.0.0.0/8")])
    door = Door(TENANT, policy, events.append, vault=vault)
    listener = socket.create_server(("127.0.0.1", 0))
    await door.open(listener)
    try:
        yield Far(door, listener, host, heard, events)
    finally:
        await door.close()
        server.close()


def answers(head: str, body: bytes = b"") -> Answer:
    """The same to whatever is asked."""
    return lambda _: f"HTTP/1.1 {head}\r\n\r\n".encode() + body


OK = answers("200 OK\r\nContent-Length: 0")


@pytest.mark.parametrize("secret", [True, False])
async def test_a_request_with_two_lengths_is_sent_on_with_one(*, secret: bool) -> None:
    async with far(OK, secret=secret) as way:
        both = "Content-Length: 4\r\nTransfer-Encoding: chunked"
        await way.ask(f"POST http://{{host}}/ HTTP/1.1\r\nHost: {{host}}\r\n{both}", "5\r\nabcde\r\n0\r\n\r\n")
        (heard,) = way.heard
    assert b"transfer-encoding: chunked" in heard.lower()
    assert b"content-length" not in heard.lower()


async def test_a_pair_in_base64_may_be_the_secret_itself() -> None:
    async with far(OK) as way:
        await way.ask(f"GET http://{{host}}/ HTTP/1.1\r\nHost: {{host}}\r\nAuthorization: Basic {MARK}")
        (heard,) = way.heard
    assert f"authorization: basic {VALUE}".lower() in heard.decode().lower()
    assert VALUE.encode() in heard


@pytest.mark.parametrize(
    "head",
    [
        "Content-Encoding: gzip\r\nConnection: close, content-encoding",
        "Content-Encoding: gzip\r\nConnection: Content-Encoding\r\nConnection: content-length",
    ],
)
async def test_an_answer_is_unpacked_although_its_head_calls_the_packing_its_neighbours_affair(head: str) -> None:
    async with far(answers(f"200 OK\r\n{head}", gzip.compress(VALUE.encode()))) as way:
        said = await way.ask("GET http://{host}/ HTTP/1.1\r\nHost: {host}")
    assert MARK.encode() in said


@pytest.mark.parametrize("second", ["identity", "gzip", ""])
async def test_an_answer_that_was_packed_twice_is_refused(second: str) -> None:
    packed = answers(f"200 OK\r\nContent-Encoding: br\r\nContent-Encoding: {second}", b"not looked at")
    async with far(packed) as way:
        said = await way.ask("GET http://{host}/ HTTP/1.1\r\nHost: {host}")
    assert said.startswith(b"HTTP/1.1 502")
    assert b"not looked at" not in said


async def test_a_packed_answer_that_lacks_its_end_does_not_pass_for_whole() -> None:
    packed = gzip.compress(b"much of it " * 1_000)[:-20]
    async with far(answers(f"200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}", packed)) as way:
        said = await way.ask("GET http://{host}/ HTTP/1.1\r\nHost: {host}")
    assert b"much of it" in said
    assert not said.endswith(b"0\r\n\r\n")
    assert "ends before" in way.events[-1].reason


async def test_an_answer_is_asked_for_whole_and_in_plain_letters() -> None:
    left = ["Range", "If-Range", "Request-Range", "X-MS-Range", "Accept-Charset", "A-IM", "Accept-Encoding", "TE"]
    async with far(OK) as way:
        lines = "\r\n".join(f"{name}: not-passed-on" for name in left)
        await way.ask(f"GET http://{{host}}/ HTTP/1.1\r\nHost: {{host}}\r\n{lines}")
        (heard,) = way.heard
    assert b"not-passed-on" not in heard
    assert b"accept-encoding: identity" in heard.lower()


@pytest.mark.parametrize("secret", [True, False])
async def test_a_client_that_hung_up_frees_its_connection_though_the_host_never_answers(*, secret: bool) -> None:
    asked = asyncio.Event()

    def silent(_: bytes) -> None:
        asked.set()

    async with far(silent, secret=secret) as way:
        _, writer = await way.connect()
        writer.write(f"GET http://{way.host}/ HTTP/1.1\r\nHost: {way.host}\r\n\r\n".encode())
        await asyncio.wait_for(asked.wait(), 60)
        writer.close()
        async with asyncio.timeout(60):
            while not way.events or way.events[-1].kind != "ended":
                await asyncio.sleep(0.01)
        # By itself, not because the door was closed.
        assert way.events[-1].reason != "the sandbox's way out was closed"


@pytest.mark.parametrize("target", ["http://{host}/", "http://other.test/"])
async def test_a_refusal_of_a_head_request_is_no_mistake(target: str, caplog: pytest.LogCaptureFixture) -> None:
    async with far(answers("200 OK")) as way:
        said = await way.ask(f"HEAD {target} HTTP/1.1\r\nHost: other.test")
    assert said.startswith(b"HTTP/1.1 403 blocked by policy: ")
    assert said.endswith(b"\r\n\r\n")
    assert not caplog.records


async def test_what_is_told_of_a_sandbox_has_no_value_though_it_asks_for_a_host_of_that_name() -> None:
    async with far(OK) as way:
        begun = time.monotonic()
        await way.ask(f"GET http://{{host}}/ HTTP/1.1\r\nHost: {VALUE}")
        await way.ask(f"CONNECT {LOW}.test:443 HTTP/1.1\r\nHost: {LOW}.test:443")
        told = [*way.door.blocked(begun), *(f"{event.host} {event.reason}" for event in way.events)]
        told.append(way.door.ledger.since("").model_dump_json())
    assert len(way.events) == 2
    assert VALUE not in str(told)
    assert LOW not in str(told)
    assert f"{LOW_MARK}.test" in str(told)


async def test_a_tunnel_whose_client_is_gone_ends_though_the_host_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "LEFT_S", 0.1)
    ends = [await _pair() for _ in range(2)]
    (client, inner), (outer, server) = ends
    pumping = asyncio.create_task(tunnel.pump(inner, outer, Flow(Meter(None))))
    client[1].write(b"asked")
    assert await server[0].readexactly(5) == b"asked"
    server[1].write(b"said")
    assert await client[0].readexactly(4) == b"said"
    client[1].write_eof()
    assert await server[0].read() == b""
    await asyncio.wait_for(pumping, 60)
    for pair in ends:
        for _, writer in pair:
            writer.close()


async def _pair() -> tuple[Streams, Streams]:
    one, other = socket.socketpair()
    return await asyncio.open_connection(sock=one), await asyncio.open_connection(sock=other)


async def test_a_door_is_not_opened_without_the_secrets_it_is_to_have(tmp_path: Path) -> None:
    keeper = Doorkeeper(EgressLog(tmp_path), "release", ())
    control, name = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), tmp_path / wire.CONTROL
    control.bind(str(name))
    control.listen()
    serving = asyncio.create_task(keeper.run(control))
    grant = Grant("KEY", MARK, VALUE, SecretSpec(hosts=("a.example",)))
    network = Network(mode="allowlist", allow=("a.example",))
    opening = wire.Request(op="open", tenant=TENANT, network=network, started_at="now", secrets=(grant,))
    with socket.create_server(("127.0.0.1", 0)) as listener, (tmp_path / "process").open("w") as process:
        held = (listener.fileno(), process.fileno())
        # The proxy that was asked for an authority has died meanwhile, and this is another one.
        reply = await asyncio.to_thread(wire.ask, tmp_path, opening, held)
        listed = await asyncio.to_thread(wire.ask, tmp_path, wire.Request(op="list"))
    assert "authority" in reply.error
    assert listed.doors == {}
    keeper.ended.set()
    await serving
