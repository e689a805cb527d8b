"""What a development stack is made of: components, ports, home, secrets, and each child's environment."""

import asyncio
import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Self

from workers.devstack.errors import InvalidPort

CHECKOUT = Path(__file__).resolve().parents[2]
NAMESPACE = "hibernaut"
BUCKET = "hibernaut"
REGION = "us-east-1"
LOOPBACK = "127.0.0.1"

_MAX_PORT = 65535


class Component(StrEnum):
    """A child of the stack."""

    TEMPORAL = "temporal"
    STORE = "store"
    WATCHDOG = "watchdog"
    WORKER = "worker"
    GATEWAY = "gateway"


ALL = frozenset(Component)
SERVERS = frozenset({Component.TEMPORAL, Component.STORE})
"""The stack without code of ours: what a test of a single part needs."""
GRACE_SECONDS: Mapping[Component, float] = {
    Component.TEMPORAL: 10.0,
    Component.STORE: 15.0,
    Component.WATCHDOG: 5.0,
    Component.WORKER: 20.0,
    Component.GATEWAY: 5.0,
}
"""What each has to end in good order."""

PORT_VARIABLES = {
    "temporal": "HIBERNAUT_TEMPORAL_PORT",
    "ui": "HIBERNAUT_UI_PORT",
    "store": "HIBERNAUT_S3_PORT",
    "gateway": "HIBERNAUT_GATEWAY_PORT",
    "scripted": "HIBERNAUT_SCRIPTED_PORT",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The TCP ports of the stack, all on the loopback interface."""

    temporal: int = 7233
    ui: int = 8233
    store: int = 8333
    gateway: int = 8484
    scripted: int = 8585
    """Where the worker looks for a scripted model; whoever has a script serves it there, such as the demo."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """The fixed ports, or those that the environment names (`HIBERNAUT_TEMPORAL_PORT` and so on).

        Raises:
            InvalidPort: A variable holds no port.
        """
        chosen: dict[str, int] = {}
        for name, variable in PORT_VARIABLES.items():
            if text := environ.get(variable):
                if not text.isdecimal() or not 0 < int(text) <= _MAX_PORT:
                    raise InvalidPort(f"{variable} is {text!r}, which is no port.", hint=f"Use 1 to {_MAX_PORT}.")
                chosen[name] = int(text)
        return cls(**chosen)

    @classmethod
    def free(cls) -> Self:
        """Ports that nobody listens on at this moment."""
        names = [field.name for field in fields(cls)]
        return cls(**dict(zip(names, free_ports(len(names)), strict=True)))


def free_ports(count: int) -> list[int]:
    """That many different ports that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface."""
    with socket.socket() as probe:
        # As servers do: connections that linger after their server do not make its port busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


async def listens(port: int) -> bool:
    """Whether a server answers on this port of the loopback interface."""
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True


def default_home(environ: Mapping[str, str]) -> Path:
    """Where the stack keeps its state: `$HIBERNAUT_HOME`, else `.hibernaut` in the checkout."""
    return Path(environ.get("HIBERNAUT_HOME") or CHECKOUT / ".hibernaut").absolute()


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Credentials made once for a home and kept in it, readable by its owner alone."""

    gateway_token: str
    s3_access_key: str
    s3_secret_key: str

    def __repr__(self) -> str:
        """Never the secrets: this may end up in a log."""
        return "Secrets(...)"

    @classmethod
    def of(cls, home: Path) -> Self:
        """The secrets of this home, made now if there are none."""
        path = home / "secrets.json"
        if path.exists():
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        made = cls(
            gateway_token=secrets.token_urlsafe(32),
            s3_access_key=secrets.token_hex(10),
            s3_secret_key=secrets.token_urlsafe(32),
        )
        write_private(path, json.dumps({field.name: getattr(made, field.name) for field in fields(made)}))
        return made


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)


def client_settings(home: Path, ports: Ports, secret: Secrets) -> dict[str, str]:
    """The environment by which workers, gateways and clients find this stack."""
    return {
        "HIBERNAUT_HOME": str(home),
        "TEMPORAL_ADDRESS": f"{LOOPBACK}:{ports.temporal}",
        "TEMPORAL_NAMESPACE": NAMESPACE,
        "HIBERNAUT_STORE": f"s3://{BUCKET}/store",
        "AWS_ENDPOINT_URL_S3": f"http://{LOOPBACK}:{ports.store}",
        "AWS_ACCESS_KEY_ID": secret.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": secret.s3_secret_key,
        "AWS_REGION": REGION,
        "HIBERNAUT_GATEWAY_LISTEN": f"{LOOPBACK}:{ports.gateway}",
        "HIBERNAUT_GATEWAY_URL": f"http://{LOOPBACK}:{ports.gateway}",
        "HIBERNAUT_GATEWAY_TOKEN": secret.gateway_token,
    }


KEYS = ("HIBERNAUT_SNAPSHOT_KEYS", "HIBERNAUT_PAYLOAD_KEYS")
SECRET_PREFIX = "HIBERNAUT_SECRET_"  # noqa: S105  # of names
_PLAIN = ("HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
_PLAIN_PREFIXES = ("DOCKER_", "HIBERNAUT_", "LC_", "PYTHON", "SSL_CERT_")


def server_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a child that calls no model inherits: no provider's key, none of those that seal, no value of a secret."""
    plain = {name: value for name, value in environ.items() if name in _PLAIN or name.startswith(_PLAIN_PREFIXES)}
    return {name: value for name, value in plain.items() if name not in KEYS and not name.startswith(SECRET_PREFIX)}


def gateway_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What the gateway inherits: it opens snapshots and payloads, and calls no model."""
    return server_environment(environ) | {name: environ[name] for name in KEYS if name in environ}


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What the worker inherits: all (providers' keys too) but settings of other Temporal servers and S3 accounts."""
    return {name: value for name, value in environ.items() if not name.startswith(("TEMPORAL_", "AWS_"))}
