"""The benchmark of snapshots runs, compares what it says it compares, and checks what it restores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.bench_snapshots import measure
from benchmarks.snapshot_boxes import BenchBoxes
from benchmarks.snapshot_plan import QUICK
from benchmarks.snapshot_results import report
from benchmarks.snapshot_workload import Workload
from deploy.setup.peers import ensure_peers


@pytest.mark.slow
def test_benchmark_measures_every_subject() -> None:
    ensure_peers()
    plan = replace(QUICK, peers=("restic", "borg", "tar_zstd", "docker_commit_save"))
    figures: Any = report(measure(plan), plan.workload, series=plan.series, keep=False)
    for name in ("ours", "ours_file", *plan.peers):
        assert min(figures[name][f"{phase}_s"] for phase in ("first", "one_percent", "unchanged", "restore")) > 0
    assert set(figures["ratios"]["restic"]) >= {
        "unchanged", "one_percent", "first", "restore", "bytes_after_20", "peak_memory",
    }  # fmt: skip
    assert set(figures["api_only"]["ratios"]["docker_commit_save"]) >= {"unchanged", "one_percent", "first"}
    assert figures["ours"]["bytes_after_20"] > figures["ours"]["one_percent_bytes"] > 0
    # Docker saves base image and all; it is no figure when ours is no smaller.
    assert figures["ratios"]["docker_commit_save"]["bytes_after_20"] > 1
    assert set(figures["growth"]) == {"ours", "ours_api", "restic"}


@pytest.mark.slow
def test_work_is_the_same_each_time_and_a_difference_is_seen() -> None:
    boxes, workload = BenchBoxes(), Workload(files=80, average=500, big=1 << 20, changes=4)
    try:
        first, second = boxes.make(), boxes.make()
        for box in (first, second):
            workload.make(box.run)
            workload.change(box.run, 0)
        boxes.expected = boxes.seen(first)
        boxes.check(second)
        workload.change(second.run, 1)
        with pytest.raises(RuntimeError, match="not what was there"):
            boxes.check(second)
    finally:
        boxes.close()
