"""Tells whether anything ran in a container since: the CPU time of its cgroup, which stands still while all sleep.

Why an equal counter proves that no file changed: to change one, a process of the container has to run, and the
scheduler charges what ran when it leaves the CPU, at the latest at the next tick. A command that ended is charged in
full. Stores to mapped files are made by a running process too. Beside the time, how often each thread was given a CPU
is counted: a virtual machine's clock may lose what its host took away.

Only a process that runs this very moment can be ahead of the counter, by a tick. Whoever wants to know that nothing ran
up to now reads it again `TICK_S` later, or `TICK_S` after the first reading where runs are counted: what was given a
CPU since then shows there at once, and what had one all along was charged meanwhile.

Two processes may run all the same: the init that Docker puts in, and the `tail -f /dev/null` that keeps the container
alive. Both wake every second and write no file; their time is taken off, to the nanosecond.

It proves nothing where the kernel of the container is another than the host's (gVisor, Kata: idle costs CPU time, and
files are written by others), nor of what the Docker daemon itself writes (`docker cp`).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from activities.adapters.cgroups import cgroup_file, lines_of, processes_in

if TYPE_CHECKING:
    from collections.abc import Iterable

TICK_S = 0.012
"""Longer than one tick of the slowest usual kernel (100 Hz)."""
TRUSTED_RUNTIMES = frozenset({"", "runc", "crun", "io.containerd.runc.v2"})
_INITS = ("docker-init", "tini")
_KEEPER = b"tail\0-f\0/dev/null\0"
_AT_ONCE = 100
"""Clock ticks: a second."""
_MEMORY = ("/memfd:", "/dev/zero", "/SYSV", "/dev/shm/")  # noqa: S108 - what the kernel calls memory


class _Thread(NamedTuple):
    """What the scheduler says of one thread."""

    pid: int
    tid: str
    time_ns: int
    """On a CPU."""
    times: int
    """It was given one."""


class CpuGate:
    """The cgroup of one container."""

    def __init__(self, usage: Path, processes: Path, keepers: Iterable[int] = ()) -> None:
        self._usage = usage
        self._processes = processes
        self._keepers = frozenset(keepers)

    @classmethod
    def find(cls, pid: int) -> CpuGate | None:
        """Return the gate of the container whose init process this is; None where its cgroup is not to be seen."""
        usage = cgroup_file(pid, "cpuacct", "cpuacct.usage", "cpu.stat")
        return None if usage is None else cls(usage, usage.parent, _keepers(pid, processes_in(usage.parent)))

    def read(self) -> tuple[object, ...] | None:
        """Return what is equal to an earlier answer if nothing ran since; None when the container is gone."""
        usage = self.usage()
        if usage is None:
            return None
        threads = self._threads()
        others = usage - sum(thread.time_ns for thread in threads if thread.pid in self._keepers)
        if self._usage.name != "cpuacct.usage":
            # Given in microseconds, rounded; nothing that runs takes as little as this leaves out.
            others = (others + 2_000) // 4_000
        return others, *(
            (thread.pid, thread.tid, thread.times) for thread in threads if thread.pid not in self._keepers
        )

    @property
    def counts_runs(self) -> bool:
        """Whether this kernel tells how often each thread was given a CPU."""
        return any(thread.times for thread in self._threads())

    def usage(self) -> int | None:
        """Return the CPU time used so far, in nanoseconds; None when the container is gone."""
        try:
            text = self._usage.read_text()
        except OSError:
            return None
        if self._usage.name == "cpuacct.usage":
            return int(text)
        fields = dict(line.split(" ", 1) for line in text.splitlines())
        return int(fields["usage_usec"]) * 1_000

    def processes(self) -> set[int]:
        """Return the container's processes."""
        return processes_in(self._processes)

    def _threads(self) -> list[_Thread]:
        """Return all threads, in a fixed order, as far as the kernel tells of their runs."""
        found: list[_Thread] = []
        for pid in sorted(self.processes()):
            try:
                threads = sorted(Path(f"/proc/{pid}/task").iterdir())
                for thread in threads:
                    time_ns, _, times = (thread / "schedstat").read_text().split()
                    found.append(_Thread(pid, thread.name, int(time_ns), int(times)))
            except (OSError, ValueError):
                # It ended just now, which took CPU time, or this kernel does not count.
                continue
        return found

    def may_store_unseen(self) -> bool:
        """Tell whether a process has a file mapped that it can store to.

        A second store to a page that is dirty already changes the file, and none of its times: before such a container
        is looked at, its pages have to be written out. When in doubt the answer is yes.
        """
        for pid in self.processes():
            try:
                maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
            except FileNotFoundError:
                continue
            except OSError:
                return True
            for line in maps.splitlines():
                fields = line.split(maxsplit=5)
                permissions, inode = fields[1], fields[4]
                if permissions[1] == "w" and permissions[3] == "s" and inode != "0":
                    name = fields[5] if len(fields) > 5 else ""  # noqa: PLR2004  # the name, when there is one
                    if not name.startswith(_MEMORY):
                        return True
        return False


def _keepers(init: int, processes: set[int]) -> set[int]:
    """Return the processes that may run: the init that Docker put in, and what it was started with."""
    if not _comm(init).startswith(_INITS):
        return set()
    # A process of later that bears the same name is not one of them.
    return {init} | {pid for pid in processes if _command(pid) == _KEEPER and _began(pid) - _began(init) <= _AT_ONCE}


def _comm(pid: int) -> str:
    return "".join(lines_of(Path(f"/proc/{pid}/comm")))


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _began(pid: int) -> float:
    """Return when a process began, in clock ticks since the start of the machine."""
    try:
        # The name, in parentheses, may hold anything.
        return float(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return math.inf
