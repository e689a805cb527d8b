"""What the benchmark of snapshots found: medians, ratios between subjects, and whether the goals are met."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median

from benchmarks.report import RESULTS, machine
from benchmarks.snapshot_subjects import Taken
from benchmarks.snapshot_workload import Workload

PHASES = ("first", "one_percent", "unchanged", "unchanged_after_command", "restore")
SIZES = ("bytes_after_20", "peak_memory")
GOALS: Mapping[str, Mapping[str, float]] = {
    "restic": {
        "unchanged": 50, "one_percent": 10, "first": 3, "restore": 3, "bytes_after_20": 1, "peak_memory": 1,
    },
    "docker_commit_save": {"unchanged": 500, "one_percent": 75, "first": 7, "bytes_after_20": 10},
}  # fmt: skip
"""What the peer's figure is to be of ours, at least; through the API alone half of it."""
WORDS = {
    "ours": "ours, host capture, S3",
    "ours_sealed": "ours, host capture, S3, encrypted",
    "ours_file": "ours, host capture, folder",
    "ours_api": "ours, API capture, S3",
    "restic": "restic, S3",
    "restic_local": "restic, folder",
    "borg": "borg, folder",
    "tar_zstd": "tar, zstd -1",
    "docker_commit_save": "docker commit + save",
    "docker_commit_save_zstd": "docker commit + save, zstd -1",
    "openai_agents": "openai-agents Docker sandbox",
}
WHOLE = ("tar_zstd", "docker_commit_save", "docker_commit_save_zstd")
"""Those of whose snapshots each holds everything."""
NOTES = """\
- Ours is timed around the engine's `take` in a process that stays up, as a worker does; restic and borg are a process
  for each snapshot, as they are used. `unchanged`: nothing ran in the container since. `after a command`: `true` did.
- Ours and restic use the same S3 server, and restic's headline figures are those; the rows with a folder are without
  it. restic encrypts always, ours in its second row, borg not; all with their default compression.
- restic, borg and tar read the container's upper directory while it runs, and restore into one of a container that is
  not started yet. Restore is to the end of a first `true`, creation and start of the container included; ours begins
  to fetch when that begins, as `sandbox.acquire` does.
- Bytes after 20: a first snapshot and 20 more of 1 % in a fresh store; where each snapshot holds everything, 21 times
  one. openai-agents keeps its workspace folder alone, and one snapshot.
- Peak memory: resident at most in one process over the 21 snapshots, and with the restore after them.
- Containers are removed when all is over: ext4 passes over inodes freed in the last minutes, one by one, and whoever
  makes files next would pay for that with seconds.
- Every restored container was compared with its source: paths, kinds, sizes, and a part of the big file.
"""


class Results:
    """Collects what was measured."""

    def __init__(self) -> None:
        self._taken: defaultdict[str, defaultdict[str, list[Taken]]] = defaultdict(lambda: defaultdict(list))
        self._notes: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._grown: defaultdict[str, dict[int, dict[str, list[float]]]] = defaultdict(dict)

    def add(self, name: str, phase: str, taken: Taken) -> None:
        """Add one snapshot."""
        self._taken[name][phase].append(taken)

    def note(self, name: str, key: str, value: int) -> None:
        """Add a figure that there is once."""
        self._notes[name][key] = value

    def grown(self, name: str, files: int, phase: str, seconds: float) -> None:
        """Add a snapshot of a delta of so many files."""
        self._grown[name].setdefault(files, {}).setdefault(phase, []).append(seconds)

    def figures(self, name: str, series: int) -> dict[str, object]:
        """Everything about one subject; times in seconds."""
        taken = self._taken[name]
        if name in WHOLE:
            self._notes[name]["bytes_after_20"] = round(median(one.stored for one in taken["first"])) * (series + 1)
        found: dict[str, object] = {f"{phase}_s": self.middle(name, phase) for phase in PHASES if taken[phase]}
        found["n"] = self.counts(name)
        for phase in ("first", "one_percent"):
            if stored := [one.stored for one in taken[phase] if one.stored]:
                found[f"{phase}_bytes"] = round(median(stored))
        for phase in PHASES:
            if requests := [one.requests for one in taken[phase] if one.requests is not None]:
                found[f"{phase}_requests"] = round(median(requests))
        return {**found, **self._notes[name]}

    def counts(self, name: str) -> dict[str, int]:
        """How often each phase was measured."""
        return {phase: len(self._taken[name][phase]) for phase in PHASES if self._taken[name][phase]}

    def middle(self, name: str, phase: str) -> float:
        """The median seconds of a phase."""
        return round(median(one.seconds for one in self._taken[name][phase]), 6)

    def ratio(self, ours: str, peer: str, figure: str) -> float | None:
        """The peer's figure over ours: above 1 ours is the better one."""
        if figure in SIZES:
            mine, theirs = self._notes[ours].get(figure), self._notes[peer].get(figure)
        else:
            both = self._taken[ours][figure] and self._taken[peer][figure]
            mine, theirs = (self.middle(ours, figure), self.middle(peer, figure)) if both else (None, None)
        return round(theirs / mine, 2) if mine and theirs else None

    def names(self) -> list[str]:
        """Subjects that took part, in the table's order."""
        return [name for name in WORDS if self._taken[name]["first"]]

    def growth(self) -> dict[str, dict[str, dict[str, float]]]:
        """Median seconds by subject, number of files and phase."""
        return {
            name: {
                str(files): {f"{phase}_s": round(median(times), 6) for phase, times in by_phase.items()}
                for files, by_phase in by_files.items()
            }
            for name, by_files in self._grown.items()
        }


