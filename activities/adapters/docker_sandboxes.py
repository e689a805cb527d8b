"""The Docker adapter of the sandbox port: the blocking parts in threads, under one asynchronous face."""

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from activities.adapters.disk_usage import Written
from activities.adapters.disk_watch import LIST_S, LOOK_S, DiskWatch
from activities.adapters.docker_client import Daemon, translated
from activities.adapters.docker_control import ContainerControl
from activities.adapters.docker_exec import CommandRunner, Step, Steps
from activities.adapters.docker_files import ContainerFiles
from activities.adapters.docker_result import CROWDED_BEFORE, DISK_FULL_BEFORE
from activities.adapters.docker_sandbox import ContainerFactory
from activities.adapters.ending import end_processes
from activities.adapters.image_policy import ANY_IMAGE, ImagePolicy
from activities.beside import beside
from activities.errors import SandboxError, SandboxRefused, SandboxUnavailable
from activities.ports.sandbox import (
    CommandEnd,
    CommandRequest,
    Container,
    ContainerState,
    Owned,
    SandboxIdentity,
    Sink,
)
from hibernaut.models import FileEntry, OutcomeKind, SandboxSpec

T = TypeVar("T")

log = logging.getLogger(__name__)

STOP_AGAIN_S = 1.0
LATE_S = 5.0
"""Seconds after a command's timeout when it should have been ended, as long as it takes a supervisor that can."""
POLL_S = 0.1
"""Seconds between two looks at whether a running command is to be interrupted."""


class DockerSandboxes:
    """Sandboxes of one Docker daemon; implements the port `Sandboxes`."""

    def __init__(self, daemon: Daemon, home: Mapping[str, str] | None = None, images: ImagePolicy = ANY_IMAGE) -> None:
        """Use this daemon.

        Args:
            daemon: Whose containers.
            home: The labels that tell this host's and deployment's containers from others'.
            images: Those this host allows.
        """
        self._daemon = daemon
        self._factory = ContainerFactory(daemon, home, images)
        self._control = ContainerControl(daemon, home)
        self._runner = CommandRunner(daemon)
        self._files = ContainerFiles(daemon)
        self._commands: dict[str, set[str]] = {}
        self._ending: set[str] = set()
        self._ended: dict[str, str] = {}
        """Containers whose processes were ended since their last command, and what is to be told of it."""

    async def check(self) -> None:
        """See the port."""
        # Making the client asks the daemon already: that too belongs in the thread.
        await self._daemon.call(lambda: self._daemon.client.ping())  # noqa: PLW0108

    async def fits(self, spec: SandboxSpec) -> None:
        """SandboxRefused when this host can never make a container of this spec, whatever room it has."""
        await asyncio.to_thread(self._factory.check, spec)

    async def acquire(self, identity: SandboxIdentity, spec: SandboxSpec, image_id: str | None) -> Container:
        """See the port."""
        return await asyncio.to_thread(self._factory.acquire, identity, spec, image_id)

    async def run(
        self, sandbox_id: str, request: CommandRequest, sink: Sink, interrupted: Callable[[], bool]
    ) -> CommandEnd:
        """See the port."""
        await self._settled(sandbox_id)
        with self._noted(sandbox_id, request.exec_id):
            try:
                end = await self._run(sandbox_id, request, sink, interrupted)
            except (SandboxUnavailable, SandboxRefused) as error:
                # With every process it may have, it takes no command, nor can it end one: the next attempt can.
                if await asyncio.to_thread(self._relieved, sandbox_id):
                    raise SandboxUnavailable("the sandbox had as many processes as it may (pids); try again") from error
                raise
        await self._settled(sandbox_id)
        # It was in the background, or this command is the one that did it.
        told = self._ended.pop(sandbox_id, "")
        return replace(end, detail=told) if told and end.kind is OutcomeKind.EXIT and not end.detail else end

    def _relieved(self, sandbox_id: str) -> bool:
        """Whether the container had as many processes as it may, and they were ended."""
        try:
            with translated():
                written = Written.find(self._daemon.api.inspect_container(sandbox_id))
        except SandboxError:
            return False
        if written is None or not written.crowded():
            return False
        log.warning("sandbox %s has as many processes as it may, and takes no command: they are ended", sandbox_id[:12])
        end_processes(written)
        self._ended[sandbox_id] = CROWDED_BEFORE
        return True

    @contextlib.asynccontextmanager
    async def disks_watched(self, reserve: int) -> AsyncGenerator[None]:
        """Hold containers to their disk limits, and keep `reserve` bytes of the host's disk free, during the block."""
        watch = DiskWatch(self._daemon, self._control, self._stopping, reserve=reserve)
        async with beside(self._watch(watch)):
            yield

    async def _watch(self, watch: DiskWatch) -> None:
        while True:
            try:
                await asyncio.to_thread(watch.look)
            except SandboxError as error:
                # Whoever needs the daemon meets the same, and says so.
                log.debug("the disks of sandboxes cannot be looked at: %s", error)
                await asyncio.sleep(LIST_S)
            except Exception:
                # A watch that ended would leave every sandbox of this host without its limit.
                log.exception("the disks of sandboxes cannot be looked at")
                await asyncio.sleep(LIST_S)
            await asyncio.sleep(LOOK_S)

    @contextlib.contextmanager
    def _stopping(self, sandbox_id: str) -> Generator[bool]:
        """See `DiskWatch`; called in its thread."""
        self._ending.add(sandbox_id)
        self._ended[sandbox_id] = DISK_FULL_BEFORE
        try:
            running = tuple(self._commands.get(sandbox_id, ()))
            for exec_id in running:
                try:
                    self._runner.stop(sandbox_id, exec_id, "disk")
                except SandboxError as error:
                    log.warning("the command %s cannot be told why it ends: %s", exec_id, error)
            yield bool(running)
        finally:
            self._ending.discard(sandbox_id)

    async def _settled(self, sandbox_id: str) -> None:
        """Until nobody ends the processes of the container."""
        while sandbox_id in self._ending:  # noqa: ASYNC110  # said by a thread
            await asyncio.sleep(POLL_S)

    @contextlib.contextmanager
    def _noted(self, sandbox_id: str, exec_id: str) -> Generator[None]:
        """Know the command as running during the block."""
        running = self._commands.setdefault(sandbox_id, set())
        running.add(exec_id)
        try:
            yield
        finally:
            running.discard(exec_id)
            if not running:
                self._commands.pop(sandbox_id, None)

    async def _run(
        self, sandbox_id: str, request: CommandRequest, sink: Sink, interrupted: Callable[[], bool]
    ) -> CommandEnd:
        steps = self._runner.run(sandbox_id, request)
        stop_at = 0.0
        late = time.monotonic() + request.timeout_ms / 1000 + LATE_S
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
                    if time.monotonic() > late and not taken.done():
                        # Who ends it inside may have found no room for a process to do so.
                        late += LATE_S
                        await asyncio.to_thread(self._relieved, sandbox_id)
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
        # Named after the container, whose destruction finds it should this process die.
        with tempfile.NamedTemporaryFile(prefix=f"hibernaut-put-{sandbox_id[:12]}-") as spool:
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
