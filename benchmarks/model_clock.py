"""The scripted model with a clock of its own: the one place that sees every engine's steps from the same side."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.scripted_model import Script, ScriptedModel


@dataclass(frozen=True, slots=True)
class ModelCall:
    """When the model's server had a request; both in seconds of one monotonic clock."""

    received: float
    answered: float
    """When the last byte of the response was handed to the socket."""

    @property
    def seconds(self) -> float:
        """The model's own time."""
        return self.answered - self.received


class TimedModel(ScriptedModel):
    """A scripted model that knows when each request came and when its answer had left."""

    def __init__(self, script: Script | Mapping[str, Script]) -> None:
        super().__init__(script)
        self._calls: list[ModelCall] = []
        self._seen = 0
        self._app.asgi.add_middleware(_Clock, calls=self._calls)

    def taken(self) -> list[ModelCall]:
        """The calls since this was asked last.

        Raises:
            RuntimeError: The model refused one of them: what came after it is no figure of a working engine.
        """
        calls, requests = self._calls[self._seen :], self.requests[self._seen :]
        self._seen = len(self._calls)
        refused = next((request for request in requests if request.error is not None), None)
        if refused is not None:
            raise RuntimeError(f"The scripted model answered {refused.status}: {refused.error}")
        return calls


class _Clock:
    def __init__(self, app: ASGIApp, calls: list[ModelCall]) -> None:
        self._app = app
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = time.monotonic()

        async def timed(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._calls.append(ModelCall(received, time.monotonic()))

        await self._app(scope, receive, timed)


def between(calls: Sequence[ModelCall]) -> list[float]:
    """Milliseconds from each answer to the request that followed it: what the engine and the command took."""
    pairs = zip(calls, calls[1:], strict=False)
    return [(following.received - call.answered) * 1000 for call, following in pairs]
