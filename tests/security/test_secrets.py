"""Secrets: what the sandbox has, what the hosts get, and where a value is not to be found; with the real proxy."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import tarfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from activities.adapters.secret_values import SecretValues
from activities.egress.forms import forms
from activities.errors import SandboxRefused
from hibernaut.models.secrets import placeholder
from tests.support.egress_host import EgressHost, Guest, egress_host
from tests.support.far_hosts import ADDRESS, FarHosts, far_hosts
from tests.support.hosts import until
from tests.support.inside_tls import INSIDE_TLS

pytestmark = pytest.mark.slow

VALUE = 'k3y"/+=\\ v&lue-x7Qz'
OTHER = "another-value-1234"


def shows(data: bytes, values: Iterable[str] = (VALUE, OTHER)) -> set[bytes]:
    """The forms of values that are somewhere in some data."""
    return {form for value in values for form in forms(value) if form in data}


@pytest.fixture(scope="module")
async def far() -> AsyncIterator[FarHosts]:
    async with far_hosts() as hosts:
        yield hosts


@pytest.fixture(scope="module")
async def elsewhere() -> AsyncIterator[FarHosts]:
    async with far_hosts() as hosts:
        yield hosts


@pytest.fixture(scope="module")
async def host(tmp_path_factory: pytest.TempPathFactory, far: FarHosts) -> AsyncIterator[EgressHost]:
    ca = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.write_text(far.ca)
    values = {"HIBERNAUT_SECRET_API_KEY": VALUE, "HIBERNAUT_SECRET_OTHER_KEY": OTHER}
    home = tmp_path_factory.mktemp("home")
    env = {"HIBERNAUT_EGRESS_CA_FILE": str(ca)}
    async with egress_host(home, env=env, secrets=SecretValues(environ=values)) as made:
        yield made


@pytest.fixture
async def guest(host: EgressHost, far: FarHosts, elsewhere: FarHosts) -> AsyncIterator[Guest]:
    hosts = [far.tls_port, far.http_port, elsewhere.tls_port, elsewhere.http_port]
    secret = {"hosts": [f"{ADDRESS}:{far.tls_port}", f"http://{ADDRESS}:{far.http_port}"]}
    made = Guest(host, *(f"{ADDRESS}:{port}" for port in hosts), secrets={"API_KEY": secret, "OTHER_KEY": secret})
    far.heard.clear()
    elsewhere.heard.clear()
    yield await made.wake()
    await made.sleep()


def at(hosts: FarHosts, shape: str = "all") -> str:
    return f"https://{ADDRESS}:{hosts.tls_port}/echo/{shape}"


async def test_a_program_has_a_placeholder_and_the_host_gets_the_value(guest: Guest, far: FarHosts) -> None:
    mark = placeholder(guest.uid, "API_KEY")
    assert (await guest.run('printf %s "$API_KEY"'))[1] == mark
    end, said = await guest.run(
        f'curl -sS -H "Authorization: Bearer $API_KEY" -H "X-Key: $API_KEY/$OTHER_KEY" "{at(far)}?key=$API_KEY&b=1"; '
        f"curl -sS -u user:$API_KEY {at(far)} >/dev/null"
    )
    assert end.exit_code == 0, said
    first, second = far.heard
    assert first.headers["authorization"] == f"Bearer {VALUE}"
    assert first.headers["x-key"] == f"{VALUE}/{OTHER}"
    assert first.query == "key=k3y%22%2F%2B%3D%5C%20v%26lue-x7Qz&b=1"
    assert base64.b64decode(second.headers["authorization"].split()[1]).decode() == f"user:{VALUE}"
    # All of it was told back.
    assert not shows(said.encode())
    told = json.loads(said)
    assert (told["authorization"], told["query"]) == (f"Bearer {mark}", f"key={mark}&b=1")
    assert told["x-key"] == f"{mark}/{placeholder(guest.uid, 'OTHER_KEY')}"


async def test_variables_that_a_parent_has_left_do_not_take_the_place_of_a_forks_own(guest: Guest) -> None:
    parents = "s/hbn-secret-API_KEY-[0-9a-f]*/hbn-secret-API_KEY-parent/"
    await guest.run("export MINE=kept OTHER_KEY=chosen")
    _, said = await guest.run(f'sed -i "{parents}" /var/lib/hibernaut/env; grep -c KEY-parent /var/lib/hibernaut/env')
    assert said == "1\n"
    _, said = await guest.run('printf "%s " "$API_KEY" "$MINE" "$OTHER_KEY"')
    assert said == f"{placeholder(guest.uid, 'API_KEY')} kept chosen "


async def test_bodies_are_written_as_their_type_wants_it(guest: Guest, far: FarHosts) -> None:
    await guest.run(
        f"curl -sS --json '{{\"key\": \"'$API_KEY'\"}}' {at(far)} >/dev/null; "
        f'curl -sS -d "key=$API_KEY&b=1" {at(far)} >/dev/null; '
        f'printf "%s" "<$API_KEY>" | curl -sS -H "Content-Type: text/plain" -T - {at(far)} >/dev/null; '
        f'{{ head -c 300000 /dev/zero; printf "%s" "$API_KEY"; head -c 300000 /dev/zero; }} >/big; '
        f'curl -sS -H "Content-Type: application/octet-stream" --data-binary @/big {at(far)} >/dev/null'
    )
    json_body, form, chunked, big = (heard.body for heard in far.heard)
    assert json.loads(json_body) == {"key": VALUE}
    assert form == b"key=k3y%22%2F%2B%3D%5C%20v%26lue-x7Qz&b=1"
    assert chunked == f"<{VALUE}>".encode()
    assert big == b"\0" * 300_000 + VALUE.encode() + b"\0" * 300_000
    assert far.heard[0].headers["content-length"] == str(len(json_body))


async def test_other_programs_trust_the_proxy_too_and_other_hosts_as_before(guest: Guest, far: FarHosts) -> None:
    fetch = (
        "import os, urllib.request as u; "
        f"q = u.Request('{at(far, 'raw')}', headers={{'X-Key': os.environ['API_KEY']}}); print(u.urlopen(q).read())"
    )
    end, said = await guest.run(
        f'python3 -c "{fetch}"; git ls-remote https://{ADDRESS}:{far.tls_port}/none 2>&1 | tail -1'
    )
    assert far.heard[0].headers["x-key"] == VALUE, (end, said)
    assert placeholder(guest.uid, "API_KEY") in said
    # It came so far as to be told that this is no repository.
    assert "certificate" not in said
    _, bundle = await guest.run("grep -c 'BEGIN CERTIFICATE' $SSL_CERT_FILE; ls -l $SSL_CERT_FILE $NODE_EXTRA_CA_CERTS")
    assert int(bundle.split()[0]) > 100
    assert bundle.count("-rw-r--r-- 1 root root") == 2


async def test_toward_a_host_that_it_is_not_for_a_placeholder_passes_as_it_is(
    guest: Guest, far: FarHosts, elsewhere: FarHosts
) -> None:
    mark = placeholder(guest.uid, "API_KEY")
    key = '-H "X-Key: $API_KEY"'
    _, said = await guest.run(
        f"curl -sS {key} http://{ADDRESS}:{elsewhere.http_port}/echo/raw; curl -sSk {key} {at(elsewhere, 'raw')}; "
        f"curl -sS {key} {at(elsewhere, 'raw')} 2>&1; curl -sS {key} http://{ADDRESS}:{far.http_port}/echo/raw"
    )
    # Its tunnel was not opened: the certificate is its own, which nothing in the sandbox trusts.
    assert "SSL certificate problem" in said
    assert [heard.headers["x-key"] for heard in elsewhere.heard] == [mark] * 2
    assert [heard.headers["x-key"] for heard in far.heard] == [VALUE]
    assert said.count(mark) == 3
    assert not shows(said.encode())


@pytest.mark.parametrize("shape", ["raw", "pieces", "header", "base64", "urlsafe", "hex", "percent", "json", "gzip"])
async def test_an_answer_that_carries_the_value_back_has_it_taken_out(guest: Guest, far: FarHosts, shape: str) -> None:
    end, said = await guest.run(f'curl -sSi -H "X-Key: $API_KEY" -r 0-3 --compressed {at(far, shape)}')
    assert (end.exit_code, far.heard[0].headers["x-key"]) == (0, VALUE)
    assert far.heard[0].headers["accept-encoding"] == "identity"
    # A part of an answer may hold a part of a value.
    assert "range" not in far.heard[0].headers
    assert placeholder(guest.uid, "API_KEY") in said
    assert not shows(said.encode())


async def test_what_cannot_be_looked_at_is_refused_and_says_why(guest: Guest, far: FarHosts) -> None:
    target = f"{ADDRESS}:{far.tls_port}"
    upgrade = f"GET / HTTP/1.1\\r\\nHost: {target}\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n"
    fronted = "GET /echo/raw HTTP/1.1\\r\\nHost: other.test\\r\\n\\r\\n"
    await guest.host.boxes.put_file(guest.sandbox_id, "/talk.py", 0o644, _bytes(INSIDE_TLS))
    _, said = await guest.run(f"python3 /talk.py {target} '{upgrade}'; python3 /talk.py {target} '{fronted}'")
    assert "403 blocked by policy: 127.0.0.2 (secrets are for it, and an upgraded connection" in said
    assert "403 blocked by policy: other.test (named as the Host" in said
    end, said = await guest.run(f"curl -sSi {at(far, 'br')}")
    assert "502 127.0.0.2: the host answers in the encoding 'br'" in said, end
    assert [heard.headers["host"] for heard in far.heard] == [target]


async def test_a_host_that_speaks_no_http_is_not_repeated(guest: Guest, far: FarHosts) -> None:
    del far

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = next(line for line in head.split(b"\r\n") if line.startswith(b"x-key: "))[7:]
        writer.write(b"HTTP/1.1 200 OK\r\n" + key + b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(nonsense, ADDRESS, 0)
    name = f"{ADDRESS}:{server.sockets[0].getsockname()[1]}"
    other = await Guest(guest.host, name, secrets={"API_KEY": {"hosts": [f"http://{name}"]}}).wake()
    async with server:
        _, said = await other.run(f'curl -sSi -H "X-Key: $API_KEY" http://{name}/')
    assert "502 127.0.0.2: a side broke off: what it says is no HTTP/1.1" in said
    assert not shows(said.encode())
    assert not shows(json.dumps(guest.host.lines).encode())
    await other.sleep()


async def test_no_value_is_sent_to_a_host_that_cannot_be_verified(host: EgressHost, elsewhere: FarHosts) -> None:
    name = f"{ADDRESS}:{elsewhere.tls_port}"
    guest = await Guest(host, name, secrets={"API_KEY": {"hosts": [name]}}).wake()
    elsewhere.heard.clear()
    _, said = await guest.run(f'curl -sSi -H "X-Key: $API_KEY" {at(elsewhere, "raw")}')
    assert "the host cannot be verified by TLS, so that no secret is sent to it" in said
    assert elsewhere.heard == []
    assert (host.lines[-1]["allowed"], host.lines[-1]["secrets"]) == (False, [])
    await guest.sleep()


async def test_the_log_names_the_secrets_that_were_used(guest: Guest, far: FarHosts, host: EgressHost) -> None:
    begun = len(host.lines)
    await guest.run(f'curl -sS -H "X-Key: $API_KEY" {at(far, "raw")}; curl -sS {at(far, "raw")}')
    await until(lambda: [line["kind"] for line in host.lines[begun:]].count("ended") == 2, "the log")
    used = sorted((line["kind"], line["secrets"]) for line in host.lines[begun:])
    assert used == [("decided", []), ("decided", ["API_KEY"]), ("ended", []), ("ended", ["API_KEY"])]


async def test_a_proxy_that_died_and_a_container_that_was_restarted_have_it_all_again(
    guest: Guest, far: FarHosts, host: EgressHost
) -> None:
    ask = f'curl -sS -H "X-Key: $API_KEY" {at(far, "raw")}'
    host.kill()
    host.restart_worker()
    await asyncio.to_thread(host.desk.reconcile)
    _, said = await guest.run(ask)
    assert said == placeholder(guest.uid, "API_KEY")
    host.daemon.api.restart(guest.sandbox_id, timeout=0)
    await asyncio.to_thread(host.desk.reconcile)
    _, said = await guest.run(ask)
    assert said == placeholder(guest.uid, "API_KEY")
    await guest.wake(2)
    assert (await guest.run(ask))[1] == placeholder(guest.uid, "API_KEY")
    assert [heard.headers["x-key"] for heard in far.heard] == [VALUE] * 3


async def test_output_that_has_a_value_is_redacted_before_anybody_gets_it(guest: Guest, far: FarHosts) -> None:
    # The one thing that no scrubbing can know: a host that says it in other words.
    end, said = await guest.run(
        f'curl -sS -H "X-Key: $OTHER_KEY" {at(far, "reversed")} | rev >/found; cat /found; '
        "echo; head -c 9 /found; sleep 0.3; tail -c +10 /found; echo; base64 /found; "
        "od -An -v -tx1 /found | tr -d ' \\n' >&2"
    )
    assert "[secret OTHER_KEY]" in said
    assert not shows(said.encode())
    assert said.count("[secret OTHER_KEY]") == 4
    assert end.stdout_bytes + end.stderr_bytes == len(said)


async def test_a_value_that_was_changed_while_no_worker_ran_is_still_redacted(far: FarHosts, tmp_path: Path) -> None:
    values, name = {"HIBERNAUT_SECRET_API_KEY": OTHER}, f"{ADDRESS}:{far.http_port}"
    async with egress_host(tmp_path, secrets=SecretValues(environ=values)) as one:
        guest = await Guest(one, name, secrets={"API_KEY": {"hosts": [f"http://{name}"]}}).wake()
        values["HIBERNAUT_SECRET_API_KEY"] = VALUE
        one.restart_worker()
        _, said = await guest.run(f'curl -sS -H "X-Key: $API_KEY" http://{name}/echo/reversed | rev')
    # The proxy outlives the worker, and has the value that it was given.
    assert (far.heard[-1].headers["x-key"], said) == (OTHER, "[secret API_KEY]")


async def test_a_value_is_nowhere_but_with_the_worker_and_in_the_proxys_memory(
    guest: Guest, far: FarHosts, host: EgressHost
) -> None:
    await guest.run(f'curl -sSi -H "X-Key: $API_KEY" -u a:$OTHER_KEY -o /kept {at(far)}; env >/env; true')
    api: Any = host.daemon.api
    assert not shows(json.dumps(api.inspect_container(guest.sandbox_id)).encode())
    archive = io.BytesIO(b"".join(api.export(guest.sandbox_id)))
    files = 0
    with tarfile.open(fileobj=archive) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None and member.mtime > 1_700_000_000:
                files += 1
                assert not shows(content.read()), member.name
    assert files > 3
    _, said = await guest.run("cat /proc/*/environ /proc/*/cmdline 2>/dev/null; cat /run/hibernaut/trust/*; cat /kept")
    assert not shows(said.encode())
    for path in host.settings.home.rglob("*"):
        if path.is_file():
            assert not shows(path.read_bytes()), path
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                told = (process / name).read_bytes()
            except OSError:
                continue
            assert not shows(told), process
    proxy = Path(f"/proc/{host.pid}")
    # Not dumpable: what is the process's own belongs to root, whoever it runs as.
    assert (proxy / "environ").stat().st_uid == 0
    limits = (proxy / "limits").read_text().splitlines()
    assert next(line for line in limits if "core file" in line).split()[4:6] == ["0", "0"]


async def test_without_a_value_nothing_starts(host: EgressHost, far: FarHosts) -> None:
    name = f"{ADDRESS}:{far.tls_port}"
    with pytest.raises(SandboxRefused, match="the secret MISSING has no value on this host: set HIBERNAUT_SECRET_MISS"):
        await Guest(host, name, secrets={"MISSING": {"hosts": [name]}}).wake()
    assert await host.boxes.owned() == []


async def _bytes(text: str) -> AsyncIterator[bytes]:
    yield text.encode()
