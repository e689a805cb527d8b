"""The Docker adapter of the sandbox port: the blocking parts in threads, under one asynchronous face."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from activities.adapters.docker_client import Daemon
from activities.adapters.docker_exec import CommandRunner
from activities.adapters.docker_files import ContainerFiles
from activities.adapters.docker_sandbox import ContainerFactory
from activities.ports.sandbox import CommandEnd, CommandRequest, Container, SandboxIdentity, Sink
from hibernaut.models import FileEntry, SandboxSpec

STOP_AGAIN_S = 1.0
POLL_S = 0.1
"""Seconds between two looks at whether a running command is to be interrupted."""


class DockerSandboxes:
    """Sandboxes of one Docker daemon; implements the port `Sandboxes`."""

    def __init__(self, daemon: Daemon) -> None:
        """Use this daemon."""
        self._daemon = daemon
        self._factory = ContainerFactory(daemon)
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
        running = asyncio.create_task(asyncio.to_thread(self._runner.run, sandbox_id, request, sink))
        stop_at = 0.0
        while not running.done():
            await asyncio.wait({running}, timeout=POLL_S)
            if interrupted() and time.monotonic() >= stop_at and not running.done():
                # Again until it has ended: a stop that comes before the command was claimed finds nothing to end.
                stop_at = time.monotonic() + STOP_AGAIN_S
                await asyncio.to_thread(self._runner.stop, sandbox_id, request.exec_id)
        return await running

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


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)
