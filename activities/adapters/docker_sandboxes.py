"""The Docker adapter of the sandbox port: the blocking parts in threads, under one asynchronous face."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from activities.adapters.docker_client import Daemon
from activities.adapters.docker_control import ContainerControl
from activities.adapters.docker_exec import CommandRunner, Step, Steps
from activities.adapters.docker_files import ContainerFiles
from activities.adapters.docker_sandbox import ContainerFactory
from activities.errors import SandboxUnavailable
from activities.ports.sandbox import (
    CommandEnd,
    CommandRequest,
    Container,
    ContainerState,
    Owned,
    SandboxIdentity,
    Sink,
)
from hibernaut.models import FileEntry, SandboxSpec

T = TypeVar("T")

STOP_AGAIN_S = 1.0
POLL_S = 0.1
"""Seconds between two looks at whether a running command is to be interrupted."""


class DockerSandboxes:
    """Sandboxes of one Docker daemon; implements the port `Sandboxes`."""

    def __init__(self, daemon: Daemon, home: Mapping[str, str] | None = None) -> None:
        """Use this daemon; `home` are the labels that tell this host's and deployment's containers from others'."""
        self._daemon = daemon
        self._factory = ContainerFactory(daemon, home)
        self._control = ContainerControl(daemon, home)
        self._runner = CommandRunner(daemon)
        self._files = ContainerFiles(daemon)

    async def check(self) -> None:
        """See the port."""
        # Making the client asks the daemon already: that too belongs in the thread.
        await self._daemon.call(lambda: self._daemon.client.ping())  # noqa: PLW0108

    async def acquire(self, identity: SandboxIdentity, spec: SandboxSpec, image_id: str | None) -> Container:
        """See the port."""
        return await asyncio.to_thread(self._factory.acquire, identity, spec, image_id)

    async def run(
        self, sandbox_id: str, request: CommandRequest, sink: Sink, interrupted: Callable[[], bool]
    ) -> CommandEnd:
        """See the port."""
        steps = self._runner.run(sandbox_id, request)
        stop_at = 0.0
        while True:
            taken = asyncio.ensure_future(asyncio.to_thread(_next, steps))
            try:
                while not taken.done():
                    await asyncio.wait({taken}, timeout=POLL_S)
                    if interrupted() and time.monotonic() >= stop_at and not taken.done():
                        # Again until it has ended: a stop before the command was claimed finds nothing to end.
                        stop_at = time.monotonic() + STOP_AGAIN_S
                        with contextlib.suppress(SandboxUnavailable):
                            await asyncio.to_thread(self._runner.stop, sandbox_id, request.exec_id)
                step = taken.result()
                for stream, data in step.pieces if step is not None else ():
                    if (slow := sink(stream, data)) is not None:
                        await slow
            except BaseException:
                # The command runs on; what reads from it ends when its thread has come back.
                taken.add_done_callback(lambda done: _abandon(done, steps))
                raise
            if step is None or step.end is not None:
                break
        if step is None or step.end is None:
            raise SandboxUnavailable(f"the result of {request.exec_id} did not come")
        return step.end

    async def inspect(self, sandbox_id: str) -> ContainerState:
        """See the port."""
        return await asyncio.to_thread(self._control.inspect, sandbox_id)

    async def start(self, sandbox_id: str) -> str:
        """See the port."""
        return await asyncio.to_thread(self._control.start, sandbox_id)

    async def pause(self, sandbox_id: str) -> None:
        """See the port."""
        await asyncio.to_thread(self._control.pause, sandbox_id)

    async def unpause(self, sandbox_id: str) -> None:
        """See the port."""
        await asyncio.to_thread(self._control.unpause, sandbox_id)

    async def owned(self) -> list[Owned]:
        """See the port."""
        return await asyncio.to_thread(self._control.owned)

    async def remove(self, sandbox_id: str) -> None:
        """See the port."""
        await asyncio.to_thread(self._control.remove, sandbox_id)
        self._runner.forget(sandbox_id)

    async def destroy(self, agent_uid: str, generation: int) -> list[str]:
        """See the port."""
        removed = await asyncio.to_thread(self._factory.destroy, agent_uid, generation)
        for sandbox_id in removed:
            self._runner.forget(sandbox_id)
        return removed

    async def list_files(self, sandbox_id: str, path: str) -> list[FileEntry]:
        """See the port."""
        return await asyncio.to_thread(self._files.list_files, sandbox_id, path)

    async def read_file(self, sandbox_id: str, path: str) -> AsyncIterator[bytes]:
        """See the port."""
        pieces = self._files.read_file(sandbox_id, path)
        while (piece := await asyncio.to_thread(_next, pieces)) is not None:
            yield piece

    async def put_file(self, sandbox_id: str, path: str, mode: int, chunks: AsyncIterator[bytes]) -> int:
        """See the port."""
        with tempfile.NamedTemporaryFile(prefix="hibernaut-put-") as spool:
            async for chunk in chunks:
                await asyncio.to_thread(spool.write, chunk)
            spool.flush()
            return await asyncio.to_thread(self._files.put_file, sandbox_id, path, mode, Path(spool.name))

    async def close(self) -> None:
        """See the port."""
        await asyncio.to_thread(self._runner.close)
        await asyncio.to_thread(self._daemon.close)


def _next(pieces: Iterator[T]) -> T | None:
    return next(pieces, None)


def _abandon(done: "asyncio.Future[Step | None]", steps: Steps) -> None:
    if not done.cancelled():
        done.exception()
    steps.close()
