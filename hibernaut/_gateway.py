"""The HTTP gateway seen from the client: everything bulk comes and goes through it."""

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

import httpx2
from pydantic import SecretStr

from hibernaut import errors
from hibernaut.errors import (
    AgentError,
    FileTooLarge,
    GatewayFailed,
    GatewayNotConfigured,
    GatewayRefused,
    GatewayUnreachable,
    HibernautError,
    InvalidSettings,
)

TIMEOUT = httpx2.Timeout(30.0, connect=4.0, read=300.0, write=300.0)
"""Reading waits long: a file put into a sleeping agent wakes it first."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
Params = Mapping[str, str | int]


def _by_code() -> dict[str, type[HibernautError]]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HibernautError)]
    return {kind.code: kind for kind in kinds}


_ERRORS = _by_code()


class GatewayClient:
    """A connection pool to one gateway, or to none: then every call says what to set."""

    def __init__(self, url: str | None, token: SecretStr | None) -> None:
        """Connects at the first call."""
        self._url = url.rstrip("/") if url else None
        self._token = token
        self._client: httpx2.AsyncClient | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def configured(self) -> bool:
        """Whether an address is known."""
        return self._url is not None

    def _pool(self) -> httpx2.AsyncClient:
        if self._url is None:
            raise GatewayNotConfigured(
                "Files, command output and older events come through the HTTP gateway, and its address is not known.",
                hint="Set HIBERNAUT_GATEWAY_URL and HIBERNAUT_GATEWAY_TOKEN, or start the stack with `make up`.",
            )
        if self._client is None:
            parts = urlsplit(self._url)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise InvalidSettings(
                    f"The gateway's address {self._url!r} is not a URL such as http://127.0.0.1:8484."
                )
            headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"} if self._token else {}
            # A proxy of the environment cannot reach this machine's own loopback.
            self._client = httpx2.AsyncClient(
                base_url=self._url, headers=headers, timeout=TIMEOUT, trust_env=parts.hostname not in LOOPBACK
            )
        return self._client

    @asynccontextmanager
    async def stream(self, path: str, params: Params | None = None) -> AsyncGenerator[httpx2.Response]:
        """GET a resource as a stream.

        Raises:
            HibernautError: the typed error the gateway's JSON names, or what kept it from answering.
        """
        pool = self._pool()
        with self._reporting():
            async with pool.stream("GET", _target(path, params)) as response:
                await self._check(response)
                yield response

    async def get_json(self, path: str, params: Params | None = None) -> Any:  # noqa: ANN401  # JSON is what it is
        """GET a small JSON document."""
        async with self.stream(path, params) as response:
            body = await response.aread()
        return json.loads(body)

    async def lines(self, path: str, params: Params | None = None) -> AsyncIterator[str]:
        """GET newline-delimited JSON, line by line."""
        async with self.stream(path, params) as response:
            async for line in response.aiter_lines():
                if line.strip():
                    yield line

    async def put(self, path: str, body: bytes | AsyncIterable[bytes], params: Params | None = None) -> Any:  # noqa: ANN401
        """PUT bytes, streamed, and return the JSON answer."""
        pool = self._pool()
        with self._reporting():
            response = await pool.put(_target(path, params), content=body)
            await self._check(response)
            return response.json()

    def _reporting(self) -> "_Reporting":
        return _Reporting(self._url or "")

    async def _check(self, response: httpx2.Response) -> None:
        if response.is_success:
            return
        await response.aread()
        raise _error(response, self._url or "")


class _Reporting:
    """Turns transport errors into ours."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            raise GatewayUnreachable(
                f"The gateway cannot be reached at {self._url}.",
                hint="`make up` starts it; else check HIBERNAUT_GATEWAY_URL.",
            ) from error
        if isinstance(error, httpx2.TransportError):
            raise GatewayUnreachable(
                f"The connection to the gateway at {self._url} broke: {error or type(error).__name__}.",
                hint="Its log says more; what was read so far is incomplete.",
            ) from error


def _error(response: httpx2.Response, url: str) -> HibernautError:
    try:
        body: dict[str, Any] = response.json()
        code, message, hint = str(body["code"]), str(body["message"]), str(body.get("hint", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return GatewayFailed(f"The gateway at {url} answered with status {response.status_code} and no reason.")
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        return GatewayRefused(
            f"The gateway at {url} refuses us: {message}", hint=hint or "Set HIBERNAUT_GATEWAY_TOKEN."
        )
    kind = _ERRORS.get(code)
    if kind is None:
        if response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return FileTooLarge(message, hint=hint)
        return GatewayFailed(f"The gateway answered: {message}", hint=hint)
    if kind is errors.AgentPaused:
        return errors.AgentPaused(message, reason=str(body.get("reason", "")), hint=hint)
    if issubclass(kind, AgentError):
        return kind(message, agent_id=str(body.get("agent_id", "")), hint=hint)
    return kind(message, hint=hint)


def _target(path: str, params: Params | None) -> str:
    """Path and query; names of files that are not UTF-8 go as the bytes they are."""
    return f"{path}?{urlencode(params, errors='surrogateescape')}" if params else path


def agent_path(agent_id: str, rest: str) -> str:
    """The gateway's path of something of an agent."""
    return f"/v1/agents/{quote(agent_id, safe='')}/{rest}"
