"""The nearest peer under the faults of the chaos suite: measured, not asserted. Each case is bounded by `PATIENCE`.

Same Temporal, Docker daemon, image and scripted model as ours. The peer's agent makes three shell calls, each of which
appends a line with a number of its own to a file, and reads the file at last. An activity of the peer may take 45 s
here rather than its default of five minutes, which is to its favour: nothing else tells it that a worker has died.
"""

import asyncio
import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
from docker.errors import NotFound
from temporalio.client import Client, WorkflowFailureError
from temporalio.service import RPCError

from benchmarks.bench_peer_steps import PEER
from benchmarks.peer_environment import peer_python
from benchmarks.report import RESULTS
from deploy.setup.console import SetupError
from examples.scripted_model import CallSpec, Conversation, Reply, ScriptedModel, Step, calls, http_error, say
from hibernaut.models.spec import DEFAULT_IMAGE
from workers.devstack.settings import SERVERS, Component, Ports
from workers.devstack.stack import DevStack

WORKER = Path(__file__).parent / "peers" / "openai_agents_worker.py"
PATIENCE = 150.0
"""Seconds from the fault to the answer."""
LOOK = "cat ledger | cut -d' ' -f1"
NAMES = ("c1", "c2", "c3")
_END = "the end of"


def _command(name: str, body: str) -> str:
    return f'echo "{name} $(cat /proc/sys/kernel/random/uuid)" >> ledger; {body}; echo {_END} {name}'


@dataclass(frozen=True, slots=True)
class PeerCase:
    """A fault."""

    title: str
    strike: "Callable[[PeerTrial], Awaitable[None]] | None" = None
    """What is done while the second command runs; nothing when the command itself is the fault."""
    body: str = "sleep 5"
    """The second command."""
    turns: int = 1
    """2: the third command is asked for by a second message."""
    steps: Sequence[Step] = ()
    """What the model does before its second reply."""


