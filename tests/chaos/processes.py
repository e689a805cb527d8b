"""A worker as its supervisor sees it: a process that is started, killed, and started again."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError

from hibernaut.contracts import TASK_QUEUE
from workers.devstack.settings import CHECKOUT, server_environment
from workers.devstack.temporal import worker_polls

_READY_S = 60.0


class WorkerProcess:
    """`python -m workers` with an environment of its own."""

    def __init__(self, environ: Mapping[str, str], log: Path) -> None:
        """Prepare; `start` runs it."""
        self._environ = {**server_environment(os.environ), **environ}
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def runs(self) -> bool:
        """Whether it does."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Run it; returns at once."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "workers", env=self._environ, cwd=CHECKOUT,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    async def ready(self, client: Client) -> None:
        """Wait until it asks for work.

        Raises:
            RuntimeError: It ended, or does not within a minute; with the end of its log.
        """
        since, deadline = time.time() - 0.5, time.monotonic() + _READY_S
        while True:
            try:
                if await worker_polls(client, TASK_QUEUE, since=since):
                    return
            except RPCError:
                pass
            if not self.runs or time.monotonic() > deadline:
                raise RuntimeError(f"the worker did not come up:\n{self.words()}")
            await asyncio.sleep(0.1)

    async def kill(self) -> None:
        """End it with SIGKILL."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End it with SIGTERM, and SIGKILL when it takes too long."""
        try:
            async with asyncio.timeout(20):
                await self._end(signal.SIGTERM)
        except TimeoutError:
            await self._end(signal.SIGKILL)

    async def crash(self) -> None:
        """End it together with its watchdog, as the crash of its machine would."""
        await self.kill()
        self.end_watchdog(signal.SIGKILL)

    def end_watchdog(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the watchdog it has started, which outlives it on purpose."""
        home = f"HIBERNAUT_HOME={self._environ['HIBERNAUT_HOME']}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                ours = home in (entry / "environ").read_bytes().split(b"\0")
                if ours and b"workers.watchdog" in (entry / "cmdline").read_bytes():
                    os.kill(int(entry.name), number)

    def words(self) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])

    async def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
            await self._process.wait()
