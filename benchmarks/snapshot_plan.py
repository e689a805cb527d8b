"""What the benchmark of snapshots measures how often, and how that is said on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from benchmarks.snapshot_workload import Workload

AT_MOST = {"restic_local": 1, "borg": 1, "tar_zstd": 1, "openai_agents": 1, "docker_commit_save_zstd": 1}
"""Rounds in which those take part that are slow, and that no goal names."""
PEERS = ("restic", "restic_local", "borg", "tar_zstd", "docker_commit_save", "docker_commit_save_zstd", "openai_agents")

STAGES = ("firsts", "rounds", "restores", "series", "growth")
"""In their order; the second and third need the first."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How often what is measured."""

    workload: Workload = field(default_factory=Workload)
    firsts: int = 2
    rounds: int = 3
    restores: int = 3
    series: int = 20
    """Snapshots after the first in a fresh store."""
    growth: tuple[int, ...] = (2_000, 20_000)
    """Numbers of files of which the same number changes."""
    growth_average: int = 2_000
    growth_rounds: int = 2
    settle: bool = True
    """Wait for the disk before each snapshot."""
    forgotten_s: float = 65
    """Seconds until ext4 has forgotten which inodes were freed."""
    peers: tuple[str, ...] = PEERS
    stages: tuple[str, ...] = STAGES


QUICK = Plan(
    Workload(files=400, average=4_000, big=1 << 22, changes=8),
    firsts=1,
    rounds=1,
    restores=1,
    series=2,
    growth=(100, 400),
    growth_rounds=1,
    settle=False,
    forgotten_s=0,
)


def plan_of(arguments: Sequence[str] | None) -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make bench-snapshots", description="Snapshots, ours and the peers'.")
    parser.add_argument("--quick", action="store_true", help="little work, each once")
    parser.add_argument("--runs", type=int, help="of everything, instead of the usual numbers")
    parser.add_argument("--series", type=int, help="snapshots after the first in the series")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {', '.join(PEERS)} (default: all)")
    parser.add_argument("--stages", default=",".join(STAGES), help=f"of {', '.join(STAGES)} (default: all)")
    chosen = parser.parse_args(arguments)
    peers = tuple(name for name in chosen.peers.split(",") if name)
    stages = tuple(name for name in chosen.stages.split(",") if name)
    if unknown := {*peers, *stages} - {*PEERS, *STAGES}:
        parser.error(f"no such peer or stage: {', '.join(sorted(unknown))}")
    if {"rounds", "restores"} & set(stages) and stages[0] != "firsts":
        parser.error("rounds and restores need the stage firsts before them")
    plan = replace(QUICK if chosen.quick else Plan(), peers=peers, stages=stages)
    if chosen.runs:
        runs = chosen.runs
        plan = replace(plan, firsts=runs, rounds=runs, restores=runs, growth_rounds=runs)
    return replace(plan, series=chosen.series or plan.series)
