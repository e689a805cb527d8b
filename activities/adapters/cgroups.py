"""Finds a container's cgroup in this process's view of the tree, be it of version 1 or 2."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path("/sys/fs/cgroup")


def cgroup_file(pid: int, controller: str, v1: str, v2: str) -> Path | None:
    """Return a file of the cgroup that a process is in; None where it is not to be seen from here.

    Args:
        pid: Of the process, on this host.
        controller: Of version 1.
        v1: Name of the file in that controller's tree.
        v2: Name of the file in the unified tree.
    """
    for line in lines_of(Path(f"/proc/{pid}/cgroup")):
        _, controllers, path = line.split(":", 2)
        relative = path.lstrip("/")
        if not relative:
            # That of the whole machine, or of whatever this process may see.
            continue
        for folder in _folders(controllers, controller, relative):
            file = folder / (v1 if controllers else v2)
            # This process may see another tree of cgroups than the daemon: the container must be in it.
            if file.exists() and str(pid) in lines_of(folder / "cgroup.procs"):
                return file
    return None


def processes_in(folder: Path) -> set[int]:
    """Return the processes of a cgroup and of those below it."""
    found: set[int] = set()
    for below, _, _ in os.walk(folder):
        found.update(int(line) for line in lines_of(Path(below, "cgroup.procs")))
    return found


def lines_of(path: Path) -> list[str]:
    """Return a kernel file's lines; none of one that is gone or cannot be read."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _folders(controllers: str, controller: str, relative: str) -> Iterator[Path]:
    if not controllers:
        yield _ROOT / relative
        yield _ROOT / "unified" / relative
    elif controller in controllers.split(","):
        for name in dict.fromkeys((controllers, controller, ",".join(sorted(controllers.split(","))))):
            yield _ROOT / name / relative
