"""sandbox.assess and host.ping: what became of a sandbox, and whether its host is there."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

from temporalio import activity

from activities.errors import SandboxError, SandboxLost, SandboxUnavailable
from activities.heartbeat import beating
from activities.ports.host import FrozenMarks
from activities.ports.sandbox import ContainerState, Sandboxes
from hibernaut.contracts import HOST_PING, SANDBOX_ASSESS, AssessRequest, AssessResult, PingRequest, PingResult

KEEPING_RUNTIMES = frozenset({"", "runc", "crun", "io.containerd.runc.v2"})
"""Runtimes under which a container's files outlive its stop. gVisor keeps them in its own memory or file by default."""
START_TRIES = 3
START_PAUSE_S = 0.5
COUNT_S = 2.0
"""Seconds a ping waits for the daemon: the answer matters, the number does not."""


Wanted = Callable[[bytes], Awaitable[bool]]
"""Asks Temporal whether it still waits for the activity of a task token; `SandboxUnavailable` without an answer.

A task may have been on its way while its host was cut off and the agent went on without it.
"""


class Found(NamedTuple):
    """What became of a sandbox, and what was made of it."""

    state: Literal["running", "restarted", "gone"]
    reason: str
    started_at: str = ""


class AssessActivities:
    """Runs on a sandbox host's own queue."""

    def __init__(self, sandboxes: Sandboxes, marks: FrozenMarks, wanted: Wanted, lease_seconds: float) -> None:
        """Use this host's sandboxes.

        Args:
            sandboxes: The host's.
            marks: Which of them the watchdog froze.
            wanted: Asked before a sandbox is let go on.
            lease_seconds: What leases say from now on.
        """
        self._sandboxes = sandboxes
        self._marks = marks
        self._wanted = wanted
        self._lease_seconds = lease_seconds

    @activity.defn(name=SANDBOX_ASSESS.name)
    async def assess(self, request: AssessRequest) -> AssessResult:
        """Find out what became of a sandbox, and let it go on where its files are still there.

        The agent that holds it asks: that is the word on which a frozen sandbox is thawed and a stopped one is started.

        Raises:
            SandboxUnavailable: The daemon does not answer, or the agent asks no more.
        """
        begun = time.monotonic()
        async with beating():
            found = await self._look(request.lease.sandbox_id, request.lease.started_at)
        activity.logger.info("%s is %s: %s", request.lease.sandbox_id, found.state, found.reason)
        known = {"started_at": found.started_at, "lease_seconds": self._lease_seconds}
        return AssessResult(
            state=found.state,
            lease=request.lease if found.state == "gone" else request.lease.model_copy(update=known),
            reason=found.reason,
            duration_ms=int((time.monotonic() - begun) * 1000),
        )

    async def _look(self, sandbox_id: str, started_at: str) -> Found:
        thawed = self._marks.holds(sandbox_id)
        if thawed:
            # Before it is asked about: of one that froze as a command started, a daemon may tell nothing.
            with contextlib.suppress(SandboxLost):
                await self._thaw(sandbox_id)
        try:
            state = await self._sandboxes.inspect(sandbox_id)
        except SandboxLost:
            self._marks.release(sandbox_id)
            return Found("gone", "its container was removed")
        if not state.running:
            return await self._revive(sandbox_id, state)
        same = started_at in {"", state.started_at}
        if not same and state.runtime not in KEEPING_RUNTIMES:
            return Found("gone", f"its container was restarted, which loses its files under {state.runtime}")
        if state.paused:
            thawed = True
            try:
                await self._thaw(sandbox_id)
            except SandboxLost as error:
                return Found("gone", f"it was frozen and could not be thawed: {error}")
        if same:
            return Found("running", "it was frozen and goes on" if thawed else "it runs", state.started_at)
        return Found("restarted", f"its container was restarted at {state.started_at}", state.started_at)

    async def _thaw(self, sandbox_id: str) -> None:
        await self._confirm(sandbox_id)
        # Released before it is thawed: the watchdog, should it freeze again meanwhile, marks after it froze.
        self._marks.release(sandbox_id)
        await self._sandboxes.unpause(sandbox_id)

    async def _confirm(self, sandbox_id: str) -> None:
        if not await self._wanted(activity.info().task_token):
            raise SandboxUnavailable(f"{sandbox_id[:12]} is left as it is: its agent does not ask for it any more")

    async def _revive(self, sandbox_id: str, state: ContainerState) -> Found:
        """Start a stopped container again, if its files are still there."""
        how = _ending(state)
        if state.runtime not in KEEPING_RUNTIMES:
            return Found("gone", f"{how}, which loses its files under {state.runtime}")
        await self._confirm(sandbox_id)
        self._marks.release(sandbox_id)
        why = "it ended again at once"
        for attempt in range(START_TRIES):
            await asyncio.sleep(START_PAUSE_S * attempt)
            try:
                started_at = await self._sandboxes.start(sandbox_id)
            except SandboxLost as error:
                return Found("gone", f"{how}, and it cannot be started again: {error}")
            except SandboxUnavailable as error:
                why = str(error)
                # A daemon that answers this is there, and what failed is the container.
                await self._sandboxes.inspect(sandbox_id)
            except SandboxError as error:
                return Found("gone", f"{how}, and it cannot be started again: {error}")
            else:
                if (await self._sandboxes.inspect(sandbox_id)).running:
                    return Found("restarted", f"{how}; it was started again", started_at)
        return Found("gone", f"{how}, and it cannot be started again: {why}")


class PingActivities:
    """Runs on a sandbox host's control queue, which has slots of its own: a host that is full still answers."""

    def __init__(self, host_id: str, sandboxes: Sandboxes) -> None:
        """Answer for this host."""
        self._host_id = host_id
        self._sandboxes = sandboxes
        self._count = 0

    @activity.defn(name=HOST_PING.name)
    async def ping(self, request: PingRequest) -> PingResult:
        """Say that the host is there. It is so whatever its Docker daemon does: the number may be an old one."""
        del request
        try:
            async with asyncio.timeout(COUNT_S):
                self._count = len(await self._sandboxes.owned())
        except (TimeoutError, SandboxError) as error:
            activity.logger.warning("the sandboxes of this host cannot be counted: %s", error or "no answer in time")
        return PingResult(host_id=self._host_id, sandboxes=self._count)


def _ending(state: ContainerState) -> str:
    """How a stopped container ended, as a clause."""
    if state.oom_killed:
        return f"its container ran out of memory and ended with exit code {state.exit_code}"
    return f"its container ended with exit code {state.exit_code}"
