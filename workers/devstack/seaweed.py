"""The S3 server of the stack: SeaweedFS on one folder, with credentials of its own, every write synced to disk."""

import asyncio
import json
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Self

from minio import Minio
from minio.error import MinioException, S3Error
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout

from workers.devstack.errors import ChildFailed
from workers.devstack.settings import BUCKET, LOOPBACK, REGION, Ports, Secrets, free_ports, is_free, write_private

_GRPC_OFFSET = 10_000
"""SeaweedFS derives each gRPC port from its HTTP port."""
_HIGHEST_PORT = 65_535 - _GRPC_OFFSET
_SHELL_SECONDS = 30.0
_PROBE = "probe"
"""An object beside the store's own: no content of the server can be read while this one cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InternalPorts:
    """Ports that only SeaweedFS's own parts use to talk to each other, on the loopback interface."""

    master: int
    volume: int
    filer: int
    admin: int
    s3_grpc: int

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The ports that this folder used last, while they are free, else others that are."""
        path = folder / "ports.json"
        if path.exists():
            kept = cls(**json.loads(path.read_text(encoding="utf-8")))
            if all(is_free(port) for port in kept.all()):
                return kept
            # Each master keeps a folder by the name of its port; what it holds is learnt anew from the volumes.
            for stale in (folder / "data").glob("m*"):
                if re.fullmatch(r"m\d+", stale.name):
                    shutil.rmtree(stale)
        chosen = cls._pick()
        path.write_text(json.dumps(asdict(chosen)), encoding="utf-8")
        return chosen

    @classmethod
    def _pick(cls) -> Self:
        usable: list[int] = []
        wanted = 5
        while len(usable) < wanted:
            usable += [p for p in free_ports(8) if p <= _HIGHEST_PORT and is_free(p + _GRPC_OFFSET)]
        master, volume, filer, admin, s3_grpc = usable[:wanted]
        return cls(master=master, volume=volume, filer=filer, admin=admin, s3_grpc=s3_grpc)

    def all(self) -> list[int]:
        """Every port that will be listened on."""
        pairs = (self.master, self.volume, self.filer, self.admin)
        return [self.s3_grpc, *pairs, *(port + _GRPC_OFFSET for port in pairs)]


def command(program: Path, folder: Path, ports: Ports, internal: InternalPorts, secret: Secrets) -> list[str]:
    """How the server is started; `folder` keeps its data and, readable by its owner alone, its credentials."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    identities = folder / "identities.json"
    keys = {"accessKey": secret.s3_access_key, "secretKey": secret.s3_secret_key}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "hibernaut", "credentials": [keys], "actions": actions}
    write_private(identities, json.dumps({"identities": [identity]}))
    return [
        str(program), "mini",
        f"-dir={data}",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        f"-s3.port={ports.store}",
        f"-s3.port.grpc={internal.s3_grpc}",
        f"-s3.config={identities}",
        "-s3.allowDeleteBucketNotEmpty=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-master.port={internal.master}",
        "-master.telemetry=false",
        f"-volume.port={internal.volume}",
        "-volume.preStopSeconds=0",
        f"-filer.port={internal.filer}",
        f"-admin.port={internal.admin}",
        "-admin.ui=false",
        "-webdav=false",
    ]  # fmt: skip


def admin_client(ports: Ports, secret: Secrets) -> Minio:
    """A client for setting up buckets; it gives up quickly. Blocking."""
    pool = PoolManager(timeout=Timeout(connect=1, read=5), retries=Retry(total=0))
    return Minio(
        endpoint=f"{LOOPBACK}:{ports.store}",
        access_key=secret.s3_access_key,
        secret_key=secret.s3_secret_key,
        secure=False,
        region=REGION,
        http_client=pool,
    )


async def healthy(client: Minio) -> bool:
    """Whether the server answers a signed request."""
    try:
        await asyncio.to_thread(client.list_buckets)
    except (MinioException, HTTPError, OSError):
        return False
    return True


async def prepare(program: Path, client: Minio, internal: InternalPorts, folder: Path, *, timeout: float) -> None:
    """Make the bucket, have its writes synced to disk before they are acknowledged, wait until it serves. Idempotent.

    Raises:
        ChildFailed: The server refuses one of the two, or serves nothing within `timeout` seconds.
    """
    try:
        if not await asyncio.to_thread(client.bucket_exists, bucket_name=BUCKET):
            await asyncio.to_thread(client.make_bucket, bucket_name=BUCKET)
    except (MinioException, HTTPError, OSError) as error:
        raise ChildFailed(f"The S3 server answers, but its bucket {BUCKET!r} cannot be made: {error}") from error
    done = folder / "fsync-is-on"
    if not done.exists():
        await _sync_writes(program, internal)
        done.touch()
    deadline = time.monotonic() + timeout
    while not await serves(client):
        if time.monotonic() > deadline:
            raise ChildFailed(f"The S3 server answers, but gives no content within {timeout:.0f} s.")
        await asyncio.sleep(0.1)


async def _sync_writes(program: Path, internal: InternalPorts) -> None:
    commands = ["lock", f"fs.configure -locationPrefix=/buckets/{BUCKET} -fsync=true -apply", "unlock"]
    answer = await _shell(program, internal, commands)
    if not re.search(r'"fsync":\s*true', answer):
        raise ChildFailed(f"The S3 server could not be told to sync writes to disk; it said: {answer.strip()}")


async def serves(client: Minio) -> bool:
    """Whether the server gives back what it was given, in this run or an earlier one.

    It lists buckets as soon as its filer is up; where contents lie it knows only when the volumes are registered too,
    and answers 500 until then.
    """
    try:
        await asyncio.to_thread(_read_probe, client)
    except S3Error as error:
        if error.code == "NoSuchKey":
            with suppress(MinioException, HTTPError, OSError):
                await asyncio.to_thread(_write_probe, client)
        return False
    except (MinioException, HTTPError, OSError):
        return False
    return True


def _read_probe(client: Minio) -> None:
    answer = client.get_object(bucket_name=BUCKET, object_name=_PROBE)
    try:
        answer.read()
    finally:
        answer.close()


def _write_probe(client: Minio) -> None:
    client.put_object(bucket_name=BUCKET, object_name=_PROBE, data=BytesIO(_PROBE.encode()), length=len(_PROBE))


async def _shell(program: Path, internal: InternalPorts, commands: Sequence[str]) -> str:
    process = await asyncio.create_subprocess_exec(
        str(program), "shell",
        f"-master={LOOPBACK}:{internal.master}",
        f"-filer={LOOPBACK}:{internal.filer}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        text = "".join(f"{line}\n" for line in commands).encode()
        output, _ = await asyncio.wait_for(process.communicate(text), _SHELL_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise ChildFailed(f"SeaweedFS's shell did not answer within {_SHELL_SECONDS:.0f} s.") from None
    return output.decode(errors="replace")
