"""Settings of workers and gateways, from the environment alone, checked all at once."""

import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from activities.adapters.image_policy import ANY_IMAGE, ImagePolicy
from activities.ports.upkeep import Retention
from activities.snapshots.sealing import PLAIN, KeyRing
from activities.snapshots.timing import Timing
from hibernaut._explain import explain
from hibernaut.connection import Connection, resolve, token_from
from hibernaut.errors import InvalidSettings
from workers import retention
from workers.keys.ring import keys_from
from workers.owner import check_owner
from workers.retention import parse_retention

CHECKOUT = Path(__file__).resolve().parents[1]
DEPLOYMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
BUILD_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
HOST_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
MAX_PORT = 65_535
LISTEN = "127.0.0.1:8484"
MEBIBYTE = 1024 * 1024

Network = IPv4Network | IPv6Network


class Listen(BaseModel):
    """Where a server listens."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in {"127.0.0.1", "localhost", "::1"}

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `host:port`.

        Raises:
            ValueError: it is none.
        """
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 0 <= int(port) <= MAX_PORT:
            raise ValueError(f"must be host:port such as {LISTEN}, not {text!r}")
        return cls(host=host.strip("[]"), port=int(port))


def _host_id() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:100] or "localhost"


def _parse_listen(value: object) -> object:
    return Listen.parse(value) if isinstance(value, str) else value


def _parse_networks(value: object) -> object:
    return tuple(ip_network(part.strip()) for part in value.split(",")) if isinstance(value, str) else value


def _parse_images(value: object) -> object:
    return ImagePolicy.parse(value) if isinstance(value, str) else value


