"""Snapshots of a container with 300 MB of work in 20,000 files: ours and its peers, interleaved in one run.

`make bench-snapshots`; with arguments no results are written, and with ARGS=--quick they mean nothing. Ours runs in a
process that stays up between snapshots, as a worker does; restic and borg are a process each time, as they are used. A
round is: 1 % of the work changes, then each subject in turn snapshots that, snapshots again with nothing run in
between, and once more after a command that changed nothing. Each waits for the disk first, so that nobody pays for
what the one before it wrote; ours does not after a change, and pays for writing that.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from activities.adapters.docker_client import Daemon
from activities.adapters.stores import open_store
from benchmarks.snapshot_agents import AgentsSdk
from benchmarks.snapshot_boxes import BenchBoxes, own_dockerd
from benchmarks.snapshot_ours import Kind
from benchmarks.snapshot_plan import AT_MOST, STAGES, Plan, plan_of
from benchmarks.snapshot_process import Partner, clean_environment
from benchmarks.snapshot_programs import Borg, DockerCommit, DockerCommitZstd, Restic, Tar, settle
from benchmarks.snapshot_results import Results, report
from benchmarks.snapshot_subjects import OurSubject, Subject, Taken
from benchmarks.snapshot_workload import Workload
from deploy.setup.peers import ensure_peers
from tests.support.boxes import Box
from tests.support.seaweed import S3Server, seaweed_server

BUCKET = "bench"
OURS: dict[str, tuple[str, Kind, str]] = {
    "ours": ("s3", "host", ""),
    "ours_sealed": ("s3", "host", "sealed"),
    "ours_file": ("file", "host", ""),
    "ours_api": ("s3", "api", ""),
}
"""By name: kind of store, how files are reached, and whether what is stored is encrypted."""


class Bench:
    """One run."""

    def __init__(self, plan: Plan, folder: Path, server: S3Server, stack: ExitStack) -> None:
        """Make everything ready, untimed: containers, engines, and the work."""
        self._plan, self._folder, self._server, self._stack = plan, folder, server, stack
        self.results = Results()
        self._began = time.monotonic()
        self._turn = 0
        self._boxes = BenchBoxes(Daemon())
        stack.callback(self._boxes.close)
        self._environment = {
            "AWS_ENDPOINT_URL_S3": server.endpoint,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self._box = self._boxes.make()
        partner = self._partner("ours")
        self._main = partner
        self._ours = [self._our(name, partner, self._box, plan.firsts) for name in OURS]
        self._series_ours = {
            name: self._our(name, self._partner(f"series-{name}"), self._box, 1, "series")
            for name in ("ours", "ours_api")
        }
        plan.workload.make(self._box.run)
        self._peers = [self._peer(name) for name in plan.peers]
        self._settle()

    def _partner(self, name: str) -> Partner:
        argv = [sys.executable, "-m", "benchmarks.snapshot_serve"]
        environment = clean_environment(self._environment)
        return self._stack.enter_context(Partner(argv, environment, self._folder / f"{name}.log"))

    def _our(self, name: str, partner: Partner, box: Box, count: int, series: str = "round") -> OurSubject:
        where, kind, sealed = OURS[name]
        below = f"{name}-{series}"
        base = f"s3://{BUCKET}/{below}" if where == "s3" else (self._folder / below).as_uri()
        stores = [f"{base}/{number}" for number in range(count)]
        for store in stores:
            partner.ask("open", name=store, store=store, kind=kind, sealed=sealed, container=box.id)
        return OurSubject(name, partner, self._boxes, stores, self._size)

    def _restic(self, name: str, box: Box) -> Restic:
        s3 = f"{self._server.endpoint}/{BUCKET}/{name}"
        return Restic(self._boxes, box, self._folder, self._environment, s3=s3, sizes=self._size, name=name)

    def _peer(self, name: str) -> Subject:
        match name:
            case "restic":
                return self._restic(name, self._box)
            case "restic_local":
                return Restic(self._boxes, self._box, self._folder, {})
            case "openai_agents":
                return AgentsSdk(self._boxes, self._folder, self._plan.workload, self._stack)
            case _:
                kinds = {kind.name: kind for kind in (Borg, Tar, DockerCommit, DockerCommitZstd)}
                return kinds[name](self._boxes, self._box, self._folder, {})

    def _size(self, store: str) -> int:
        async def sum_up() -> int:
            opened = open_store(store, s3=self._server.settings)
            try:
                return sum([info.size async for info in opened.list("")])
            finally:
                await opened.close()

        return asyncio.run(sum_up())

    def _take(self, subject: Subject, phase: str) -> None:
        taken = subject.take()
        if taken.unchanged is not None and taken.unchanged != phase.startswith("unchanged"):
            msg = f"{subject.name} says unchanged={taken.unchanged} at {phase}: its time is no figure"
            raise RuntimeError(msg)
        self._found(subject, phase, taken)

    def _settle(self) -> None:
        if self._plan.settle:
            settle()

    def _found(self, subject: Subject, phase: str, taken: Taken) -> None:
        self.results.add(subject.name, phase, taken)
        self.say(f"  {subject.name}: {phase} {taken.seconds:.4f} s")

    def _note(self, name: str, key: str, value: int) -> None:
        self.results.note(name, key, value)
        self.say(f"  {name}: {key} {value:,}")

    def say(self, text: str) -> None:
        """Tell whoever waits."""
        print(f"{time.monotonic() - self._began:6.0f} s  {text}", file=sys.stderr, flush=True)

    def _turns(self, number: int) -> Sequence[Subject]:
        """Ours first, since it pays for what the change left unwritten; the others in another order each time."""
        others = [*self._ours[1:], *(peer for peer in self._peers if number < AT_MOST.get(peer.name, number + 1))]
        shift = number % len(others)
        return [self._ours[0], *others[shift:], *others[:shift]]

    def firsts(self) -> None:
        """First snapshots, each into an empty store."""
        for number in range(self._plan.firsts):
            for subject in self._turns(number):
                subject.fresh()
                self._settle()
                self._take(subject, "first")

    def rounds(self) -> None:
        """Changes, and the lack of them."""
        for number in range(self._plan.rounds):
            self._settle()
            self._change()
            for subject in self._turns(number):
                if isinstance(subject, DockerCommitZstd):
                    continue
                if subject is not self._ours[0]:
                    self._settle()
                self._take(subject, "one_percent")
                self._settle()
                self._take(subject, "unchanged")
                if not isinstance(subject, OurSubject | Restic):
                    # A command makes no difference to peers: one of them shows it.
                    continue
                self._box.run(["true"])
                self._settle()
                self._take(subject, "unchanged_after_command")

    def _change(self) -> None:
        self._plan.workload.change(self._box.run, self._turn)
        for subject in self._peers:
            if isinstance(subject, AgentsSdk):
                subject.workload.change(subject.box.run, self._turn)
        self._turn += 1

    def restores(self) -> None:
        """Restores of the last snapshot into new containers, up to the end of a first command."""
        self._boxes.expected = self._boxes.seen(self._box)
        self._settle()
        # Images of `docker commit` were removed a moment ago: see `BenchBoxes.discard`.
        time.sleep(self._plan.forgotten_s)
        turns = [(number, subject) for number in range(self._plan.restores) for subject in self._turns(number)]
        # It has to remove what it restored before it can restore again: it comes when that disturbs nobody else.
        for number, subject in sorted(turns, key=lambda turn: isinstance(turn[1], DockerCommit)):
            if isinstance(subject, DockerCommitZstd):
                continue
            if number == 0 and AT_MOST.get(subject.name, self._plan.rounds) < self._plan.rounds:
                # Its last snapshot is of an earlier round.
                subject.take()
            self._settle()
            self._found(subject, "restore", Taken(subject.restore(), 0))

    def series(self) -> None:
        """A first snapshot and 20 more in fresh stores: bytes, and memory of processes that do nothing else."""
        subjects: dict[str, OurSubject | Restic] = {**self._series_ours}
        if "restic" in self._plan.peers:
            subjects["restic"] = self._restic("restic_series", self._box)
        for subject in subjects.values():
            subject.fresh()
        for number in range(self._plan.series + 1):
            if number:
                self._change()
            for subject in subjects.values():
                self._settle()
                subject.take()
        self._boxes.expected = self._boxes.seen(self._box)
        for name, subject in subjects.items():
            self._note(name, "bytes_after_20", subject.stored())
            self._note(name, "peak_memory_taking", subject.peak())
            subject.restore()
            self._note(name, "peak_memory", subject.peak())

    def growth(self) -> None:
        """The same change in deltas of different sizes."""
        for files in self._plan.growth:
            workload = Workload(files, self._plan.growth_average, 0, self._plan.workload.changes)
            box = self._boxes.make()
            ours: list[Subject] = [
                self._our(name, self._main, box, 1, f"growth-{files}") for name in ("ours", "ours_api")
            ]
            restic = [self._restic(f"restic_growth_{files}", box)] if "restic" in self._plan.peers else []
            workload.make(box.run)
            for subject in (subjects := [*ours, *restic]):
                subject.fresh()
                self._settle()
                subject.take()
            for turn in range(self._plan.growth_rounds):
                workload.change(box.run, turn)
                for subject in subjects:
                    self._settle()
                    name = "restic" if subject in restic else subject.name
                    self.results.grown(name, files, "one_percent", subject.take().seconds)
                    box.run(["true"])
                    self.results.grown(name, files, "unchanged_after_command", subject.take().seconds)
            self._boxes.discard(box.id)


def measure(plan: Plan) -> Results:
    """Run everything."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hibernaut-bench-")))
        stack.enter_context(own_dockerd(folder / "d"))
        server = stack.enter_context(seaweed_server(folder))
        server.make_bucket(BUCKET)
        bench = Bench(plan, folder, server, stack)
        for name in plan.stages:
            bench.say(name)
            getattr(bench, name)()
        bench.say("done")
        return bench.results


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    plan = plan_of(arguments)
    # Containers and servers are not left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ensure_peers()
    results = measure(plan)
    if plan.stages == STAGES:
        report(results, plan.workload, series=plan.series, keep=plan == Plan())


if __name__ == "__main__":
    main()
