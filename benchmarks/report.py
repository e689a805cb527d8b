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


def extend(name: str, figures: Mapping[str, object], rows: Sequence[Sequence[str]]) -> None:
    """Add figures and rows to the results of another benchmark; a row of the same first cell is replaced."""
    file, table = RESULTS / f"{name}.json", RESULTS / f"{name}.md"
    known: dict[str, object] = json.loads(file.read_text()) if file.exists() else {}
    lines = table.read_text().splitlines() if table.exists() else ["| figure | median | n |", "| --- | --- | --- |"]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    new = {row[0] for row in rows}
    head, _, *kept = (row for row in cells if row[0] not in new)
    write(name, {**known, **figures}, [head, *kept, *rows])
