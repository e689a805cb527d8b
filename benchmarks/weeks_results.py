"""What the long benchmark measured: as JSON, and as tables made of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from activities.adapters.docker_client import Daemon
from benchmarks.report import RESULTS, machine
from hibernaut import __version__
from tests.support.scripted_agents import TEMPORAL

Figures = Mapping[str, Any]
_BEGAN = time.monotonic()


def tell(text: str) -> None:
    """Tell whoever waits."""
    print(f"{time.monotonic() - _BEGAN:6.0f} s  {text}", file=sys.stderr, flush=True)


def measured() -> dict[str, Any]:
    """When, and on what."""
    temporal = subprocess.run([TEMPORAL, "--version"], capture_output=True, check=True, text=True).stdout.strip()
    daemon = Daemon()
    docker = str(daemon.api.version()["Version"])
    daemon.close()
    versions = {"hibernaut": __version__, "temporal": temporal, "docker": docker}
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": versions,
        "machine": machine(),
        "load": round(os.getloadavg()[1], 1),
    }


def report(parts: Mapping[str, Figures], *, keep: bool) -> str:
    """Print the tables of these parts; with `keep`, write them to `results/weeks.*`, where other parts stay."""
    found: dict[str, Figures] = dict(parts)
    if keep:
        file = RESULTS / "weeks.json"
        known: dict[str, Figures] = json.loads(file.read_text()) if file.exists() else {}
        found = {name: {**known, **parts}[name] for name in _TEXTS if name in known or name in parts}
        RESULTS.mkdir(exist_ok=True)
        file.write_text(json.dumps(found, indent=2) + "\n")
        (RESULTS / "weeks.md").write_text(_text(found))
    text = _text(parts)
    print(text)
    return text


def _text(parts: Mapping[str, Figures]) -> str:
    blocks: list[str] = []
    for name, text in _TEXTS.items():
        if name in parts:
            on = parts[name]["measured"]
            where = f"{on['date']}, {on['machine']['cores']} cores, {on['versions']['temporal']}"
            load = f"load average of the last five minutes {on['load']:g}"
            blocks += [*text(parts[name]), f"Measured {where}, Docker {on['versions']['docker']}; {load}."]
    return "\n\n".join(blocks) + "\n"


def _life(life: Figures) -> list[str]:
    largest, sleeping, carried = life["largest_run"], life["sleeping_run"], life["carried_bytes"]
    rows: list[Sequence[str]] = [
        ("up to step", "events a step", "in the last tenth", "bytes a step", "in the last tenth", "median there")
    ]
    for point, cost in life["per_step"].items():
        events, size = cost["events"], cost["bytes"]
        figures = (events["mean"], events["last_tenth"], size["mean"], size["last_tenth"], size["last_tenth_median"])
        rows.append((f"{int(point):,}", *(f"{figure:,}" for figure in figures)))
    bounds = "below" if life["bounded"] else "NOT below"
    words = (
        "Real workflow, time-skipping server, activities that pretend. Means; what sleeping, waking and "
        "continuing as new leave in the history is counted with the step beside it. At least ten steps are a last "
        "tenth."
    )
    return [
        f"## A life of {life['steps']:,} steps in {life['clock_days']:g} days of workflow time",
        words,
        _table(rows),
        _table(
            [
                ("", "events", "bytes"),
                (f"all {life['runs']} runs ({life['turns']} turns)", f"{life['events']:,}", f"{life['bytes']:,}"),
                (
                    f"largest run, {bounds} 10,000 events and 10 MB",
                    f"{largest['events']:,}",
                    f"{largest['bytes']:,}",
                ),
                ("the run that sleeps at the end", f"{sleeping['events']:,}", f"{sleeping['bytes']:,}"),
                ("carried into the second run; the last", "1", f"{carried['first']:,}; {carried['last']:,}"),
            ]
        ),
        (
            f"No message was lost or doubled, and the histories of all {life['replayed_runs']} runs replay. Lived in "
            f"{life['seconds']['living']} s."
        ),
    ]


def _asleep(asleep: Figures) -> list[str]:
    run, ended, store, week = asleep["open_run"], asleep["ended_runs"], asleep["store"], asleep["week"]
    rows: list[Sequence[str]] = [
        ("per agent", "bytes"),
        (f"Temporal: the open run ({run['events']} events)", f"{run['bytes']:,}"),
        (
            f"Temporal: its ended runs ({ended['runs']}), until their retention is over",
            f"{ended['bytes']:,}",
        ),
        ("the same and all else, in the files of the development server", f"{asleep['database_bytes_per_agent']:,}"),
        (f"object store ({store['objects']} objects)", f"{store['bytes']:,}"),
        *((f"of it {kind}", f"{length:,}") for kind, length in store["by_kind"].items()),
        ("upkeep, added by each agent to the histories of a week", f"{week['of_it_upkeep']:,}"),
        ("**an agent-week asleep: Temporal, upkeep included**", f"**{week['temporal_bytes']:,}**"),
        ("**an agent-week asleep: object store**", f"**{week['store_bytes']:,}**"),
    ]
    upkeep: list[Sequence[str]] = [
        ("upkeep", "bytes of a run's history: no agent", f"{asleep['agents']} asleep", "runs a week", "bytes a week")
    ]
    for kind, cost in asleep["upkeep"].items():
        without, full = cost["history_bytes_without_agents"], cost["history_bytes_with_agents"]
        figures = (without, full, cost["runs_a_week"], cost["week_bytes_of_all"])
        upkeep.append((kind, *(f"{figure:,}" for figure in figures)))
    words = (
        f"{asleep['agents']} agents on the real engine, each with {store['written_files_bytes']:,} bytes in files "
        "that do not compress, hibernated. Nobody waited for a week: a sleeping run issues nothing (looked at "
        "again after the upkeep: not an event more). Upkeep is extrapolated: one run's history, times the runs of "
        "a week at the default settings. Medians."
    )
    return [
        "## Asleep",
        words,
        _table(rows),
        _table(upkeep),
    ]


def _wake(wake: Figures) -> list[str]:
    rows: list[Sequence[str]] = [
        ("files, MB", "ours", "`docker load` + run", "ours / that", "`docker start`", "ours / that", "ours, to sleep")
    ]
    for size, cost in wake["by_size"].items():
        ours, load, start = (cost[f"{name}_ms"] for name in ("ours", "docker_load_run", "docker_start"))
        figures = (f"{ours:,.0f}", f"{load:,.0f}", f"{ours / load:.2f}", f"{start:,.0f}", f"{ours / start:.2f}")
        rows.append((f"{int(size) / 1e6:g}", *figures, f"{cost['hibernate_ms']:,.0f}"))
    words = (
        f"From a message to the start of its first command, ms, median of {wake['rounds']} interleaved rounds; "
        "files do not compress. Ours has no container: it makes one, fetches the files from the S3 server, and "
        "asks a model that answers at once. The peers ask none, and have their files on the local disk: `docker "
        "load`, create and start of a `docker save`d commit of the same files; `docker start` of a container that "
        "was only stopped, which can come back nowhere else."
    )
    return [
        "## Wake",
        words,
        _table(rows),
    ]


def _schedule(schedule: Figures) -> list[str]:
    one, fresh = schedule["agent"], schedule["fresh"]
    rows: list[Sequence[str]] = [("", "firings", "lost", "doubled", "backfills", "s")]
    for words, figures in (("one agent", one), ("a fresh agent each", fresh)):
        rows.append((words, *(f"{figures[name]:,}" for name in ("firings", "lost", "doubled", "backfills", "seconds"))))
    words = (
        f"A firing every {one['every_s']} s: {one['firings']:,} in {one['span_hours']:g} hours, made up for at "
        "once by backfills (`allow_all`) on the real server, with activities that pretend; counted by the ids of "
        f"the messages that the agents took. {one['fired_again']} of them were fired again, and sent nothing."
    )
    return [
        "## Schedule",
        words,
        _table(rows),
    ]


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rest)])


_TEXTS: Mapping[str, Callable[[Figures], list[str]]] = {
    "life": _life,
    "asleep": _asleep,
    "wake": _wake,
    "schedule": _schedule,
}
