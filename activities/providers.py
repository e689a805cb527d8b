"""Model providers: where they are, how they are spoken to, with which key. Settings of the worker, never of a spec."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from activities import yaml_file
from activities.adapters.openai_chat import ChatAdapter
from activities.adapters.openai_client import OPENAI_URL, Endpoint
from activities.adapters.openai_responses import ResponsesAdapter
from activities.errors import HibernautActivityError, ModelRejected
from activities.ports.model import ModelAdapter
from activities.pricing import Currency, Price, costed
from activities.windows import Window, WindowSettings
from hibernaut.models import Usage

DEFAULT_PROVIDER = "default"


class ProviderSettingsInvalid(HibernautActivityError):
    """The provider settings cannot be used; the message names file, provider and field."""

    code = "ProviderSettingsInvalid"


class ModelSettings(WindowSettings):
    """What is known of one model of a provider; its window, where it differs from the provider's."""

    price: Price | None = None
    """What its tokens cost; an agent with a limit of money runs on models that have a price, and on no others."""


_UNKNOWN = ModelSettings()


class ProviderSettings(WindowSettings):
    """One provider, as written in the file; its window is that of all its models."""

    wire: Literal["responses", "chat"] = "responses"
    base_url: str = OPENAI_URL
    api_key_env: str | None = Field(default=None, min_length=1)
    """Environment variable of the worker that holds the key."""
    api_key_file: Path | None = None
    """File that holds the key and nothing else. Neither of the two: a provider that asks for no key."""
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    """Seconds the provider may stay silent."""
    developer_role: Literal["system", "developer", "user"] = "system"
    """Chat: the role of instructions and notes. `user`: the instructions as system, later notes as user."""
    encrypted_reasoning: bool = False
    """Responses: ask for encrypted reasoning and send it again with the next step."""
    extra_body: dict[str, JsonValue] = Field(default={})
    """Fields added to every request, such as `reasoning: {effort: high}` or `temperature`."""
    default_headers: dict[str, str] = Field(default={}, repr=False)
    models: dict[str, ModelSettings] = Field(default={})
    """What is known of models, by the names that specs use."""

    @field_validator("base_url")
    @classmethod
    def _http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError("must be an http:// or https:// address without credentials, such as " + OPENAI_URL)
        return value

    @model_validator(mode="after")
    def _one_key(self) -> "ProviderSettings":
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("give api_key_env or api_key_file, not both")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    currency: Currency = "USD"
    """Of all prices in the file."""
    providers: Annotated[dict[str, ProviderSettings], Field(min_length=1)]


