"""Serves a scripted model inside a running event loop."""

import asyncio
import contextlib
import socket
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import Self

import uvicorn

from examples.scripted_model.server import Recorded, ScriptedApp
from examples.scripted_model.steps import Script


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.leave = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the process's signal handlers alone: this server is a guest."""
        yield

    async def main_loop(self) -> None:
        """Wait to be told to stop, rather than look for it ten times a second."""
        await self.on_tick(0)
        await self.leave.wait()


class ScriptedModel:
    """A model on a loopback port that does what its script says.

    Example:
        async with ScriptedModel([shell("ls"), say("done")]) as model:
            client = AsyncOpenAI(base_url=model.base_url, api_key=model.api_key)
    """

    def __init__(
        self,
        script: Script | Mapping[str, Script],
        *,
        model: str = "scripted",
        api_key: str = "scripted-key",
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Prepare; nothing listens before `async with`.

        Args:
            script: a list of steps, a function of the conversation, or several of these by name.
            model: the only model name served; with several scripts they are `<model>:<name>`.
            api_key: the bearer key that is asked for.
            host: address to listen on.
            port: port to listen on; 0 takes a free one.
        """
        self.model = model
        self.api_key = api_key
        self._app = ScriptedApp(script, model=model, api_key=api_key)
        self._address = (host, port)
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def base_url(self) -> str:
        """The address to give to a client."""
        return f"http://{self._address[0]}:{self._address[1]}/v1"

    @property
    def requests(self) -> list[Recorded]:
        """Every request so far, oldest first; keys are masked."""
        return self._app.requests

    def assert_consumed(self) -> None:
        """Raise AssertionError, naming them, when steps were never given."""
        self._app.assert_consumed()

    async def __aenter__(self) -> Self:
        """Listen."""
        listener = socket.create_server(self._address)
        # asyncio does it only for sockets that name their protocol; without it each answer waits 40 ms for an ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._address = (self._address[0], listener.getsockname()[1])
        config = uvicorn.Config(self._app.asgi, log_level="critical", access_log=False, lifespan="off")
        config.timeout_graceful_shutdown = 1
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started:
            if self._task.done():
                await self._task
                msg = "the scripted model did not start"
                raise RuntimeError(msg)
            await asyncio.sleep(0.005)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, dropping what is still open."""
        if self._server is not None and self._task is not None:
            self._server.leave.set()
            self._server.force_exit = True
            await self._task

    async def wait(self) -> None:
        """Serve until cancelled."""
        if self._task is not None:
            await asyncio.shield(self._task)
