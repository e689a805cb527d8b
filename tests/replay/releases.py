"""The histories of each release: a folder of its own, sealed when it is released.

`python -m tests.replay.releases` seals the folder of the version that `hibernaut.__version__` names; do it when that
version gets its date in `CHANGELOG.md`. Until then its histories may be recorded anew, afterwards never: an agent of
that release may be asleep anywhere.
"""

import hashlib
import json
import re
from pathlib import Path

from hibernaut import __version__

ROOT = Path(__file__).parent / "histories"
CURRENT = ROOT / __version__
SEAL = "release.json"
CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
_RELEASED = re.compile(r"^## (\S+) - \d{4}-\d{2}-\d{2}", re.MULTILINE)


def recorded() -> list[Path]:
    """Every history of every release, and of the version under way."""
    return sorted(path for path in ROOT.glob("*/*.json") if path.name != SEAL)


def scenario(path: Path) -> str:
    """The scenario that a history was recorded of."""
    return path.stem.rsplit("-", 1)[0]


def released(changelog: str) -> list[str]:
    """The versions that have a date in the changelog."""
    return _RELEASED.findall(changelog)


def sums(folder: Path) -> dict[str, str]:
    """SHA-256 of each history of a folder, by name."""
    paths = sorted(path for path in folder.glob("*.json") if path.name != SEAL)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def seal(folder: Path) -> None:
    """Write down what the folder of a release holds."""
    (folder / SEAL).write_text(json.dumps(sums(folder), indent=1) + "\n")


def problems(folder: Path) -> list[str]:
    """What is wrong with the folder of a released version."""
    written = folder / SEAL
    if not written.exists():
        return [f"{folder.name} is released and not sealed: run `python -m tests.replay.releases` of that version"]
    sealed: dict[str, str] = json.loads(written.read_text())
    if not sealed:
        return [f"{folder.name} was sealed without a history"]
    found = sums(folder)
    return [
        *(f"{folder.name}/{name} is missing: a history of a release is kept" for name in sealed.keys() - found.keys()),
        *(f"{folder.name}/{name} was added after the release" for name in found.keys() - sealed.keys()),
        *(f"{folder.name}/{name} was changed" for name in sealed.keys() & found.keys() if sealed[name] != found[name]),
    ]


if __name__ == "__main__":
    seal(CURRENT)
