"""A real S3 server for tests: SeaweedFS from its wheel, on free ports of the loopback interface."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.error import HTTPError
from urllib.request import urlopen

import boto3.session
from botocore.config import Config

from activities.adapters.s3_store import S3Settings

if TYPE_CHECKING:
    from collections.abc import Generator

    from mypy_boto3_s3 import S3Client

ACCESS_KEY = "hibernaut-test"
SECRET_KEY = "a-secret-of-the-tests-alone"
_PORTS = ("s3.port", "master.port", "volume.port", "filer.port", "admin.port")
_GRPC_OFFSET = 10_000
_START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running S3 server."""

    endpoint: str
    access_key: str
    secret_key: str

    @property
    def settings(self) -> S3Settings:
        """Settings that reach the server."""
        return S3Settings(endpoint=self.endpoint, access_key=self.access_key, secret_key=self.secret_key)

    def make_bucket(self, name: str) -> None:
        """Make a bucket."""
        session = boto3.session.Session(aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key)
        client: S3Client = cast("Any", session).client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1", config=Config(s3={"addressing_style": "path"})
        )
        client.create_bucket(Bucket=name)
        client.close()


@contextmanager
def seaweed_server(folder: Path) -> Generator[S3Server]:
    """Run SeaweedFS on a folder until the block ends."""
    identities = folder / "identities.json"
    identity = {
        "name": "test",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    identities.write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir(exist_ok=True)
    ports = _free_ports(len(_PORTS))
    command = [
        str(Path(sys.executable).with_name("weed")), "mini", f"-dir={folder / 'data'}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", "-admin.ui=false", "-master.telemetry=false",
        "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={identities}",
        "-s3.allowDeleteBucketNotEmpty=false", "-s3.autoCreateBucket=false",
        *(f"-{name}={port}" for name, port in zip(_PORTS, ports, strict=True)),
    ]  # fmt: skip
    with (folder / "weed.log").open("ab") as log:
        environment = {**os.environ, "GOMEMLIMIT": "512MiB"}
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
    try:
        server = S3Server(f"http://127.0.0.1:{ports[0]}", ACCESS_KEY, SECRET_KEY)
        _wait_ready(server, process, folder / "weed.log")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    """Find ports whose gRPC twins (10,000 higher) are free as well."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            one = held.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port + _GRPC_OFFSET >= 1 << 16:
                # The kernel hands out high ports mostly: look lower for the pair.
                port = _lower(port)
            if _is_free(port) and _is_free(port + _GRPC_OFFSET) and port not in found:
                found.append(port)
    return found


def _lower(port: int) -> int:
    return 20_000 + port % 25_000


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _wait_ready(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urlopen(f"{server.endpoint}/", timeout=2):  # noqa: S310 - a URL of our own
                return
        except HTTPError:
            # It answers, and asks for credentials.
            return
        except OSError:
            time.sleep(0.1)
    msg = f"SeaweedFS did not start: {log.read_text(errors='replace')[-2000:]}"
    raise RuntimeError(msg)
