"""Lets a frozen container go on without the Docker daemon.

A container that is paused while somebody starts a command in it can wedge: the daemon waits for the command's first
process, which is frozen already, and holds the container's lock, for which the resuming waits. Written to the cgroup
itself, the same order needs no lock.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from activities.adapters.cgroups import cgroup_file, lines_of


def freezer_of(pid: int) -> Path | None:
    """Return the file that freezes and thaws the cgroup of a process; None where it is not to be seen from here."""
    return cgroup_file(pid, "freezer", "freezer.state", "cgroup.freeze")


def freezer_of_container(container_id: str) -> Path | None:
    """Return that of a container's cgroup, without the daemon, which may not answer; None where it cannot be found.

    Every runtime names the cgroup by the container's whole id, with more around it or not.
    """
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and any(
            container_id in line.rsplit("/", 1)[-1] for line in lines_of(folder / "cgroup")
        ):
            file = freezer_of(int(folder.name))
            if file is not None:
                return file
    return None


def let_go(file: Path) -> None:
    """Thaw; a cgroup that is gone is left alone."""
    with contextlib.suppress(OSError):
        file.write_text("0" if file.name == "cgroup.freeze" else "THAWED")


def freeze(file: Path) -> None:
    """Freeze; a cgroup that is gone is left alone."""
    with contextlib.suppress(OSError):
        file.write_text("1" if file.name == "cgroup.freeze" else "FROZEN")
