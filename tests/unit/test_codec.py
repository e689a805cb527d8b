"""Sealing what Temporal keeps."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
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
