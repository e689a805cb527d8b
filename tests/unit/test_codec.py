"""Sealing what Temporal keeps, and the server that opens it for people."""

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.json_format import MessageToDict, Parse
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError

from hibernaut._failures import message_of
from hibernaut._keyring import NamedKey, line
from hibernaut.codec import (
    ENCODING,
    FILE_VARIABLE,
    SEAL_VARIABLE,
    VARIABLE,
    PayloadDamaged,
    PayloadKeys,
    PayloadSealed,
    SealingCodec,
    data_converter,
    key_id,
    payload_keys,
)
from hibernaut.connection import resolve
from hibernaut.errors import InvalidSettings
from workers.codec.__main__ import main
from workers.codec.app import MAX_BODY_BYTES, CodecServer
from workers.codec.settings import CodecSettings
from workers.devstack.settings import gateway_environment, server_environment, worker_environment
from workers.settings import CHECKOUT, Settings

ONE, TWO = NamedKey("one", bytes(range(32))), NamedKey("two", bytes(range(32, 64)))
OLD, NEW = PayloadKeys([ONE]), PayloadKeys([TWO, ONE])
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"a telling word"')


async def test_a_payload_is_sealed_and_opened() -> None:
    codec = SealingCodec(OLD, "acme")
    (sealed,) = await codec.encode([PLAIN])
    assert sealed.metadata == {"encoding": ENCODING, "encryption-key-id": key_id(ONE.secret).encode()}
    assert b"telling" not in sealed.SerializeToString()
    assert b"json/plain" not in sealed.SerializeToString()
    assert await codec.decode([sealed]) == [PLAIN]
    (again,) = await codec.encode([PLAIN])
    assert again.data[:12] != sealed.data[:12]


async def test_what_is_not_sealed_is_read() -> None:
    assert await SealingCodec(OLD, "acme").decode([PLAIN]) == [PLAIN]


async def test_the_first_key_seals_and_every_key_opens() -> None:
    old, new = SealingCodec(OLD, "acme"), SealingCodec(NEW, "acme")
    assert await new.decode(await old.encode([PLAIN])) == [PLAIN]
    sealed = await new.encode([PLAIN])
    with pytest.raises(PayloadSealed) as caught:
        await old.decode(sealed)
    assert key_id(TWO.secret) in caught.value.message
    assert FILE_VARIABLE in caught.value.hint


async def test_a_payload_opens_in_no_other_namespace() -> None:
    (sealed,) = await SealingCodec(OLD, "acme").encode([PLAIN])
    with pytest.raises(PayloadDamaged, match="belongs to another namespace"):
        await SealingCodec(OLD, "rival").decode([sealed])


@pytest.mark.parametrize("place", [0, 12, -1])
async def test_a_changed_payload_does_not_open(place: int) -> None:
    codec = SealingCodec(OLD, "acme")
    (sealed,) = await codec.encode([PLAIN])
    data = bytearray(sealed.data)
    data[place] ^= 1
    changed = Payload(metadata=sealed.metadata, data=bytes(data))
    for wrong in (changed, Payload(metadata=sealed.metadata, data=b"short")):
        with pytest.raises(PayloadDamaged):
            await codec.decode([wrong])


async def test_what_was_sealed_and_is_no_payload_does_not_open() -> None:
    """As another language's worker may do it that seals the content alone."""
    key = key_id(ONE.secret)
    bound = b"\n".join((b"hibernaut-payload/1", key.encode(), b"acme"))
    data = bytes(12) + AESGCM(ONE.secret).encrypt(bytes(12), b'"a telling word"', bound)
    sealed = Payload(metadata={"encoding": ENCODING, "encryption-key-id": key.encode()}, data=data)
    with pytest.raises(PayloadDamaged):
        await SealingCodec(OLD, "acme").decode([sealed])


@pytest.mark.parametrize("said", [b"[]", b'{"message": 1}', b"\xff", b"null"])
async def test_a_strangers_failure_that_cannot_be_read_is_still_told_of(said: bytes) -> None:
    for encoding in (b"json/plain", b"binary/null", b"strange"):
        failure = Failure(encoded_attributes=Payload(metadata={"encoding": encoding}, data=said))
        assert await message_of(failure, data_converter(OLD, "acme")) == "its message cannot be read"
    nothing = Failure(encoded_attributes=Payload(metadata={"encoding": b"binary/null"}))
    assert await message_of(nothing, data_converter(OLD, "acme")) == ""


async def test_the_id_of_a_key_cannot_be_exchanged() -> None:
    """The same secret under another id: what says which key it was is authenticated too."""
    codec = SealingCodec(NEW, "acme")
    (sealed,) = await codec.encode([PLAIN])
    sealed.metadata["encryption-key-id"] = key_id(ONE.secret).encode()
    with pytest.raises(PayloadDamaged):
        await codec.decode([sealed])


