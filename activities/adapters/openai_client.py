"""What both wires of the `openai` package have in common."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import httpx2
import openai
from pydantic import BaseModel, JsonValue, SecretStr

from activities.adapters.openai_errors import Faults
from activities.errors import ModelError

OPENAI_URL = "https://api.openai.com/v1"
CUT_OFF = "[hibernaut] The answer stops here: the provider's output limit was reached."
FILTERED = "[hibernaut] The answer stops here: the provider's content filter ended it."
_NO_KEY = "no-key"
_CONNECT_S = 10.0
_DRAIN_S = 0.2
_MOST_TOKENS = 10**9

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a provider is and how it is spoken to."""

    name: str
    base_url: str = OPENAI_URL
    api_key: SecretStr | None = None
    timeout_s: float = 600.0
    """Seconds the provider may stay silent, before its first byte and between two."""
    developer_role: Literal["system", "developer", "user"] = "system"
    """Chat only: the role of instructions and notes. `user`: the instructions as system, later notes as user."""
    encrypted_reasoning: bool = False
    """Responses only: ask for encrypted reasoning, and send it again."""
    extra_body: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    default_headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    def faults(self) -> Faults:
        """The classifier of this endpoint's errors; it knows what must not be told."""
        key = [self.api_key.get_secret_value()] if self.api_key is not None else []
        return Faults(self.name, [*key, *self.default_headers.values()])

    def client(self) -> openai.AsyncOpenAI:
        """A client that never retries by itself: retries are Temporal's."""
        key = self.api_key.get_secret_value() if self.api_key is not None else _NO_KEY
        client = openai.AsyncOpenAI(
            api_key=key,
            base_url=self.base_url,
            timeout=httpx2.Timeout(self.timeout_s, connect=min(self.timeout_s, _CONNECT_S)),
            max_retries=0,
            default_headers=self.default_headers,
        )
        if self.base_url.rstrip("/") != OPENAI_URL:
            # The package takes these from the environment, for whatever address.
            client.organization = client.project = None
        return client


@asynccontextmanager
async def classified(faults: Faults) -> AsyncGenerator[None]:
    """Turn what goes wrong inside into our own errors.

    The original is not chained: its message may quote the key, and causes end up in the history.
    """
    try:
        yield
    except (
        ModelError,
        openai.OpenAIError,
        httpx2.HTTPError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        RecursionError,
    ) as error:
        raise faults.of(error) from None


async def drain(stream: openai.AsyncStream[Any]) -> None:
    """Read what is left after the last event: only a connection whose body was read to its end is used again."""
    with suppress(TimeoutError, openai.OpenAIError, httpx2.HTTPError, ValueError):
        async with asyncio.timeout(_DRAIN_S):
            async for _ in stream:
                pass


def as_json(value: object) -> Json:
    """An object of the package as plain JSON, with exactly the fields that were sent; empty when it is none."""
    if isinstance(value, openai.BaseModel):
        return cast("Json", value.to_dict(mode="json", warnings=False))
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True, warnings=False)
    return cast("Json", value) if isinstance(value, dict) else {}


def objects(value: object) -> list[Json]:
    """The objects in a JSON array; empty when it is none."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Json", item) for item in items if isinstance(item, dict)]


def count(value: object) -> int:
    """A token count; 0 when it is none, or none that can be: numbers of thousands of digits cannot even be written."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST_TOKENS else 0
