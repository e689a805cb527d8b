"""The programs that the scripted model writes. They run in the agent's container, with its Python and its package."""

from examples.demo.tasks import COUNTRIES, HIGH_FEET, HIGHEST, PACKAGE, VARIABLE, ZONES

ANALYSIS = f"""\
import csv
import os
import statistics
from collections import defaultdict

from {PACKAGE} import tabulate


def airports():
    with open(os.environ["{VARIABLE}"], encoding="utf-8", newline="") as file:
        return [dict(row, elevation=float(row["elevation"])) for row in csv.DictReader(file)]


def section(title, text, headers, rows):
    table = tabulate(rows, headers, tablefmt="github", floatfmt=".1f")
    return f"## {{title}}\\n\\n{{text}}\\n\\n{{table}}\\n"


def add(text):
    with open("report.md", "a", encoding="utf-8") as report:
        report.write("\\n" + text)
    print(text)


if __name__ == "__main__":
    countries = defaultdict(list)
    for airport in airports():
        countries[airport["country"]].append(airport["elevation"])
    total = sum(map(len, countries.values()))
    rows = []
    for country in sorted(countries, key=lambda country: -len(countries[country]))[:{COUNTRIES}]:
        known = [elevation for elevation in countries[country] if elevation]
        rows.append([country, len(countries[country]), statistics.median(known), max(known)])
    with open("report.md", "w", encoding="utf-8") as report:
        report.write("# Airports\\n")
    add(section(
        "Where they are",
        f"{{total}} airports in {{len(countries)}} countries; those with the most:",
        ["country", "airports", "median elevation, ft", "highest, ft"],
        rows,
    ))
"""

HIGH = f"""\
from analysis import add, airports, section

found = sorted(airports(), key=lambda airport: -airport["elevation"])
high = sum(airport["elevation"] > {HIGH_FEET} for airport in found)
add(section(
    "The highest",
    f"{{high}} airports lie higher than {HIGH_FEET} feet; the highest are:",
    ["airport", "country", "elevation, ft"],
    [[airport["name"], airport["country"], airport["elevation"]] for airport in found[:{HIGHEST}]],
))
"""

TIME = f"""\
from collections import Counter

from analysis import add, airports, section

zones = Counter(airport["tz"] for airport in airports())
add(section(
    "What time it is there",
    f"They lie in {{len(zones)}} time zones; those with the most airports:",
    ["time zone", "airports"],
    zones.most_common({ZONES}),
))
"""


def writing(name: str, program: str) -> str:
    """The command that writes a program to a file."""
    return f"cat > {name} <<'PROGRAM'\n{program}PROGRAM"
