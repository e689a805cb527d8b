"""The bearer token, checked before anything else is looked at."""

import hmac
from collections.abc import Awaitable, Callable

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from workers.gateway.problems import WrongToken, problem

OPEN_PATHS = frozenset({"/healthz"})


class Guard:
    """ASGI middleware: 401 for whoever does not know the token, whatever they ask for."""

    def __init__(self, app: ASGIApp, token: SecretStr, variable: str = "HIBERNAUT_GATEWAY_TOKEN") -> None:
        """The token must not be empty."""
        if not token.get_secret_value():
            raise ValueError(f"{variable} is empty")
        self._app = app
        self._hint = f"Set {variable}."
        self._expected = f"Bearer {token.get_secret_value()}".encode()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass on what bears the token."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            return self._app(scope, receive, send)
        given = Headers(scope=scope).get("authorization", "").encode("latin-1", "replace")
        answer: Callable[[Scope, Receive, Send], Awaitable[None]] = self._app
        if not hmac.compare_digest(given, self._expected):
            answer = problem(WrongToken("The bearer token is missing or wrong.", hint=self._hint))
        return answer(scope, receive, send)