class HostSettings(BaseModel):
    """What the environment says of a sandbox host; each field's alias is its variable."""

    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True)

    host_id: str = Field(default_factory=_host_id, alias="HIBERNAUT_HOST_ID")
    """Names this sandbox host and its task queue; the host name by default."""
    home: Path = Field(default=CHECKOUT / ".hibernaut", alias="HIBERNAUT_HOME")
    """Where the host's worker and watchdog meet, and where large files are put down for a moment."""
    docker_host: str | None = Field(default=None, alias="HIBERNAUT_DOCKER_HOST")
    """The Docker daemon's URL (`unix:///run/other.sock`); by default as DOCKER_HOST says, else its usual socket."""
    lease_seconds: float = Field(default=20.0, ge=2.0, le=3600.0, alias="HIBERNAUT_LEASE_SECONDS")
    """Seconds without contact with Temporal after which the host's watchdog freezes its sandboxes."""

    egress_reachable: Annotated[tuple[Network, ...], BeforeValidator(_parse_networks)] = Field(
        default=(), alias="HIBERNAUT_EGRESS_REACHABLE"
    )
    """Networks, with commas between, among the host's own, link-local and metadata addresses that a spec may allow;
    by default no sandbox's allowlist leads there, whatever its spec says."""
    egress_ca_file: Path | None = Field(default=None, alias="HIBERNAUT_EGRESS_CA_FILE")
    """Certificates (PEM), besides the machine's own, by which hosts of secrets are verified."""

    images: Annotated[ImagePolicy, BeforeValidator(_parse_images)] = Field(default=ANY_IMAGE, alias="HIBERNAUT_IMAGES")
    """Patterns of the images that sandboxes here may be made of, with commas between; by default any."""
    disk_reserve_mb: int = Field(default=1024, ge=0, le=1_073_741_824, alias="HIBERNAUT_DISK_RESERVE_MB")
    """MiB of the host's disk that sandboxes leave free: whichever writes beyond is stopped; with 0 none."""

    @field_validator("host_id")
    @classmethod
    def _host(cls, value: str) -> str:
        if HOST_ID.fullmatch(value) is None:
            raise ValueError(f"must be 1 to 100 of the characters A-Z a-z 0-9 . _ -, not {value!r}")
        return value

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read and check everything.

        Raises:
            InvalidSettings: with a line for every variable that cannot be used.
        """
        env = os.environ if environ is None else environ
        try:
            return cls.model_validate({name: value for name, value in env.items() if value})
        except ValidationError as error:
            raise _unusable(explain(error, cls)) from None


class Settings(HostSettings):
    """All that a worker or gateway is told."""

    connection: Connection
    """Where Temporal is: TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE and Temporal's other variables."""
    owner: Annotated[str, AfterValidator(check_owner)] = Field(alias="HIBERNAUT_OWNER")
    """Whose agents it serves: binds namespace, prefix of the store and snapshots; the namespace's name by default."""
    store: str = Field(alias="HIBERNAUT_STORE")
    """The object store: `s3://bucket/prefix` or `file:///dir`. Every worker and gateway needs the same."""
    s3_endpoint: str | None = Field(default=None, alias="AWS_ENDPOINT_URL_S3")
    s3_access_key_id: str | None = Field(default=None, alias="AWS_ACCESS_KEY_ID")
    s3_secret_access_key: SecretStr | None = Field(default=None, alias="AWS_SECRET_ACCESS_KEY")
    s3_region: str | None = Field(default=None, alias="AWS_REGION")
    gateway_listen: Annotated[Listen, BeforeValidator(_parse_listen)] = Field(
        default=Listen.parse(LISTEN), alias="HIBERNAUT_GATEWAY_LISTEN"
    )
    gateway_url: str | None = Field(default=None, alias="HIBERNAUT_GATEWAY_URL")
    gateway_token: SecretStr | None = None
    """HIBERNAUT_GATEWAY_TOKEN, or the content of the file HIBERNAUT_GATEWAY_TOKEN_FILE."""
    deployment_name: str = Field(default="hibernaut", alias="HIBERNAUT_DEPLOYMENT_NAME")
    """Names the Temporal worker deployment of a versioned worker."""
    build_id: str | None = Field(default=None, alias="HIBERNAUT_BUILD_ID")
    """Names this build in its deployment and makes the worker a versioned one; none: any worker takes any task."""
    serves: Literal["all", "agents"] = Field(default="all", alias="HIBERNAUT_SERVES")
    """`agents`: workflows and what they do beside sandboxes, such as model calls; no sandboxes, and no Docker."""
    max_upload_mb: int = Field(default=1024, ge=1, le=1_048_576, alias="HIBERNAUT_MAX_UPLOAD_MB")
    """Largest file the gateway takes, in MiB."""
    housekeeping_minutes: int = Field(default=10, ge=0, le=1440, alias="HIBERNAUT_HOUSEKEEPING_MINUTES")
    """Minutes between two housekeepings of the schedule that the first worker makes; with 0 it makes none."""
    collection_hours: int = Field(default=24, ge=0, le=8760, alias="HIBERNAUT_COLLECTION_HOURS")
    """Hours between two collections of the schedule that the first worker makes; with 0 it makes none."""
    snapshot_keep: Annotated[Retention | None, BeforeValidator(parse_retention)] = Field(
        default=retention.DEFAULT, alias="HIBERNAUT_SNAPSHOT_KEEP"
    )
    """The owner's retention, which the collection applies to every agent; None, written `all`: nothing ever goes."""
    collection_grace_hours: float = Field(default=24.0, gt=0, le=8760, alias="HIBERNAUT_COLLECTION_GRACE_HOURS")
    """Hours between the condemnation of a pack that no snapshot names and its deletion."""
    snapshot_keys: KeyRing = Field(default=PLAIN, exclude=True)
    """HIBERNAUT_SNAPSHOT_KEYS, or the content of the file HIBERNAUT_SNAPSHOT_KEYS_FILE; none: nothing is sealed."""

    @property
    def sealer(self) -> KeyRing:
        """Seals and opens the owner's snapshots."""
        return self.snapshot_keys.of(self.owner)

    @property
    def timing(self) -> Timing:
        """The times that writers of snapshots and the collection agree on."""
        return Timing(grace=timedelta(hours=self.collection_grace_hours))

    @property
    def max_upload_bytes(self) -> int:
        """The same in bytes."""
        return self.max_upload_mb * MEBIBYTE

    @field_validator("collection_grace_hours")
    @classmethod
    def _grace(cls, value: float) -> float:
        Timing(grace=timedelta(hours=value))
        return value

    @field_validator("deployment_name")
    @classmethod
    def _deployment(cls, value: str) -> str:
        # Temporal writes name and build id with a dot or a colon between them.
        if DEPLOYMENT_NAME.fullmatch(value) is None:
            raise ValueError(f"must be 1 to 100 of A-Z a-z 0-9 _ -, the first a letter or digit, not {value!r}")
        return value

    @field_validator("build_id")
    @classmethod
    def _build(cls, value: str | None) -> str | None:
        if value is not None and BUILD_ID.fullmatch(value) is None:
            raise ValueError(f"must be 1 to 100 of A-Z a-z 0-9 . _ + -, the first a letter or digit, not {value!r}")
        return value

    @field_validator("store")
    @classmethod
    def _store_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme == "s3" and parts.netloc:
            return value
        if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.startswith("/"):
            return value
        raise ValueError(f"must be s3://bucket/prefix or file:///absolute/folder, not {value!r}")

    @field_validator("s3_endpoint", "gateway_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError("must be a URL that begins with http:// or https://")
            if parts.password is not None:
                raise ValueError("must not hold a password")
        return value

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read and check everything.

        Raises:
            InvalidSettings: with a line for every variable that cannot be used.
        """
        env = os.environ if environ is None else environ
        problems: list[str] = []
        values: dict[str, Any] = {name: value for name, value in env.items() if value}
        readers: dict[str, Callable[[Mapping[str, str]], object]] = {
            "connection": _connection,
            "gateway_token": token_from,
            "snapshot_keys": keys_from,
        }
        for field, read in readers.items():
            try:
                values[field] = read(env)
            except InvalidSettings as error:
                problems.append(str(error))
                values.pop(field, None)
        values.setdefault("connection", resolve(environ={}, use_file=False))
        values.setdefault("HIBERNAUT_OWNER", values["connection"].namespace)
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems.extend(explain(error, cls))
        else:
            if not problems:
                return settings
        raise _unusable(problems) from None


def _unusable(problems: Iterable[str]) -> InvalidSettings:
    listed = "\n".join(f"  {problem}" for problem in problems)
    return InvalidSettings(f"These settings cannot be used:\n{listed}")


def _connection(env: Mapping[str, str]) -> Connection:
    return resolve(environ=env, use_file=False)
