"""Where Temporal and the gateway are: by argument, environment, the nearest connection.json, or default."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfigProfile, ClientConnectConfig

from hibernaut.codec import NO_KEYS, PayloadKeys, data_converter, payload_keys
from hibernaut.errors import InvalidSettings

DEFAULT_ADDRESS = "127.0.0.1:7233"
DEFAULT_NAMESPACE = "hibernaut"
FILE_NAME = "connection.json"
HOME_NAME = ".hibernaut"


class ConnectionFile(BaseModel):
    """What the development stack writes for its clients; fields it has beside these are not ours."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    temporal_address: str
    temporal_namespace: str
    gateway_url: str | None = None
    gateway_token: SecretStr | None = None
    ui_url: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything a client needs to connect."""

    temporal: ClientConfigProfile
    """Address, namespace, TLS and API key, as Temporal's environment configuration has them."""
    address: str
    namespace: str
    gateway_url: str | None
    gateway_token: SecretStr | None
    ui_url: str | None
    """The web UI, when the development stack told it."""
    payload_keys: PayloadKeys = NO_KEYS
    """What seals and opens what Temporal keeps."""

    @property
    def data_converter(self) -> DataConverter:
        """What a Temporal client of this connection has to use."""
        return data_converter(self.payload_keys, self.namespace)

    def connect_config(self) -> ClientConnectConfig:
        """Keyword arguments of Temporal's `Client.connect`."""
        config = self.temporal.to_client_connect_config()
        config["target_host"] = self.address
        config["namespace"] = self.namespace
        return config


def resolve(
    *,
    address: str | None = None,
    namespace: str | None = None,
    gateway_url: str | None = None,
    gateway_token: str | None = None,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    use_file: bool = True,
) -> Connection:
    """Find out where to connect to. Reads files, connects to nothing.

    Args:
        address: Temporal's `host:port`; else TEMPORAL_ADDRESS, and so on for the others.
        namespace: Temporal's namespace.
        gateway_url: Base URL of the HTTP gateway.
        gateway_token: Its bearer token.
        environ: The environment to read; this process's own by default.
        directory: Where to start looking for `.hibernaut/connection.json`; the working directory by default.
        use_file: Whether to look for it at all; servers are told everything by their environment.

    Raises:
        InvalidSettings: a file or a variable that cannot be used.
    """
    env = dict(os.environ if environ is None else environ)
    file = read_connection_file(env, directory or Path.cwd()) if use_file else None
    # A profile somebody asked for by name counts as environment; the default configuration file, which may be
    # lying about for other namespaces, only fills in when no connection.json speaks for this project.
    named = bool(env.get("TEMPORAL_PROFILE") or env.get("TEMPORAL_CONFIG_FILE"))
    profile = _profile(env, disable_file=file is not None and not named)
    chosen = address or profile.address
    if chosen is None and file is not None:
        # The environment's TLS settings and API key were meant for another server than the stack's own.
        chosen, profile = file.temporal_address, ClientConfigProfile(namespace=profile.namespace)
    chosen = chosen or DEFAULT_ADDRESS
    if ":" not in chosen:
        msg = f"The Temporal address {chosen!r} has no port."
        raise InvalidSettings(msg, hint="Write it as host:port, such as 127.0.0.1:7233.")
    # The stack's gateway and namespace belong to the stack's server: beside another server they would mislead.
    same = file if file is not None and file.temporal_address == chosen else None
    space = namespace or profile.namespace or (same.temporal_namespace if same else DEFAULT_NAMESPACE)
    url = gateway_url or env.get("HIBERNAUT_GATEWAY_URL") or (same.gateway_url if same else None)
    token = SecretStr(gateway_token) if gateway_token else token_from(env)
    if token is None and file is not None and url is not None and url == file.gateway_url:
        # Only to the very gateway it was written for: a token sent elsewhere is a token given away.
        token = file.gateway_token
    return Connection(profile, chosen, space, url, token, same.ui_url if same else None, payload_keys(env))


def token_from(env: Mapping[str, str], variable: str = "HIBERNAUT_GATEWAY_TOKEN") -> SecretStr | None:
    """The gateway's token, or another, from its variable or the file that the variable with `_FILE` behind it names.

    Raises:
        InvalidSettings: the file cannot be read or is empty.
    """
    if token := env.get(variable):
        return SecretStr(token)
    path = env.get(f"{variable}_FILE")
    if not path:
        return None
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{variable}_FILE names {path}, which cannot be read: {error}."
        raise InvalidSettings(msg) from error
    if not token:
        msg = f"{variable}_FILE names {path}, which is empty."
        raise InvalidSettings(msg, hint="Write the token into it, on one line.")
    return SecretStr(token)


def read_connection_file(env: Mapping[str, str], directory: Path) -> ConnectionFile | None:
    """The connection.json of HIBERNAUT_HOME, or the nearest one at or above a directory; None when there is none.

    Raises:
        InvalidSettings: it cannot be read, is not what it should be, or belongs to another user.
    """
    path = _find(env, directory)
    if path is None:
        return None
    try:
        owner = path.stat().st_uid
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read: {error}."
        raise InvalidSettings(msg) from error
    if owner not in {os.geteuid(), 0} and os.geteuid() != 0:
        # Somebody else's file in a folder we share would send our messages to a server of their choice.
        msg = f"{path} belongs to another user (uid {owner}) and is not trusted."
        raise InvalidSettings(msg, hint="Set TEMPORAL_ADDRESS and HIBERNAUT_GATEWAY_URL, or run in another folder.")
    try:
        return ConnectionFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        msg = f"{path} is not a connection file: {where}: {first['msg']}."
        raise InvalidSettings(msg, hint="`make up` writes a new one.") from error


def _find(env: Mapping[str, str], directory: Path) -> Path | None:
    if home := env.get("HIBERNAUT_HOME"):
        path = Path(home) / FILE_NAME
        return path if path.is_file() else None
    start = directory.absolute()
    for folder in (start, *start.parents):
        path = folder / HOME_NAME / FILE_NAME
        if path.is_file():
            return path
    return None


def _profile(env: dict[str, str], *, disable_file: bool) -> ClientConfigProfile:
    try:
        return ClientConfigProfile.load(disable_file=disable_file, override_env_vars=env)
    except Exception as error:
        # envconfig raises a bare RuntimeError for unreadable files, unknown profiles and bad TOML alike.
        msg = f"Temporal's environment configuration cannot be used: {error}."
        raise InvalidSettings(msg, hint="See TEMPORAL_PROFILE and TEMPORAL_CONFIG_FILE.") from error
