"""Settings of workers and gateways, from the environment alone, checked all at once."""

import os
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator

from hibernaut._explain import explain
from hibernaut.connection import Connection, resolve, token_from
from hibernaut.errors import InvalidSettings

CHECKOUT = Path(__file__).resolve().parents[1]
HOST_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
MAX_PORT = 65_535
LISTEN = "127.0.0.1:8484"
MEBIBYTE = 1024 * 1024


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
    max_upload_mb: int = Field(default=1024, ge=1, le=1_048_576, alias="HIBERNAUT_MAX_UPLOAD_MB")
    """Largest file the gateway takes, in MiB."""
    housekeeping_minutes: int = Field(default=10, ge=0, le=1440, alias="HIBERNAUT_HOUSEKEEPING_MINUTES")
    """Minutes between two housekeepings of the schedule that the first worker makes; with 0 it makes none."""

    @property
    def max_upload_bytes(self) -> int:
        """The same in bytes."""
        return self.max_upload_mb * MEBIBYTE

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
        for field, read in (("connection", _connection), ("gateway_token", token_from)):
            try:
                values[field] = read(env)
            except InvalidSettings as error:
                problems.append(str(error))
                values[field] = None if field == "gateway_token" else resolve(environ={}, use_file=False)
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