async def test_failures_are_sealed() -> None:
    converter = data_converter(OLD, "acme")
    failure = Failure()
    try:
        raise ApplicationError("a telling word", {"detail": "a telling word"}) from ValueError("a telling word")
    except ApplicationError as error:
        await converter.encode_failure(error, failure)
    assert b"telling" not in failure.SerializeToString()
    assert await message_of(failure, converter) == "a telling word"
    assert key_id(ONE.secret) in await message_of(failure, data_converter(PayloadKeys(()), "acme"))
    assert "a telling word" in str(await converter.decode_failure(failure))


def test_keys_that_open_alone() -> None:
    ring = payload_keys({VARIABLE: line(*ONE), SEAL_VARIABLE: "off"})
    assert ring.seal(PLAIN, "acme") is PLAIN
    assert ring.open(OLD.seal(PLAIN, "acme"), "acme") == PLAIN
    with pytest.raises(InvalidSettings, match="on or off"):
        payload_keys({VARIABLE: line(*ONE), SEAL_VARIABLE: "maybe"})


def test_settings_take_keys_and_show_none(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(line(*ONE))
    file.chmod(0o600)
    env = {FILE_VARIABLE: str(file), "HIBERNAUT_STORE": "file:///tmp/store"}
    settings = Settings.load(env)
    assert settings.connection.payload_keys.first == key_id(ONE.secret)
    assert base64.b64encode(ONE.secret).decode() not in repr(settings) + repr(NEW) + repr(ONE)
    assert resolve(environ=env, use_file=False).payload_keys.names == {key_id(ONE.secret): "one"}
    file.chmod(0o644)
    with pytest.raises(InvalidSettings, match="chmod 600"):
        Settings.load(env)


def test_the_sdk_needs_the_package_only_with_a_key() -> None:
    program = """
import os, sys
sys.modules["cryptography"] = None
import hibernaut, hibernaut.cli, hibernaut.codec, hibernaut.errors
hibernaut.codec.payload_keys({})
try:
    hibernaut.codec.payload_keys(os.environ)
except hibernaut.errors.InvalidSettings as error:
    print(error)
"""
    env = {"PATH": os.environ["PATH"], VARIABLE: line(*ONE)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, env=env, capture_output=True, text=True, check=False
    )
    assert "Install hibernaut[codec]." in done.stdout, done.stderr


def settings(**changed: str) -> CodecSettings:
    env = {VARIABLE: line(*ONE), "TEMPORAL_NAMESPACE": "acme", "HIBERNAUT_CODEC_TOKEN": "s3cret"}
    return CodecSettings.load({name: value for name, value in (env | changed).items() if value})


def client(served: CodecSettings, **headers: str) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(CodecServer(served).app())
    return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8485", headers=headers)


def body(*payloads: Payload) -> dict[str, Any]:
    return MessageToDict(Payloads(payloads=payloads))


ALLOWED = {"Authorization": "Bearer s3cret", "X-Namespace": "acme"}


async def test_the_server_opens_for_who_may() -> None:
    async with client(settings(), **ALLOWED) as http:
        answer = await http.post("/decode", json=body(OLD.seal(PLAIN, "acme"), PLAIN))
        assert answer.json() == body(PLAIN, PLAIN)
        assert answer.headers["cache-control"] == "no-store"
        assert (await http.post("/decode", json={})).json() == {}
        assert (await http.get("/healthz")).status_code == 200


async def test_the_server_seals_what_temporals_command_line_sends() -> None:
    async with client(settings(), **ALLOWED) as http:
        assert (await http.post("/encode", json={})).json() == {}
        answer = await http.post("/encode", json=body(PLAIN))
        assert "telling" not in answer.text
        sealed = Parse(answer.content, Payloads()).payloads
        assert await SealingCodec(OLD, "acme").decode(sealed) == [PLAIN]
        answer = await http.post("/encode", json=body(PLAIN), headers={"Authorization": ""})
        assert answer.status_code == 401
        answer = await http.post("/encode", json=body(PLAIN), headers={"X-Namespace": "rival"})
        assert answer.status_code == 422
    async with client(settings(HIBERNAUT_PAYLOAD_SEAL="off"), **ALLOWED) as http:
        assert (await http.post("/encode", json=body(PLAIN))).json() == body(PLAIN)


async def test_the_server_refuses() -> None:
    sealed = body(OLD.seal(PLAIN, "acme"))
    async with client(settings(), **ALLOWED) as http:
        for given in ("Bearer wrong", "s3cret", ""):
            answer = await http.post("/decode", json=sealed, headers={"Authorization": given})
            assert answer.status_code == 401
            assert "HIBERNAUT_CODEC_TOKEN" in answer.text
        for namespace in ("rival", ""):
            answer = await http.post("/decode", json=sealed, headers={"X-Namespace": namespace})
            assert answer.status_code == 422
            assert "X-Namespace" in answer.text
        for wrong in (
            b"",
            b"no json",
            b'{"payloads": 1}',
            b"\xff",
            b'{"payloads":' * 50_000,
            b'{"payloads":[{"data":"\\ud800"}]}',
        ):
            answer = await http.post("/decode", content=wrong)
            assert answer.status_code == 422, wrong[:20]
        answer = await http.post("/decode", content=b" " * (MAX_BODY_BYTES + 1))
        assert answer.status_code == 413
        answer = await http.post("/decode", json=body(NEW.seal(PLAIN, "acme")))
        assert answer.status_code == 422
        assert key_id(TWO.secret) in answer.text
        answer = await http.post("/decode", json=body(OLD.seal(PLAIN, "rival")))
        assert answer.status_code == 422
        assert "another namespace" in answer.text


async def test_pages_of_the_named_origins_alone_may_ask() -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-namespace"}
    ours, other = "http://127.0.0.1:8233", "https://evil.example"
    async with client(settings(HIBERNAUT_CODEC_ORIGINS=f"https://ui.acme.example, {ours}/"), **ALLOWED) as http:
        for origin, allowed in ((ours, ours), (other, None)):
            answer = await http.options("/decode", headers={"Origin": origin, **asks, "Authorization": ""})
            assert answer.headers.get("access-control-allow-origin") == allowed
            assert answer.status_code == (200 if allowed else 400)
            answer = await http.post("/decode", json=body(PLAIN), headers={"Origin": origin})
            assert answer.headers.get("access-control-allow-origin") == allowed


async def test_without_a_token_it_is_for_this_machine_alone() -> None:
    served = settings(HIBERNAUT_CODEC_TOKEN="")
    async with client(served, **{"X-Namespace": "acme"}) as http:
        sealed = body(OLD.seal(PLAIN, "acme"))
        assert (await http.post("/decode", json=sealed)).json() == body(PLAIN)
        for host, status in (("localhost:1", 200), ("[::1]:1", 200), ("rebound.example", 422), ("127.0.0.1.x:1", 422)):
            answer = await http.post("/decode", json=sealed, headers={"Host": host})
            assert answer.status_code == status, host
    with pytest.raises(InvalidSettings, match="no token"):
        settings(HIBERNAUT_CODEC_TOKEN="", HIBERNAUT_CODEC_LISTEN="0.0.0.0:8485")  # what is refused
    assert settings(HIBERNAUT_CODEC_LISTEN="0.0.0.0:8485").token is not None  # the same


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({VARIABLE: ""}, "no keys"),
        ({"HIBERNAUT_CODEC_LISTEN": "nowhere"}, "HIBERNAUT_CODEC_LISTEN must be host:port"),
        ({"HIBERNAUT_CODEC_ORIGINS": "*"}, "no origin"),
        ({"HIBERNAUT_CODEC_ORIGINS": "http://a/b"}, "no origin"),
    ],
)
def test_settings_that_cannot_be_used(changed: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        settings(**changed)


def test_the_command_makes_keys_and_lists_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["workers.codec", *arguments])
        code, said = main(), capsys.readouterr()
        return code, said.out, said.err

    monkeypatch.delenv(VARIABLE, raising=False)
    code, made, _ = command("new", "2026-11")
    assert code == 0
    assert "names no keys" in command("list")[2]
    assert command("new", "a b")[0] == 1
    assert "no keys" in command()[2]
    monkeypatch.setenv(VARIABLE, f"{made.strip()},{line(*ONE)}")
    code, listed, _ = command("list")
    first, second = listed.splitlines()
    assert (code, first.partition("  ")[2]) == (0, "seals  2026-11")
    assert second == f"{key_id(ONE.secret)}  opens  one"
    assert made.split(": ")[1].strip() not in listed
    monkeypatch.setenv("HIBERNAUT_STORE", "file:///tmp/store")
    assert "still seals" in command("retire", first.split()[0])[2]


def test_the_development_stack_gives_keys_to_those_who_open_alone() -> None:
    env = {VARIABLE: line(*ONE), "HIBERNAUT_OWNER": "acme"}
    assert server_environment(env) == {"HIBERNAUT_OWNER": "acme"}
    assert gateway_environment(env) == worker_environment(env) == env
