"""The MCP servers of a worker: how they are started or reached, with which keys. Never of a spec."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from activities import yaml_file
from activities.mcp_errors import McpSettingsInvalid
from hibernaut.models.functions import MAX_RESULT
from hibernaut.models.mcp import SERVER_NAME

VARIABLE = "HIBERNAUT_MCP_SERVERS"
_SHORTEST = 6
"""Characters of a secret that is hidden wherever it appears; shorter ones are no secrets, and appear by chance."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class SecretRef(_Settings):
    """Where a secret is; one of the two."""

    from_env: str | None = Field(default=None, min_length=1)
    """Variable of the worker's environment."""
    from_file: Path | None = None
    """File that holds the secret and nothing else."""
    prefix: str = ""
    """What stands before it, such as `Bearer `."""

    @model_validator(mode="after")
    def _one(self) -> "SecretRef":
        if (self.from_env is None) == (self.from_file is None):
            raise ValueError("give from_env or from_file, one of the two")
        return self


Value = str | SecretRef


class ServerSettings(_Settings):
    """One server, as written in the file: a program that the worker starts, or an address."""

    command: tuple[str, ...] = ()
    """Program and arguments of a stdio server; no shell in between."""
    env: dict[str, Value] = Field(default={}, repr=False)
    """Its environment, beside PATH, HOME, LOGNAME, SHELL, TERM and USER of the worker, and nothing else of it."""
    cwd: Path | None = None
    log: Path | None = None
    """File to which its stderr is appended; without one it is thrown away."""
    url: str | None = None
    """Address of a streamable HTTP server."""
    headers: dict[str, Value] = Field(default={}, repr=False)
    start_timeout_s: Annotated[float, Field(gt=0, le=120)] = 30.0
    """Seconds within which it must be ready, and list its tools."""
    refresh_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """Seconds after which its tools are listed again, when it does not say by itself that they have changed."""
    max_result: Annotated[int, Field(ge=1_000, le=MAX_RESULT)] = MAX_RESULT
    """Bytes of a result, as JSON, that the model is shown."""

    @field_validator("url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
                raise ValueError("must be an http:// or https:// address without credentials")
            if parts.query or parts.fragment:
                raise ValueError("must end with its path: addresses are in logs; what is secret belongs into `headers`")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> "ServerSettings":
        if bool(self.command) == (self.url is not None):
            raise ValueError("give command (a program to start) or url (a server to reach), one of the two")
        if self.command and self.headers:
            raise ValueError("`headers` are for servers with a url; give a program its secrets in `env`")
        if self.url is not None and (self.env or self.cwd or self.log):
            raise ValueError("`env`, `cwd` and `log` are for servers with a command")
        return self


class Server(BaseModel):
    """One server with its secrets read."""

    model_config = ConfigDict(frozen=True)

    name: str
    settings: ServerSettings
    env: dict[str, SecretStr] = {}
    headers: dict[str, SecretStr] = {}
    secrets: tuple[SecretStr, ...] = ()
    """What must never be told to anyone."""

    def hide(self, text: str) -> str:
        """A text without this server's secrets."""
        for secret in self.secrets:
            value = secret.get_secret_value()
            for written in (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
                text = text.replace(written, "[redacted]")
        return text


class _File(_Settings):
    servers: dict[str, ServerSettings]

    @field_validator("servers")
    @classmethod
    def _names(cls, value: dict[str, ServerSettings]) -> dict[str, ServerSettings]:
        for name in value:
            if len(name) > 32 or re.fullmatch(SERVER_NAME, name) is None:  # noqa: PLR2004  # as in a spec
                raise ValueError(
                    f"{name[:60]!r} cannot be a server's name: up to 32 letters and digits, with single - or _"
                )
        return value


def load_servers(environ: Mapping[str, str] = os.environ) -> dict[str, Server]:
    """The servers in the file that `HIBERNAUT_MCP_SERVERS` names; none without it.

    Raises:
        McpSettingsInvalid: names the file, the server and the field, and what is allowed.
    """
    path = environ.get(VARIABLE)
    if not path:
        return {}
    return {name: _server(path, name, one, environ) for name, one in _read(Path(path)).servers.items()}


def _read(path: Path) -> _File:
    try:
        loaded = yaml_file.load(path, "file of MCP servers", VARIABLE)
    except ValueError as error:
        raise McpSettingsInvalid(str(error)) from None
    try:
        return _File.model_validate(loaded)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        # A value may be a text or say where a secret is: what is no text was meant as the latter. The kinds are steps
        # of pydantic's path, and mean nothing to a reader.
        first = next((one for one in errors if one["loc"][-1:] != ("str",)), errors[0])
        loc = [str(step) for step in first["loc"] if step not in ("str", "SecretRef")]
        server = f", server {loc[1]!r}" if len(loc) > 1 else ""
        field = f", field {'.'.join(loc[2:] or loc[:1])!r}" if len(loc) != 2 else ""  # noqa: PLR2004  # servers.<name>
        told = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            told = f"there is no such field; allowed are {', '.join(ServerSettings.model_fields)}"
        told = told[:1].lower() + told[1:]
        raise McpSettingsInvalid(f"The file of MCP servers {path}{server}{field}: {told}.") from None


def _server(path: str, name: str, settings: ServerSettings, environ: Mapping[str, str]) -> Server:
    secrets: list[SecretStr] = []

    def filled(field: str, values: Mapping[str, Value]) -> dict[str, SecretStr]:
        found: dict[str, SecretStr] = {}
        for key, value in values.items():
            if isinstance(value, str):
                found[key] = SecretStr(value)
                continue
            try:
                secret = _secret(value, environ)
            except ValueError as error:
                where = f"The file of MCP servers {path}, server {name!r}, field '{field}.{key}'"
                raise McpSettingsInvalid(f"{where}: {error}.") from None
            if len(secret) >= _SHORTEST:
                secrets.append(SecretStr(secret))
            found[key] = SecretStr(value.prefix + secret)
        return found

    env, headers = filled("env", settings.env), filled("headers", settings.headers)
    return Server(name=name, settings=settings, env=env, headers=headers, secrets=tuple(secrets))


def _secret(ref: SecretRef, environ: Mapping[str, str]) -> str:
    if ref.from_env is not None:
        if not (found := environ.get(ref.from_env, "").strip()):
            raise ValueError(f"variable {ref.from_env} is not set in the worker's environment")
        return found
    try:
        found = Path(str(ref.from_file)).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{ref.from_file} cannot be read ({type(error).__name__})") from None
    if not found:
        raise ValueError(f"{ref.from_file} is empty")
    return found
