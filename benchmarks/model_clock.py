"""The scripted model with a clock: it sees the steps of all engines from the same side, and can make them alternate."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

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


class Alternation:
    """Engines that work in turn, a step each: one is answered when all others wait for their answers.

    What else the machine does falls on all of them alike then. The waiting is the model's time.
    """

    def __init__(self, pause: float) -> None:
        """Prepare.

        Args:
            pause: seconds from one engine's request to the answer for the next: what an engine does while its model
                thinks is over by then, and hinders nobody.
        """
        self._pause = pause
        self._members: set[str] = set()
        self._waiting: dict[str, asyncio.Event] = {}

    def join(self, *names: str) -> None:
        """From now on these wait for each other."""
        self._members.update(names)

    def leave(self, name: str) -> None:
        """Nobody waits for this one any more."""
        self._members.discard(name)
        self._release()

    async def turn(self, name: str) -> None:
        """Wait for one's turn; at once for who has not joined."""
        if name not in self._members:
            return
        mine = self._waiting[name] = asyncio.Event()
        if self._all_wait():
            await asyncio.sleep(self._pause)
            self._release()
        await mine.wait()

    def _all_wait(self) -> bool:
        return bool(self._waiting) and self._members <= self._waiting.keys()

    def _release(self) -> None:
        """Let the one go that has waited longest."""
        if self._all_wait():
            self._waiting.pop(next(iter(self._waiting))).set()


class TimedModel(ScriptedModel):
    """A scripted model for one engine that knows when each request came and when its answer had left."""

    def __init__(self, script: Script, *, engine: str, alternation: Alternation) -> None:
        super().__init__(script)
        self._calls: list[ModelCall] = []
        self._seen = 0
        self._app.asgi.add_middleware(_Clock, calls=self._calls, engine=engine, alternation=alternation)

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
    def __init__(self, app: ASGIApp, calls: list[ModelCall], engine: str, alternation: Alternation) -> None:
        self._app = app
        self._calls = calls
        self._engine = engine
        self._alternation = alternation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = time.monotonic()

        async def timed(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._calls.append(ModelCall(received, time.monotonic()))

        await self._alternation.turn(self._engine)
        await self._app(scope, receive, timed)


def between(calls: Sequence[ModelCall]) -> list[float]:
    """Milliseconds from each answer to the request that followed it: what the engine and the command took."""
    return [(following.received - call.answered) * 1000 for call, following in pairwise(calls)]
