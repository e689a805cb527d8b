"""What isolation and a network mode cost: start and exec, ours beside plain Docker in the same run."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from activities.adapters.docker_client import Daemon
from activities.ports.sandbox import CommandRequest, SandboxIdentity
from benchmarks.report import middle
from deploy.setup.gvisor import FLAGS, ensure_gvisor
from hibernaut.models import OutcomeKind, SandboxSpec
from tests.support.boxes import IMAGE
from tests.support.dockerd import RuntimeConfig, SecondDockerd
from tests.support.egress_host import EgressHost, egress_host

CONNECTED = tuple("--network=host" if flag == "--network=none" else flag for flag in FLAGS)
"""gVisor as an allowlist needs it: the container's own network namespace."""
MODES = {"runc": ("none", "allowlist", "open"), "runsc": ("none", "allowlist")}
"""The daemon that offers gVisor here is a second one, which has no bridge for the mode open."""
WARM_UP = 2


class Pair:
    """One runtime and network mode, ours and plain Docker's."""

    def __init__(self, host: EgressHost, runtime: str, mode: str) -> None:
        self._host, self._runtime, self._mode = host, runtime, mode
        allow = ["example.com"] if mode == "allowlist" else []
        network = {"mode": mode, "allow": allow}
        self._spec = SandboxSpec.model_validate({"runtime": runtime, "network": network})
        self._uid = uuid4().hex
        self._generation = 0
        self._ours = self._plain = ""

    async def measure(self, starts: int, execs: int) -> dict[str, float]:
        """Median milliseconds and ratios; the two take turns."""
        times: dict[str, list[float]] = {"plain_start": [], "start": [], "plain_exec": [], "exec": []}
        ways: dict[str, Callable[[], Awaitable[None]]] = {"plain_start": self._start_plain, "start": self._start}
        try:
            await self._in_turns(ways, starts, times, after=self._drop)
            await self._start_plain()
            await self._start()
            ways = {"plain_exec": self._exec_plain, "exec": self._exec}
            await self._in_turns(ways, execs, times, after=None)
        finally:
            await self._drop()
        figures = {f"{name}_ms": middle(taken) for name, taken in times.items()}
        ratios = {f"{what}_ratio": figures[f"{what}_ms"] / figures[f"plain_{what}_ms"] for what in ("start", "exec")}
        return {**figures, **{name: round(ratio, 2) for name, ratio in ratios.items()}}

    async def _in_turns(
        self,
        ways: dict[str, Callable[[], Awaitable[None]]],
        runs: int,
        times: dict[str, list[float]],
        *,
        after: Callable[[], Awaitable[None]] | None,
    ) -> None:
        names = list(ways)
        for turn in range(WARM_UP + runs):
            for name in names if turn % 2 else reversed(names):
                begun = time.perf_counter()
                await ways[name]()
                if turn >= WARM_UP:
                    times[name].append((time.perf_counter() - begun) * 1000)
            if after is not None:
                await after()

    async def _start(self) -> None:
        self._generation += 1
        identity = SandboxIdentity("bench", self._uid, self._generation)
        self._ours = (await self._host.boxes.acquire(identity, self._spec, None)).sandbox_id

    async def _start_plain(self) -> None:
        def start() -> str:
            made: Any = self._host.daemon.client.containers.create(
                IMAGE,
                ["sleep", "1000"],
                init=True,
                runtime=self._runtime,
                network_mode="bridge" if self._mode == "open" else "none",
            )
            made.start()
            return str(made.id)

        self._plain = await asyncio.to_thread(start)

    async def _exec(self) -> None:
        request = CommandRequest(uuid4().hex, "true", 60_000)
        end = await self._host.boxes.run(self._ours, request, lambda _stream, _data: None, lambda: False)
        if (end.kind, end.exit_code) != (OutcomeKind.EXIT, 0):
            raise RuntimeError(f"a command did not end as it must: {end}")

    async def _exec_plain(self) -> None:
        def run() -> None:
            done: Any = self._host.daemon.client.containers.get(self._plain).exec_run(["true"])
            if done.exit_code != 0:
                raise RuntimeError(f"a command did not end as it must: {done}")

        await asyncio.to_thread(run)

    async def _drop(self) -> None:
        """Remove both."""
        await self._host.boxes.destroy(self._uid, self._generation)
        if self._plain:
            await asyncio.to_thread(self._host.daemon.api.remove_container, self._plain, force=True, v=True)
        self._ours = self._plain = ""


async def measure(starts: int, execs: int, *, gvisor: bool) -> dict[str, dict[str, dict[str, float]]]:
    """By runtime and network mode; runc on the machine's own daemon, gVisor on a second one."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="hb-") as name:
        folder = Path(name)

        async def of(runtime: str, daemon: Daemon) -> None:
            async with egress_host(folder / runtime, daemon) as host:
                found[runtime] = {
                    mode: await Pair(host, runtime, mode).measure(starts, execs) for mode in MODES[runtime]
                }

        await of("runc", Daemon())
        if gvisor:
            runtimes = {"runsc": RuntimeConfig(str(await asyncio.to_thread(ensure_gvisor)), CONNECTED)}
            async with SecondDockerd(folder / "d", runtimes=runtimes) as second:
                await second.load(IMAGE)
                await of("runsc", Daemon(second.host))
    return found
