"""What running a command at most once costs over a plain exec: the same command, container and moment, both ways.

The plain one is docker-py's `exec_run`, which forgets a command with its client. Ours is journalled, outlives its
client and is found again under its id. For runc and gVisor, on one Docker daemon.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Self
from uuid import uuid4

from activities.adapters.docker_client import Daemon
from activities.adapters.docker_sandboxes import DockerSandboxes
from activities.ports.sandbox import CommandRequest, SandboxIdentity
from benchmarks.report import machine, middle, write
from hibernaut.models import OutcomeKind, SandboxSpec
from hibernaut.models.spec import Runtime
from tests.support.gvisor import RUNTIME, gvisor_dockerd

RUNS = 40
WARM_UP = 3
MEGABYTE = 1_000_000
COMMANDS = {"true": ("true", 0), "megabyte": (f"head -c {MEGABYTE} /dev/zero | tr '\\0' x", MEGABYTE)}
"""By name: the command, and the bytes it writes."""
WORDS = {"true": "`true`", "megabyte": "1 MB of output"}
RUNTIMES: tuple[Runtime, ...] = ("runc", RUNTIME)
WAYS = ("plain", "ours", "ours_first")
"""docker-py's exec_run; ours; ours as a worker's first command in a container, before it holds a channel into it."""

Way = Callable[[], Awaitable[None]]


class Contest:
    """One container in which commands are run in every way."""

    def __init__(self, host: str, runtime: Runtime) -> None:
        self._host = host
        self._runtime: Runtime = runtime
        self._daemon = Daemon(host)
        self._boxes = DockerSandboxes(self._daemon)
        self._uid = uuid4().hex
        self._sandbox_id = ""

    async def __aenter__(self) -> Self:
        """Start the container."""
        spec = SandboxSpec(runtime=self._runtime)
        self._sandbox_id = (await self._boxes.acquire(SandboxIdentity("bench", self._uid, 1), spec, None)).sandbox_id
        return self

    async def __aexit__(self, *_: object) -> None:
        """Remove it."""
        await self._boxes.destroy(self._uid, 1)
        await self._boxes.close()

    async def measure(self, command: str, size: int) -> dict[str, list[float]]:
        """Milliseconds of every run, by way; the ways take turns, each as often first as the others."""
        ways: dict[str, Way] = {
            "plain": lambda: self._plain(command, size),
            "ours": lambda: self._ours(self._boxes, command, size),
            "ours_first": lambda: self._first(command, size),
        }
        taken: dict[str, list[float]] = {name: [] for name in WAYS}
        for turn in range(WARM_UP + RUNS):
            for step in range(len(WAYS)):
                name = WAYS[(turn + step) % len(WAYS)]
                started = time.perf_counter()
                await ways[name]()
                if turn >= WARM_UP:
                    taken[name].append((time.perf_counter() - started) * 1000)
        return taken

    async def _plain(self, command: str, size: int) -> None:
        def run() -> None:
            container = self._daemon.client.containers.get(self._sandbox_id)
            code, output = container.exec_run(["sh", "-c", command])
            _check(code == 0 and isinstance(output, bytes) and len(output) == size)

        await asyncio.to_thread(run)

    async def _ours(self, boxes: DockerSandboxes, command: str, size: int) -> None:
        received = 0

        def sink(_stream: str, data: bytes) -> None:
            nonlocal received
            received += len(data)

        request = CommandRequest(uuid4().hex, command, 60_000)
        end = await boxes.run(self._sandbox_id, request, sink, lambda: False)
        _check(end.kind == OutcomeKind.EXIT and end.exit_code == 0 and received == size)

    async def _first(self, command: str, size: int) -> None:
        boxes = DockerSandboxes(self._daemon)
        try:
            await self._ours(boxes, command, size)
        finally:
            # Its channel alone: the connection to the daemon is everyone's.
            await asyncio.to_thread(boxes._runner.close)  # noqa: SLF001


def _check(held: bool) -> None:  # noqa: FBT001
    if not held:
        raise RuntimeError("a command did not end as it must; its time is no figure")


async def measure() -> None:
    """Run everything and write `results/exec.json` and `results/exec.md`."""
    times: dict[str, dict[str, dict[str, list[float]]]] = {}
    with tempfile.TemporaryDirectory(prefix="hibernaut-bench-") as folder:
        async with gvisor_dockerd(Path(folder)) as daemon:
            for runtime in RUNTIMES:
                async with Contest(daemon.host, runtime) as contest:
                    times[runtime] = {
                        name: await contest.measure(command, size) for name, (command, size) in COMMANDS.items()
                    }
    _report(times)


def _ratio(times: dict[str, list[float]], way: str) -> float:
    return round(middle(times[way]) / middle(times["plain"]), 2)


def _report(times: dict[str, dict[str, dict[str, list[float]]]]) -> None:
    figures: dict[str, object] = {
        runtime: {
            command: {
                **{f"{way}_ms": middle(by_way[way]) for way in WAYS},
                "ratio": _ratio(by_way, "ours"),
                "ratio_first": _ratio(by_way, "ours_first"),
            }
            for command, by_way in by_command.items()
        }
        for runtime, by_command in times.items()
    }
    figures |= {"n": RUNS, "machine": machine()}
    rows: list[Sequence[str]] = [
        ("runtime", "command", "plain exec, ms", "ours, ms", "ratio", "first in a container, ms", "ratio", "n")
    ]
    for runtime, by_command in times.items():
        for command, by_way in by_command.items():
            plain, ours, first = (f"{middle(by_way[way])}" for way in WAYS)
            ratios = [f"{_ratio(by_way, way)}" for way in WAYS[1:]]
            rows.append((runtime, WORDS[command], plain, ours, ratios[0], first, ratios[1], str(RUNS)))
    write("exec", figures, rows)


def main() -> None:
    """Entry point."""
    asyncio.run(measure())
