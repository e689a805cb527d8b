"""One child process of the stack: started, watched, started again when it crashes, stopped in good order."""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from workers.devstack.errors import ChildFailed

Say = Callable[[str], None]

_LAUNCH = Path(__file__).with_name("launch.py")
_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 30.0
_STEADY = 60.0
"""A child that ran this long, in seconds, is trusted again: the next crash is answered at once."""
_LOG_LIMIT = 16 * 1024 * 1024
_TAIL_LINES = 12


class Child:
    """A supervised process with a log of its own."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        say: Say,
        cwd: Path,
        grace: float,
    ) -> None:
        """Describe the process; `start` runs it.

        Args:
            name: What the messages call it.
            argv: The program and its arguments.
            env: Its whole environment.
            log: Where its output goes; kept from run to run.
            say: Told of crashes and restarts.
            cwd: Its working directory.
            grace: Seconds it has to end after SIGTERM before it is killed.
        """
        self.name = name
        self._argv = [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid()), *argv]
        self._env = dict(env)
        self._log = log
        self._say = say
        self._cwd = cwd
        self._grace = grace
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process is not None and running else None

    async def start(self, healthy: Callable[[], Awaitable[bool]], *, timeout: float) -> None:
        """Run the process and return once it is healthy; from then on a crash is answered with a restart.

        Raises:
            ChildFailed: It ended before it was healthy, or was not healthy within `timeout` seconds.
        """
        process = await self._spawn()
        deadline = time.monotonic() + timeout
        try:
            while not await healthy():
                if process.returncode is not None:
                    raise ChildFailed(f"{self.name} {_ending(process.returncode)} before it was ready. {self._words()}")
                if time.monotonic() > deadline:
                    raise ChildFailed(f"{self.name} was not ready within {timeout:.0f} s. {self._words()}")
                await asyncio.sleep(0.1)
        except BaseException:
            await self.stop()
            raise
        self._watch = asyncio.create_task(self._supervise(process), name=f"devstack {self.name}")

    async def stop(self) -> None:
        """End the process and whatever it started: SIGTERM, then, when its grace is over, SIGKILL."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), self._grace)
            except TimeoutError:
                self._say(f"{self.name} did not stop within {self._grace:.0f} s and is killed")
        self.kill()
        await process.wait()
        self._process = None

    def kill(self) -> None:
        """End the process and its descendants at once."""
        if self._process is not None:
            # The child leads a process group of its own, so this reaches what it left behind, and nothing else.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _spawn(self) -> Process:
        if self._log.exists() and self._log.stat().st_size > _LOG_LIMIT:
            self._log.replace(self._log.with_suffix(".log.1"))
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
                env=self._env,
                cwd=self._cwd,
                # Ctrl-C at a terminal reaches us alone: we stop the children, in order.
                start_new_session=True,
            )
        return self._process

    async def _supervise(self, process: Process) -> None:
        backoff = _FIRST_BACKOFF
        while True:
            started = time.monotonic()
            code = await process.wait()
            if time.monotonic() - started > _STEADY:
                backoff = _FIRST_BACKOFF
            self._say(f"{self.name} {_ending(code)}; starting it again in {backoff:.1f} s (log: {self._log})")
            self.kill()
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, _LONGEST_BACKOFF)
            process = await self._spawn()
            self._say(f"{self.name} runs again (pid {process.pid})")

    def _words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines() if self._log.exists() else []
        return f"The end of its log, {self._log}:\n" + "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:])


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
