"""Setting up buckets: on a real S3 server, and the user's part against the wire of MinIO's admin API."""

from __future__ import annotations

import io
import json
import secrets
import threading
from datetime import timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from minio import Minio
from minio.commonconfig import ENABLED
from minio.crypto import decrypt, encrypt
from minio.versioningconfig import VersioningConfig
from urllib3 import HTTPResponse

from activities.adapters.stores import open_store
from activities.errors import ObjectExists
from deploy.minio.__main__ import main
from deploy.minio.buckets import Account, BucketSetupError, Wanted, policy_for, set_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.seaweed import S3Server

ROOT = Account("root-user", "root-password")
WORKER = Account("worker-user", "worker-password")


async def test_a_bucket_is_made_once_and_can_be_used(s3_server: S3Server) -> None:
    bucket = f"setup-{secrets.token_hex(4)}"
    admin = Account(s3_server.access_key, s3_server.secret_key)
    said: list[str] = []
    for _ in range(2):
        set_up(Wanted(s3_server.endpoint, bucket, worker=admin), admin, said.append)
    assert said == [f"bucket {bucket} made", f"bucket {bucket} is there"]
    store = open_store(f"s3://{bucket}/prefix", s3=s3_server.settings)
    await store.put("key", b"data", if_none_match=True)
    assert await store.get("key") == b"data"
    await store.close()


async def test_the_audit_log_has_a_bucket_whose_versions_stay(s3_server: S3Server) -> None:
    bucket = f"setup-{secrets.token_hex(4)}"
    admin = Account(s3_server.access_key, s3_server.secret_key)
    said: list[str] = []
    wanted = Wanted(s3_server.endpoint, bucket, worker=admin, audit_bucket=f"{bucket}-audit")
    for _ in range(2):
        set_up(wanted, admin, said.append)
    assert said[1::2] == [f"bucket {bucket}-audit made with object lock", f"bucket {bucket}-audit is there"]
    url = f"s3://{bucket}-audit/log"
    store = open_store(url, s3=s3_server.settings, lock=timedelta(days=1))
    await store.put("part", b"line", if_none_match=True)
    with pytest.raises(ObjectExists):
        await store.put("part", b"another", if_none_match=True)
    assert await store.get("part") == b"line"
    await store.close()
    with pytest.raises(BucketSetupError, match="without object lock"):
        set_up(Wanted(s3_server.endpoint, bucket, audit_bucket=bucket), admin, said.append)


def test_a_bucket_with_versions_alone_is_not_taken_for_one_with_object_lock(s3_server: S3Server) -> None:
    bucket = f"setup-{secrets.token_hex(4)}"
    admin = Account(s3_server.access_key, s3_server.secret_key)
    parts = urlsplit(s3_server.endpoint)
    client = Minio(parts.netloc, admin.access_key, admin.secret_key, secure=parts.scheme == "https")
    client.make_bucket(f"{bucket}-audit")
    client.set_bucket_versioning(f"{bucket}-audit", VersioningConfig(ENABLED))
    with pytest.raises(BucketSetupError, match="without object lock"):
        set_up(Wanted(s3_server.endpoint, bucket, audit_bucket=f"{bucket}-audit"), admin, _ignore)


def test_a_worker_may_only_add_to_the_audit_log() -> None:
    statements = policy_for("agents", "audit")["Statement"]
    allowed = [action for one in statements if "arn:aws:s3:::audit/*" in one["Resource"] for action in one["Action"]]
    assert sorted(allowed) == ["s3:GetObject", "s3:PutObject", "s3:PutObjectRetention"]
    assert [one["Resource"] for one in policy_for("agents")["Statement"]] == [
        ["arn:aws:s3:::agents"],
        ["arn:aws:s3:::agents/*"],
    ]