@dataclass
class PeerTrial:
    """A run of a case."""

    case: PeerCase
    stack: DevStack
    python: Path
    temporal: Client
    home: Path
    label: str = field(default_factory=lambda: f"hibernaut.benchmark.{uuid4().hex[:8]}")
    engine: docker.DockerClient = field(default_factory=docker.from_env)
    worker: asyncio.subprocess.Process | None = None
    seen: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Numbers of the executions, by command."""
    hit: float = 0.0
    next_success: float | None = None
    told: dict[str, str] = field(default_factory=dict[str, str])
    """What the model was told of each command."""
    environ: dict[str, str] = field(default_factory=dict[str, str])
    steps: list[Step] = field(default_factory=list[Step])
    _begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the second command was seen to run, or the model failed in its place."""

    def play(self, conversation: Conversation) -> Step:
        """The scripted model."""
        made = len(conversation.calls)
        for name, call in zip(NAMES, conversation.calls, strict=False):
            self.told[name] = "".join(result.stdout for result in call.results)
        if self.hit and made >= 2 and self.next_success is None:
            self.next_success = time.monotonic()
        if made == 1 and self.steps:
            self.hit = self.hit or time.monotonic()
            return self.steps.pop(0)
        if self.case.turns == 2 and made == 2 and len(conversation.said("user")) == 1:
            return say("half")
        if made < len(NAMES):
            return _exec(_command(NAMES[made], self.case.body if made == 1 else "true"))
        return _exec(LOOK) if made == len(NAMES) else say(conversation.calls[-1].results[0].stdout)

    async def start_worker(self) -> None:
        """Start the peer's worker."""
        job = {
            "temporal_address": self.stack.temporal_address,
            "temporal_namespace": self.stack.namespace,
            "task_queue": self.label,
        }
        with (self.home / f"{self.label}.log").open("ab") as log:
            self.worker = await asyncio.create_subprocess_exec(
                str(self.python),
                str(WORKER),
                json.dumps(job),
                env={**os.environ, **self.environ},
                stdout=log,
                stderr=log,
            )

    async def kill_worker(self) -> None:
        """End it with SIGKILL."""
        if self.worker is not None and self.worker.returncode is None:
            self.worker.kill()
            await self.worker.wait()

    def containers(self) -> list[Any]:
        """The peer's containers."""
        return self.engine.containers.list(all=True, filters={"label": self.label})

    async def watch(self) -> None:
        """Note every line of every ledger, from outside."""
        while True:
            with contextlib.suppress(NotFound, OSError):
                await asyncio.to_thread(self._look)
            if "c2" in self.seen or self.hit:
                self._begun.set()
            await asyncio.sleep(0.1)

    def _look(self) -> None:
        for container in self.containers():
            upper = Path(container.attrs["GraphDriver"]["Data"]["UpperDir"])
            for ledger in (*upper.glob("*/ledger"), *upper.glob("*/*/ledger")):
                for line in ledger.read_text().splitlines():
                    name, _, number = line.partition(" ")
                    if number:
                        self.seen.setdefault(name, set()).add(number)

    async def run(self, model: ScriptedModel) -> dict[str, object]:
        """Play it; a row of the table."""
        self.environ = {
            "OPENAI_API_KEY": model.api_key,
            "OPENAI_BASE_URL": model.base_url,
            "OPENAI_DEFAULT_MODEL": model.model,
            # Its traces would go to a service on the internet.
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
        }
        self.steps = list(self.case.steps)
        await self.start_worker()
        watching = asyncio.create_task(self.watch())
        answer = ""
        try:
            answer = await self._turn()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await self.kill_worker()
            left = await asyncio.to_thread(self.containers)
            for container in left:
                container.remove(force=True, v=True)
            self.engine.close()
        return self._row(answer)

    async def _turn(self) -> str:
        handle = await self.temporal.start_workflow(
            "PeerFaultAgent",
            {
                "messages": ["go", "go on"][: self.case.turns],
                "image": DEFAULT_IMAGE,
                "label": self.label,
                "snapshots": str(self.home / "snapshots"),
            },
            id=self.label,
            task_queue=self.label,
            result_type=str,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                await self._begun.wait()
                self.hit = self.hit or time.monotonic()
                if self.case.strike is not None:
                    await self.case.strike(self)
                return str(await handle.result())
        except (TimeoutError, WorkflowFailureError, RPCError) as error:
            print(f"{self.case.title}: {type(error).__name__} {error.__cause__ or error}"[:300])
            with contextlib.suppress(RPCError):
                await handle.terminate("the benchmark has waited long enough")
            return ""

    def _row(self, answer: str) -> dict[str, object]:
        ledger = set(answer.split())
        # Without an answer nobody has any of the work.
        lost = [name for name in NAMES if name not in ledger or f"{_END} {name}" not in self.told.get(name, "")]
        twice = sum(len(numbers) - 1 for numbers in self.seen.values())
        told = bool(answer) and all(
            "exited with code 0" not in self.told.get(name, "exited with code 0") for name in lost
        )
        survived = set(NAMES) <= ledger and twice == 0 and (told or not lost)
        seconds = None if self.next_success is None or not answer else round(self.next_success - self.hit, 1)
        return {
            "fault": self.case.title,
            "runs": 1,
            "survived": int(survived),
            "commands_twice": twice,
            "calls_lost": len(lost),
            "told": told or not lost,
            "seconds_median": seconds,
        }


def _exec(command: str) -> Reply:
    return calls([CallSpec(name="exec_command", arguments=json.dumps({"cmd": command, "yield_time_ms": 30_000}))])


async def _kill_worker(trial: PeerTrial) -> None:
    await trial.kill_worker()
    await trial.start_worker()


async def _remove_container(trial: PeerTrial) -> None:
    for container in await asyncio.to_thread(trial.containers):
        container.remove(force=True, v=True)


async def _kill_container(trial: PeerTrial) -> None:
    for container in await asyncio.to_thread(trial.containers):
        container.kill()


async def _kill_temporal(trial: PeerTrial) -> None:
    pid = trial.stack.pid(Component.TEMPORAL)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


CASES = (
    PeerCase("no fault"),
    PeerCase("worker `kill -9` during a command", _kill_worker),
    PeerCase("container `docker rm -f` during a command", _remove_container),
    PeerCase("container `docker kill` during a command", _kill_container),
    PeerCase("Temporal server `kill -9` during a command, started again on its file", _kill_temporal),
    PeerCase("model API: 500, three times", steps=[http_error(500)] * 3),
    PeerCase("3 MB of output of one command", body="head -c 3000000 /dev/zero | tr '\\0' x; echo"),
    PeerCase("two turns, nothing broken", turns=2),
    PeerCase("an absolute symbolic link in the workspace, two turns", body="ln -s /usr/bin/python3 link", turns=2),
    PeerCase("a FIFO in the workspace, two turns", body="mkfifo pipe", turns=2),
)


async def measure(python: Path) -> list[dict[str, object]]:
    """Run every case."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="hibernaut-bench-") as folder:
        home = Path(folder)
        async with DevStack(home / "stack", ports=Ports.free(), components=SERVERS) as stack:
            temporal = await Client.connect(stack.temporal_address, namespace=stack.namespace)
            wanted = os.environ.get("PEER_CASES", "")
            for case in CASES:
                if wanted in case.title:
                    trial = PeerTrial(case, stack, python, temporal, home)
                    async with ScriptedModel(trial.play) as model:
                        rows.append(await trial.run(model))
                    print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Write `results/faults-peer.json` and `results/faults-peer.md`."""
    try:
        rows = asyncio.run(measure(peer_python()))
    except SetupError as error:
        rows = [{"fault": "none could be tried", "why": str(error)}]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "faults-peer.json").write_text(json.dumps(rows, indent=2) + "\n")
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([str(value) for value in row.values()] for row in rows)]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    (RESULTS / "faults-peer.md").write_text(f"{PEER}\n\n{text}")


if __name__ == "__main__":
    main()