def _ratios(results: Results, ours: str) -> dict[str, dict[str, float]]:
    found = {
        peer: {figure: results.ratio(ours, peer, figure) for figure in (*PHASES, *SIZES)} for peer in results.names()
    }
    return {
        peer: {figure: value for figure, value in by_figure.items() if value is not None}
        for peer, by_figure in found.items()
        if not peer.startswith("ours")
    }


def _met(ratios: Mapping[str, Mapping[str, float]], share: float) -> dict[str, dict[str, bool]]:
    return {
        peer: {figure: ratios[peer][figure] >= goal * share for figure, goal in goals.items() if figure in ratios[peer]}
        for peer, goals in GOALS.items()
        if peer in ratios
    }


def report(results: Results, workload: Workload, *, series: int, keep: bool) -> dict[str, object]:
    """Print the tables; with `keep`, write `results/snapshots.json` and `results/snapshots.md`."""
    by_name = {name: results.figures(name, series) for name in results.names()}
    ratios, of_api = _ratios(results, "ours"), _ratios(results, "ours_api")
    api = {**by_name.pop("ours_api"), "ratios": of_api, "goals_met": _met(of_api, 0.5)}
    figures: dict[str, object] = {
        **by_name,
        "ratios": ratios,
        "ratios_are": "the peer's figure over ours: above 1 ours is the better one",
        "goals": GOALS,
        "goals_met": _met(ratios, 1),
        "api_only": api,
        "growth": results.growth(),
        "workload": asdict(workload),
        "machine": machine(),
    }
    text = _text(results, {**by_name, "ours_api": api}, ratios, of_api, workload)
    if keep:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "snapshots.json").write_text(json.dumps(figures, indent=2) + "\n")
        (RESULTS / "snapshots.md").write_text(text)
    print(text)
    return figures


def _text(
    results: Results,
    figures: Mapping[str, Mapping[str, object]],
    ratios: Mapping[str, Mapping[str, float]],
    of_api: Mapping[str, Mapping[str, float]],
    workload: Workload,
) -> str:
    facts = machine()
    changed = f"{workload.changes} of the files and 64 KiB of the big one"
    sizes = f"{workload.files:,} files and one of {workload.big:,} bytes; 1 % changed is {changed}."
    counts = ", ".join(f"{phase} {count}" for phase, count in results.counts("ours").items())
    parts = [
        f"{sizes} Medians, seconds (of {counts}); {facts['cores']} cores, {facts['memory_gib']} GiB.",
        _table(_times(figures)),
        _table(_others(figures)),
        "Ratios: the peer's figure over ours, above 1 ours is the better one; goals in brackets.",
        _table([*_goals("host", ratios, 1), *_goals("api", of_api, 0.5)[1:]]),
        "The same change, growing deltas: seconds for a snapshot of the change / after a command that changed nothing.",
        _table(_grown(results)),
        NOTES,
    ]
    return "\n\n".join(parts)


def _times(figures: Mapping[str, Mapping[str, object]]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        ("", "first", "1 % changed", "unchanged", "after a command", "restore to first command")
    ]
    for name, words in WORDS.items():
        if name in figures:
            rows.append((words, *(_seconds(figures[name].get(f"{phase}_s")) for phase in PHASES)))
    return rows


def _others(figures: Mapping[str, Mapping[str, object]]) -> list[Sequence[str]]:
    keys = ("one_percent_bytes", "bytes_after_20", "peak_memory_taking", "peak_memory")
    counts = ("first_requests", "one_percent_requests", "unchanged_requests", "unchanged_after_command_requests")
    rows: list[Sequence[str]] = [
        ("", "1 % stored, MB", "stored after first and 20, MB", "peak memory taking, MB", "with restore, MB",
         "requests: first / 1 % / unchanged / after a command"),
    ]  # fmt: skip
    for name, words in WORDS.items():
        if name in figures:
            known = figures[name]
            requests = " / ".join(str(known[key]) for key in counts if key in known)
            rows.append((words, *(_megabytes(known.get(key)) for key in keys), requests))
    return rows


def _goals(way: str, ratios: Mapping[str, Mapping[str, float]], share: float) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("capture", "against", *GOALS["restic"])]
    for peer, goals in GOALS.items():
        if peer in ratios:
            cells = [_goal(ratios[peer].get(figure), goals.get(figure), share) for figure in GOALS["restic"]]
            rows.append((way, WORDS[peer], *cells))
    return rows


def _goal(value: float | None, goal: float | None, share: float) -> str:
    if value is None:
        return ""
    if goal is None:
        return f"{value:g}"
    return f"{value:g} ({goal * share:g}: {'met' if value >= goal * share else 'NOT met'})"


def _grown(results: Results) -> list[Sequence[str]]:
    growth = results.growth()
    sizes = sorted({int(files) for by_files in growth.values() for files in by_files})
    rows: list[Sequence[str]] = [("", *(f"{files:,} files" for files in sizes))]
    for name, by_files in growth.items():
        cells = (
            " / ".join(
                _seconds(by_files[str(files)].get(f"{phase}_s")) for phase in ("one_percent", "unchanged_after_command")
            )
            for files in sizes
        )
        rows.append((WORDS[name], *cells))
    return rows


def _seconds(value: object) -> str:
    if not isinstance(value, float):
        return ""
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}" if value >= 0.01 else f"{value:.5f}"


def _megabytes(value: object) -> str:
    return f"{value / 1e6:.1f}" if isinstance(value, int) else ""


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rest)])
