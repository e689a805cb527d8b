"""How every benchmark says what it measured, and on what."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, object]:
    """The machine the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    return {
        "cores": os.cpu_count(),
        "memory_gib": memory,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def middle(values: Sequence[float]) -> float:
    """The median, rounded to what a timing on a shared machine is worth."""
    return round(median(values), 1)


def write(name: str, figures: Mapping[str, object], table: Sequence[Sequence[str]]) -> None:
    """Write `results/NAME.json` and `results/NAME.md`."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    head, *rows = table
    lines = [
        "| " + " | ".join(head) + " |",
        "| " + " | ".join("---" for _ in head) + " |",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    text = "\n".join(lines)
    (RESULTS / f"{name}.md").write_text(text + "\n")
    print(text)