def test_wrong_credentials_and_no_server(s3_server: S3Server) -> None:
    with pytest.raises(BucketSetupError, match="MINIO_ROOT_USER") as caught:
        set_up(Wanted(s3_server.endpoint, "some-bucket"), Account(s3_server.access_key, "wrong-secret"), _ignore)
    assert "wrong-secret" not in str(caught.value)
    for endpoint in ("no url", "ftp://host", "http://"):
        with pytest.raises(BucketSetupError, match="endpoint"):
            set_up(Wanted(endpoint, "some-bucket"), ROOT, _ignore)
    with pytest.raises(BucketSetupError, match="names given"):
        set_up(Wanted(s3_server.endpoint, "X"), ROOT, _ignore)


class _MinioAdmin(BaseHTTPRequestHandler):
    """Answers as MinIO does to the calls that the set-up makes, and keeps what it was told."""

    seen: list[tuple[str, dict[str, list[str]], Any]]
    attached: bool

    def do_HEAD(self) -> None:
        self._answer(HTTPStatus.OK)

    def do_PUT(self) -> None:
        self._admin()

    def do_POST(self) -> None:
        self._admin()

    def _admin(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        command = url.path.rpartition("/")[2]
        plain = body if command == "add-canned-policy" else _decrypted(body)
        type(self).seen.append((command, parse_qs(url.query), json.loads(plain)))
        if command == "attach" and self.attached:
            self._answer(HTTPStatus.BAD_REQUEST, b'{"Code": "XMinioAdminPolicyChangeAlreadyApplied"}')
            return
        type(self).attached = self.attached or command == "attach"
        self._answer(HTTPStatus.OK, encrypt(b"{}", ROOT.secret_key) if command == "attach" else b"")

    def _answer(self, status: HTTPStatus, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def minio_admin() -> Iterator[tuple[str, type[_MinioAdmin]]]:
    class Handler(_MinioAdmin):
        seen: list[tuple[str, dict[str, list[str]], Any]] = []  # noqa: RUF012 - one list a fixture
        attached = False

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", Handler
        server.shutdown()
        thread.join()


def test_the_workers_user_may_use_the_bucket_alone(minio_admin: tuple[str, type[_MinioAdmin]]) -> None:
    endpoint, handler = minio_admin
    said: list[str] = []
    for _ in range(2):
        set_up(Wanted(endpoint, "the-bucket", worker=WORKER), ROOT, said.append)
    assert [command for command, _, _ in handler.seen] == ["add-canned-policy", "add-user", "attach"] * 2
    policy, user, attached = handler.seen[:3]
    assert policy[1] == {"name": ["hibernaut-the-bucket"]}
    resources = {resource for statement in policy[2]["Statement"] for resource in statement["Resource"]}
    assert resources == {"arn:aws:s3:::the-bucket", "arn:aws:s3:::the-bucket/*"}
    assert user[1:] == ({"accessKey": ["worker-user"]}, {"status": "enabled", "secretKey": "worker-password"})
    assert attached[2] == {"policies": ["hibernaut-the-bucket"], "user": "worker-user"}
    assert not any("password" in line for line in said)


def test_the_command_tells_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["deploy.minio"])
    for name in ("HIBERNAUT_STORE", "AWS_ENDPOINT_URL_S3", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    assert main() == 2
    assert "MINIO_ROOT_PASSWORD" in capsys.readouterr().err


def test_the_command_sets_up(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["deploy.minio"])
    monkeypatch.setenv("HIBERNAUT_STORE", f"s3://command-{secrets.token_hex(4)}/prefix")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.endpoint)
    for prefix in ("MINIO_ROOT_USER", "AWS_ACCESS_KEY_ID"):
        monkeypatch.setenv(prefix, s3_server.access_key)
    for prefix in ("MINIO_ROOT_PASSWORD", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(prefix, s3_server.secret_key)
    assert main() == 0
    assert "made" in capsys.readouterr().out


def _decrypted(body: bytes) -> bytes:
    response = HTTPResponse(body=io.BytesIO(body), preload_content=False)
    return decrypt(response, ROOT.secret_key)


def _ignore(_: str) -> None:
    pass