class Providers:
    """The providers of a worker; adapters are made at first use and kept."""

    def __init__(
        self,
        endpoints: Mapping[str, tuple[Literal["responses", "chat"], Endpoint]],
        models: Mapping[str, Mapping[str, ModelSettings]] | None = None,
        *,
        currency: str = "",
        windows: Mapping[str, WindowSettings] | None = None,
    ) -> None:
        """Take endpoints by provider name, each with its wire; settings of models by provider and model.

        Windows are those of all models of a provider that have none of their own.
        """
        self._windows = dict(windows or {})
        self._endpoints = dict(endpoints)
        self._models = dict(models or {})
        self._currency = currency
        self._adapters: dict[str, ModelAdapter] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the providers, sorted."""
        return tuple(sorted(self._endpoints))

    def adapter(self, name: str) -> ModelAdapter:
        """The adapter of a provider.

        Raises:
            ModelRejected: no provider of this name, or one without its key.
        """
        if name not in self._adapters:
            if name not in self._endpoints:
                known = ", ".join(self.names)
                raise ModelRejected(f"There is no model provider {name[:100]!r} on this worker; it knows: {known}.")
            wire, endpoint = self._endpoints[name]
            if endpoint.api_key is None and endpoint.base_url.rstrip("/") == OPENAI_URL:
                help_ = "set OPENAI_API_KEY on the worker, or api_key_env in its settings"
                raise ModelRejected(f"Model provider {name!r} has no key: {help_}.")
            self._adapters[name] = ChatAdapter(endpoint) if wire == "chat" else ResponsesAdapter(endpoint)
        return self._adapters[name]

    def model(self, provider: str, model: str) -> ModelSettings:
        """What is known of a model; the defaults when nothing is."""
        return self._models.get(provider, {}).get(model, _UNKNOWN)

    def window(self, provider: str, model: str) -> Window:
        """How much a model can take in at once."""
        whole = self._windows.get(provider)
        return Window.of([self.model(provider, model), *([whole] if whole is not None else [])])

    def costed(self, provider: str, model: str, usage: Usage) -> Usage:
        """What a provider reported, with its cost by the price table."""
        return costed(usage, self.model(provider, model).price, self._currency)

    async def close(self) -> None:
        """Release connections."""
        for adapter in self._adapters.values():
            await adapter.close()
        self._adapters.clear()


def load_providers(environ: Mapping[str, str] = os.environ) -> Providers:
    """The providers named by the environment.

    `HIBERNAUT_PROVIDERS` is the path of a YAML file; without it there is one provider, `default`, made of
    `OPENAI_API_KEY`, `OPENAI_BASE_URL`, `HIBERNAUT_WIRE` (`responses` or `chat`) and `HIBERNAUT_CONTEXT_WINDOW`
    (tokens).

    Raises:
        ProviderSettingsInvalid: names the file, the provider and the field, and what is allowed.
    """
    path = environ.get("HIBERNAUT_PROVIDERS")
    if path:
        file = _read(Path(path))
        return Providers(
            {name: (one.wire, _endpoint(path, name, one, environ)) for name, one in file.providers.items()},
            {name: one.models for name, one in file.providers.items()},
            currency=file.currency,
            windows=file.providers,
        )
    wire = environ.get("HIBERNAUT_WIRE") or "responses"
    if wire not in ("responses", "chat"):
        raise ProviderSettingsInvalid(f"HIBERNAUT_WIRE must be 'responses' or 'chat', not {wire!r}.")
    try:
        one = ProviderSettings(base_url=environ.get("OPENAI_BASE_URL") or OPENAI_URL)
    except ValidationError as error:
        raise ProviderSettingsInvalid(f"OPENAI_BASE_URL {_why(error)}.") from None
    if size := environ.get("HIBERNAUT_CONTEXT_WINDOW"):
        try:
            one = ProviderSettings(base_url=one.base_url, context_window=int(size))
        except ValueError:
            told = f"HIBERNAUT_CONTEXT_WINDOW must be a number of tokens of at least 1,000, not {size[:40]!r}."
            raise ProviderSettingsInvalid(told) from None
    key = environ.get("OPENAI_API_KEY")
    secret = SecretStr(key) if key else None
    endpoint = Endpoint(name=DEFAULT_PROVIDER, base_url=one.base_url, api_key=secret)
    return Providers({DEFAULT_PROVIDER: (wire, endpoint)}, windows={DEFAULT_PROVIDER: one})


def read_settings(path: Path) -> Mapping[str, ProviderSettings]:
    """Read a provider file.

    Raises:
        ProviderSettingsInvalid: it cannot be read, or a setting is wrong.
    """
    return _read(path).providers


def _read(path: Path) -> _File:
    try:
        loaded = yaml_file.load(path, "provider file", "HIBERNAUT_PROVIDERS")
    except ValueError as error:
        raise ProviderSettingsInvalid(str(error)) from None
    try:
        return _File.model_validate(loaded)
    except ValidationError as error:
        loc = [str(step) for step in error.errors()[0]["loc"]]
        provider = f", provider {loc[1]!r}" if len(loc) > 1 else ""
        field = f", field {'.'.join(loc[2:] or loc[:1])!r}" if len(loc) != 2 else ""  # noqa: PLR2004  # providers.<name>
        raise ProviderSettingsInvalid(f"The provider file {path}{provider}{field}: {_why(error)}.") from None


_OWNERS: Mapping[int, type[BaseModel]] = {5: ModelSettings, 6: Price}
"""Whose fields are so deep in the file: providers.<name>.models.<model>.<field>, and one below `price`."""


def _why(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden" and len(first["loc"]) > 2:  # noqa: PLR2004  # providers.<name>.<field>
        owner = _OWNERS.get(len(first["loc"]), ProviderSettings)
        return f"there is no such field; allowed are {', '.join(owner.model_fields)}"
    return message[:1].lower() + message[1:]


def _endpoint(path: str, name: str, settings: ProviderSettings, environ: Mapping[str, str]) -> Endpoint:
    key: str | None = None
    if settings.api_key_env is not None:
        key = environ.get(settings.api_key_env, "").strip()
        if not key:
            msg = f"variable {settings.api_key_env} is not set in the worker's environment"
            raise ProviderSettingsInvalid(f"The provider file {path}, provider {name!r}, field 'api_key_env': {msg}.")
    if settings.api_key_file is not None:
        try:
            key = settings.api_key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            msg = f"{settings.api_key_file} cannot be read ({type(error).__name__})"
            raise ProviderSettingsInvalid(
                f"The provider file {path}, provider {name!r}, field 'api_key_file': {msg}."
            ) from None
        if not key:
            msg = f"{settings.api_key_file} is empty"
            raise ProviderSettingsInvalid(f"The provider file {path}, provider {name!r}, field 'api_key_file': {msg}.")
    return Endpoint(
        name=name,
        base_url=settings.base_url,
        api_key=SecretStr(key) if key else None,
        timeout_s=settings.timeout_s,
        developer_role=settings.developer_role,
        encrypted_reasoning=settings.encrypted_reasoning,
        extra_body=settings.extra_body,
        default_headers=settings.default_headers,
    )
