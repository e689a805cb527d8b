"""The codec server, which opens and seals for people what Temporal keeps."""

from typing import Any

import httpx2
import pytest
from google.protobuf.json_format import MessageToDict, Parse
from temporalio.api.common.v1 import Payload, Payloads

from hibernaut._keyring import NamedKey, line
from hibernaut.codec import VARIABLE, PayloadKeys, SealingCodec, key_id
from hibernaut.errors import InvalidSettings
from workers.codec.app import MAX_BODY_BYTES, CodecServer
from workers.codec.settings import CodecSettings

ONE, TWO = NamedKey("one", bytes(range(32))), NamedKey("two", bytes(range(32, 64)))
OLD, NEW = PayloadKeys([ONE]), PayloadKeys([TWO, ONE])
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"a telling word"')


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
