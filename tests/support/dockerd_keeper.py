"""Ends a second Docker daemon with all it started: `python dockerd_keeper.py HOME`, at the end of standard input.

A program of its own, because the one that tests may be killed: the pipe to it then ends like in the good case. What
belongs to the daemon is known by the folder in its arguments, so that nothing else on the machine is ever touched.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

KEPT = (".log",)
"""Endings of what is left in the folder for a person to read."""
_DAEMON_SECONDS = 20.0
_CGROUP_SECONDS = 3.0
_PROGRAMS = re.compile(r"(dockerd|containerd|containerd-shim[-.\w]*)\Z")
_CONTAINER_CGROUP = re.compile(r"[0-9a-f]{64}(\.scope)?\Z")
_CGROUPS = Path("/sys/fs/cgroup")


def processes(home: Path, program: str = "") -> list[int]:
    """The pids of the daemon's programs, or of those whose name begins with `program`."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            name, *arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            name = Path(name).name
            ours = any(f"{home}/" in argument for argument in arguments)
            if ours and _PROGRAMS.match(name) and name.startswith(program):
                found.append(int(entry.name))
    return found


def kill_containers(home: Path) -> None:
    """Kill every process of every container, frozen or not, and the shims that watch them."""
    cgroups: set[Path] = set()
    for shim in processes(home, "containerd-shim"):
        # The shim last: it reaps what it watches, and adopts what its children leave.
        for pid in [*_below(shim), shim]:
            mine = _cgroups_of(pid)
            cgroups |= mine
            _signal(pid, signal.SIGKILL)
            for cgroup in mine:
                _thaw(cgroup)
    # The kernel takes a moment to empty them; one that is left over is an empty directory.
    _soon(lambda: all([_remove_cgroup(cgroup) for cgroup in cgroups]), _CGROUP_SECONDS)  # noqa: C419 - each is tried


def clean(home: Path) -> None:
    """End the daemon and its containers, unmount what they mounted, and remove what they kept."""
    for pid in processes(home, "dockerd"):
        _signal(pid, signal.SIGTERM)
    # Its containers need not be asked politely: the daemon sees their ends and tidies up after them.
    kill_containers(home)
    _end(home, "dockerd")
    kill_containers(home)
    _end(home, "containerd")
    for mount in mounts(home):
        subprocess.run(["umount", "--lazy", str(mount)], check=False, stderr=subprocess.DEVNULL)
    for entry in home.iterdir():
        if entry.suffix in KEPT:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def mounts(home: Path) -> list[Path]:
    """What is mounted below the folder, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    points = [Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split()[4])) for line in lines]
    return [point for point in reversed(points) if point.is_relative_to(home)]


def _end(home: Path, program: str) -> None:
    """TERM, and KILL for who does not obey in time."""
    for pid in processes(home, program):
        _signal(pid, signal.SIGTERM)
    if not _soon(lambda: not processes(home, program), _DAEMON_SECONDS):
        for pid in processes(home, program):
            _signal(pid, signal.SIGKILL)
        _soon(lambda: not processes(home, program), 5.0)


def _below(pid: int) -> Iterable[int]:
    """Every descendant, parents first."""
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield int(child)
                yield from _below(int(child))


def _cgroups_of(pid: int) -> set[Path]:
    """The directories of the container that a process is in; none for one that is in no container's."""
    found: set[Path] = set()
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if _CONTAINER_CGROUP.search(path):
                # Named by its controllers in version 1, unnamed in version 2.
                found.add(_CGROUPS / controllers.removeprefix("name=") / path.lstrip("/"))
    return found


def _thaw(cgroup: Path) -> None:
    for name, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        with contextlib.suppress(OSError):
            if (cgroup / name).exists():
                (cgroup / name).write_text(value)


def _remove_cgroup(cgroup: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        try:
            cgroup.rmdir()
        except OSError:
            return False
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _soon(done: Callable[[], bool], seconds: float) -> bool:
    """Whether `done()` became true in time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


if __name__ == "__main__":
    # Only the end of the pipe counts; an interrupt at the terminal is for the tests.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sys.stdin.buffer.read()
    clean(Path(sys.argv[1]))
