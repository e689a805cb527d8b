"""The Docker daemon as the adapters reach it: one client, blocking calls in threads, errors in our terms."""

import asyncio
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cached_property
from http import HTTPStatus
from typing import Any, TypeVar, cast

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from docker.utils.socket import frames_iter  # pyright: ignore[reportUnknownVariableType]  # untyped

from activities.errors import SandboxLost, SandboxRefused, SandboxUnavailable

T = TypeVar("T")

_STREAMS = {1: "stdout", 2: "stderr"}

_LONG_ID = re.compile(r"\b[0-9a-f]{64}\b")

API_TIMEOUT_S = 120
"""Seconds a call may take that is not a stream; creating a container on a busy disk is the slowest."""


class Daemon:
    """A connection to one Docker daemon."""

    def __init__(self, base_url: str | None = None) -> None:
        """Reach it at this URL (`unix:///run/other.sock`); by default as `DOCKER_HOST` says, else its usual socket."""
        self._base_url = base_url

    @cached_property
    def client(self) -> docker.DockerClient:
        """For calls that end soon. The first use asks the daemon for its version: use it in threads."""
        return self._client(API_TIMEOUT_S, 32)

    @cached_property
    def _patient(self) -> docker.DockerClient:
        # A command may be silent for hours: its stream has no read timeout.
        return self._client(None, 64)

    def _client(self, timeout: int | None, pool: int) -> docker.DockerClient:
        if self._base_url is None:
            return docker.DockerClient.from_env(timeout=timeout, max_pool_size=pool)  # pyright: ignore[reportArgumentType]  # requests takes None, the stub does not
        return docker.DockerClient(self._base_url, timeout=timeout, max_pool_size=pool)  # pyright: ignore[reportArgumentType]  # the same

    @property
    def api(self) -> Any:  # noqa: ANN401  # docker-py's low-level API is untyped
        """The low-level API, for calls that end soon."""
        return self.client.api

    @property
    def streams(self) -> Any:  # noqa: ANN401  # the same
        """The low-level API, for streams without a time limit."""
        return self._patient.api

    def frames(self, exec_id: str) -> Generator[tuple[str, bytes]]:
        """Start an exec and yield (`stdout` or `stderr`, bytes) until it ends; its connection is closed then."""
        # docker-py's own stream leaves its socket to the garbage collector.
        connection = self.streams.exec_start(exec_id, socket=True)
        try:
            pieces = cast("Iterator[tuple[int, bytes]]", frames_iter(connection, tty=False))
            for number, data in pieces:
                yield _STREAMS[number], data
        finally:
            response = getattr(connection, "_response", None)
            if response is not None:
                response.close()
            connection.close()

    async def call(self, function: Callable[[], T]) -> T:
        """Run a blocking call in a thread, its errors translated."""

        def guarded() -> T:
            with translated():
                return function()

        return await asyncio.to_thread(guarded)

    def close(self) -> None:
        """Release the connections there are."""
        for name in ("client", "_patient"):
            made = self.__dict__.pop(name, None)
            if made is not None:
                made.close()


@contextmanager
def translated() -> Generator[None]:
    """Docker's errors as ours: gone, refused, or not answering."""
    try:
        yield
    except NotFound as error:
        gone = _LONG_ID.sub(lambda found: found[0][:12], str(error.explanation or error))
        raise SandboxLost(f"the container is gone: {gone}") from error
    except APIError as error:
        text = str(error.explanation or error)
        if error.status_code == HTTPStatus.CONFLICT and "paused" in text:
            raise SandboxUnavailable("the container is held still while its snapshot is taken; try again") from error
        if error.status_code == HTTPStatus.CONFLICT and ("not running" in text or "removal" in text):
            raise SandboxLost(f"the container does not run: {text}") from error
        if error.is_client_error():
            raise SandboxRefused(f"the Docker daemon refused: {text}") from error
        raise SandboxUnavailable(f"the Docker daemon failed: {text}") from error
    except (requests.exceptions.RequestException, DockerException, OSError) as error:
        raise _unreachable(error) from error


def _unreachable(error: Exception) -> SandboxUnavailable:
    return SandboxUnavailable(
        f"no Docker daemon answers ({error}); start it, or set DOCKER_HOST to the one to use and restart the worker"
    )
