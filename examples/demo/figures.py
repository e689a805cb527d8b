"""The figures the report must hold, computed here from the same CSV, and the comparison with what it does hold."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from examples.demo.tasks import COUNTRIES, HIGH_FEET, HIGHEST, ZONES

_TOLERANCE = 0.051
"""Half of the last decimal asked for, and a little: roundings differ."""
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: a label and the numbers beside it."""

    label: str
    numbers: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """What one section of the report must hold."""

    name: str
    total: int
    rows: tuple[Row, ...]

    def missing(self, report: str) -> list[str]:
        """What the report lacks; empty when it holds everything."""
        lines = report.splitlines()
        lacking = [] if any(_has(line, (self.total,)) for line in lines) else [f"the number {self.total}"]
        lacking += [
            f"a line for {row.label} with {_listed(row.numbers)}" for row in self.rows if not _found(row, lines)
        ]
        return lacking


@dataclass(frozen=True, slots=True)
class Figures:
    """All sections, in the order in which they are asked for."""

    airports: int
    countries: Section
    heights: Section
    zones: Section


def compute(content: bytes) -> Figures:
    """The figures of a CSV of airports."""
    airports = list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))
    feet = [float(airport["elevation"]) for airport in airports]
    known: dict[str, list[float]] = {}
    for airport, height in zip(airports, feet, strict=True):
        known.setdefault(airport["country"], []).extend([height] if height else [])
    largest = Counter(airport["country"] for airport in airports).most_common(COUNTRIES)
    countries = (Row(code, (count, median(known[code]), max(known[code]))) for code, count in largest)
    ranked = sorted(zip(feet, airports, strict=True), key=lambda pair: pair[0], reverse=True)[:HIGHEST]
    zones = Counter(airport["tz"] for airport in airports)
    return Figures(
        airports=len(airports),
        countries=Section("countries", len(airports), tuple(countries)),
        heights=Section(
            "highest airports",
            sum(height > HIGH_FEET for height in feet),
            tuple(Row(airport["name"], (height,)) for height, airport in ranked),
        ),
        zones=Section("time zones", len(zones), tuple(Row(zone, (n,)) for zone, n in zones.most_common(ZONES))),
    )


def _found(row: Row, lines: Iterable[str]) -> bool:
    label = re.compile(rf"(?<!\w){re.escape(row.label)}(?!\w)")
    return any(label.search(line) and _has(line, row.numbers) for line in lines)


def _has(line: str, numbers: Sequence[float]) -> bool:
    present = [float(text) for text in _NUMBER.findall(line)]
    return all(any(abs(wanted - number) < _TOLERANCE for number in present) for wanted in numbers)


def _listed(numbers: Sequence[float]) -> str:
    return " and ".join(f"{number:g}" for number in numbers)
