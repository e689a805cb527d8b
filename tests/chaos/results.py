"""The fault table: what became of every run of every fault, as JSON and as a table."""

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from tests.chaos.trial import FaultResult

_HEAD = (
    "fault",
    "runs",
    "survived",
    "commands run twice",
    "tool calls lost",
    "told",
    "seconds to the next correct step",
)


def summary(results: Iterable[FaultResult]) -> list[dict[str, Any]]:
    """A row for each fault. Of the counts of lost calls the largest of the runs; of the seconds the median."""
    by_fault: dict[str, list[FaultResult]] = {}
    for result in results:
        by_fault.setdefault(result.fault, []).append(result)
    return [
        {
            "fault": fault,
            "runs": len(runs),
            "survived": sum(run.survived for run in runs),
            "commands_twice": sum(run.commands_twice for run in runs),
            "calls_lost": max(run.calls_lost for run in runs),
            "told": all(run.told for run in runs),
            "seconds_median": _median([run.seconds for run in runs if run.seconds is not None]),
        }
        for fault, runs in by_fault.items()
    ]


def write(results: Iterable[FaultResult], path: Path) -> None:
    """Write the rows to a JSON file, and a table to the file beside it that ends in `.md`."""
    rows = summary(results)
    path.write_text(json.dumps(rows, indent=2) + "\n")
    cells = [_HEAD, *(tuple(_shown(value) for value in row.values()) for row in rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    lines.insert(1, "|" + " --- |" * len(_HEAD))
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


def _median(values: list[float]) -> float | None:
    return round(median(values), 1) if values else None


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
