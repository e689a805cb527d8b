"""`python -m benchmarks.snapshot_look`: our snapshots alone, for whoever makes them faster.

`--profile PHASE` says where the time goes, over all threads. No peers, no results written.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from activities.adapters.docker_client import Daemon
from activities.ports.snapshots import SnapshotInfo
from benchmarks.snapshot_ours import Ours
from benchmarks.snapshot_serve import peak_memory
from benchmarks.snapshot_workload import Workload
from tests.support.boxes import Box, Boxes
from tests.support.seaweed import seaweed_server
from workers.memory import give_back_what_is_freed

PHASES = ("first", "one_percent", "unchanged", "unchanged_after_command", "restore")


class _Finished:
    """What `pstats` wants of a profile, of one that still runs in another thread."""

    def __init__(self, profile: cProfile.Profile) -> None:
        profile.snapshot_stats()  # type: ignore[attr-defined]
        self.stats: Any = profile.stats  # type: ignore[attr-defined]

    def create_stats(self) -> None:
        """Nothing is left to do."""


class Profiles:
    """One profile for each thread, threads that begin later included."""

    def __init__(self, wanted: str | None, lines: int, sort: str) -> None:
        self._wanted, self._lines, self._sort = wanted, lines, sort
        self._profiles: list[cProfile.Profile] = []
        if wanted:
            # The first event of a thread puts a profile of its own in place of this function.
            threading.setprofile(self._first_event)
            self._begin()

    def _first_event(self, _frame: object, _event: str, _argument: object) -> None:
        self._begin()

    def _begin(self) -> None:
        profile = cProfile.Profile()
        self._profiles.append(profile)
        profile.enable()

    @contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Profile the block if it is the wanted one."""
        for profile in self._profiles:
            profile.clear()
        yield
        if name == self._wanted:
            stats = pstats.Stats()
            for profile in list(self._profiles):
                profile_stats = _Finished(profile)
                if profile_stats.stats:
                    stats.add(profile_stats)  # type: ignore[arg-type]
            stats.sort_stats(self._sort).print_stats(self._lines)


def _say(phase: str, seconds: float, info: SnapshotInfo | None = None) -> None:
    more = ""
    if info is not None:
        more = f"+{info.added} ~{info.changed} -{info.deleted}, {info.bytes_new_stored:,} B, {info.requests} requests"
    print(f"{phase:<25}{seconds * 1000:10.1f} ms   {more}", flush=True)


async def look(arguments: argparse.Namespace) -> None:
    """Run every phase and print its time."""
    workload = Workload(files=arguments.files, big=arguments.big, average=arguments.average)
    profiles = Profiles(arguments.profile, arguments.lines, arguments.sort)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hibernaut-bench-")))
        boxes = Boxes(Daemon())
        stack.callback(boxes.close)
        store, settings = (folder / "store").as_uri(), None
        if arguments.store == "s3":
            server = stack.enter_context(seaweed_server(folder))
            server.make_bucket("bench")
            store, settings = "s3://bench/look", server.settings
        box = boxes.make()
        async with Ours(store, arguments.kind, boxes.daemon, s3=settings) as ours:
            await ours.prepare(box.id)
            workload.make(box.run)
            os.sync()
            await _phases(arguments, profiles, ours, boxes, box, workload)
    print(f"peak memory of this process: {peak_memory() / 1e6:.0f} MB")


async def _phases(
    arguments: argparse.Namespace, profiles: Profiles, ours: Ours, boxes: Boxes, box: Box, workload: Workload
) -> None:
    with profiles.phase("first"):
        _say("first", *await ours.take())
    print(f"peak memory so far: {peak_memory() / 1e6:.0f} MB")
    times: dict[str, list[float]] = {}
    for turn in range(arguments.runs):
        workload.change(box.run, turn)
        await asyncio.sleep(arguments.pause)
        for phase in PHASES[1:4]:
            if phase == "unchanged_after_command":
                box.run(["true"])
            with profiles.phase(phase if turn == arguments.runs - 1 else ""):
                seconds, info = await ours.take()
            times.setdefault(phase, []).append(seconds)
            _say(phase, seconds, info)
            if info.unchanged != (phase != "one_percent"):
                print("  NOT WHAT WAS EXPECTED")
    for _ in range(arguments.restores):
        os.sync()
        with profiles.phase("restore"):
            began = time.perf_counter()
            await ours.restoring()
            copy = await asyncio.to_thread(boxes.make)
            started = time.perf_counter()
            info = await ours.restore(copy.id)
            restored = time.perf_counter()
            copy.run(["true"])
            ended = time.perf_counter()
        times.setdefault("restore", []).append(ended - began)
        print(
            f"restore to first command {(ended - began) * 1000:10.1f} ms   create and start {started - began:.3f} s, "
            f"restore {restored - started:.3f} s, exec {ended - restored:.3f} s, {info.requests} requests"
        )
    for phase, taken in times.items():
        print(f"median {phase:<25}{median(taken) * 1000:10.1f} ms of {len(taken)}")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.snapshot_look", description=__doc__)
    parser.add_argument("--kind", choices=("host", "api"), default="host")
    parser.add_argument("--store", choices=("s3", "file"), default="s3")
    parser.add_argument("--profile", choices=PHASES, help="print a profile of this phase's last run")
    parser.add_argument("--sort", default="tottime", help="of the profile (tottime, cumtime)")
    parser.add_argument("--lines", type=int, default=35, help="of the profile")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--restores", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between a change and its snapshot")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--average", type=int, default=10_000, help="bytes of a small file")
    parser.add_argument("--big", type=int, default=100_000_000, help="bytes of the big file; 0: none")
    give_back_what_is_freed()
    asyncio.run(look(parser.parse_args()))


if __name__ == "__main__":
    main()
