"""Proves from inside a container that nothing ran in it for a while: between two looks at all its tasks.

A look is made by a shell that stays in the container, with nothing but its built-in commands. It holds

- the kernel's cursor of process ids in the container's pid namespace: the id that was given out last. Every birth moves
  it, of a thread as of a process, whoever causes it: a fork inside, or an exec by the daemon;
- of each task its state, and its `schedstat`: nanoseconds on a CPU, and how often it was put on one.

Nothing ran between two looks if the cursor moved by nothing but the births of this shell's own commands, which are
known by their ids; if the same tasks are there; and if none but this shell was put on a CPU, or was on one at either
look. To change a file, or to store to a mapped one, a task has to run: what was listed and read between two such looks
is as of one moment, and what was so at the first is still so at the second. The order within a look does no harm: the
cursor is read first, so that a birth is seen by it or by the next look's, and each task is looked at once, so that one
that runs afterwards is seen by the next look.

Two kinds of task may run all the same, for they write no file: the init that Docker itself puts into a container, and
`tail -f /dev/null`, which keeps it alive. Both wake every second to see whether they have something to do.

Where a kernel does not count so (gVisor), this shell's own counters stand still as well: then nothing is proved. Nor is
anything proved of what a daemon writes by itself (`docker cp`), or whoever else is outside the container.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

_HEAD = b"look"
_INITS = (b"docker-init", b"tini")
_KEEPER = b"tail"
_RUNNING = b"R"
_PARENT, _STARTED = 1, 19
_CENTISECOND_NS = 10_000_000


class Task(NamedTuple):
    """A thread, as the kernel tells of it."""

    process: int
    name: bytes
    state: bytes
    parent: int
    started: int
    """Hundredths of a second after the machine."""
    used: bytes
    """Time on a CPU, time waiting for one, and how often it was put on one."""


@dataclass(frozen=True, slots=True)
class Look:
    """All tasks of a container."""

    shell: int
    """The process that looked."""
    last: int
    """The process id given out last when it began."""
    uptime_ns: int
    keepers: frozenset[int]
    """Processes that were started as `tail -f /dev/null`."""
    tasks: dict[bytes, Task]

    def ran_since(self, before: Look, births: list[int]) -> bool:
        """Tell whether anything but the shell may have run since another look; `births` are its own commands' ids."""
        if before.shell != self.shell or before.tasks.keys() != self.tasks.keys():
            return True
        after = before.last + len(births)
        if births != list(range(before.last + 1, after + 1)) or self.last != after:
            return True
        idle = self._idle()
        counted = False
        for key, now in self.tasks.items():
            then = before.tasks[key]
            if now.process == self.shell:
                counted = counted or now.used != then.used
            elif now.process in idle:
                continue
            elif now.used != then.used or now.started != then.started or _RUNNING in (now.state, then.state):
                return True
        # This shell has run for certain: where that does not show, nothing would.
        return not counted

    def _idle(self) -> set[int]:
        """Return the processes that write no file whenever they run."""
        return {
            task.process
            for task in self.tasks.values()
            if (task.process == 1 and task.name in _INITS) or (task.process in self.keepers and task.name == _KEEPER)
        }


def parse_look(text: bytes) -> Look | None:
    """Read a look; None when it is none, or cannot be used."""
    head, *lines = text.split(b"\n")
    try:
        word, shell, last, uptime, *keepers = head.split()
        look = Look(
            shell=int(shell),
            last=int(last),
            uptime_ns=int(uptime.replace(b".", b"")) * _CENTISECOND_NS,
            keepers=frozenset(int(keeper) for keeper in keepers),
            tasks=dict(_task(line) for line in lines if line),
        )
    except (ValueError, IndexError):
        return None
    return look if word == _HEAD and look.last > 0 else None


def _task(line: bytes) -> tuple[bytes, Task]:
    """Read `PID/task/TID`, the three numbers of schedstat, and the line of stat, whose name may hold anything."""
    key, ran, waited, times, stat = line.split(b" ", 4)
    name, _, rest = stat.partition(b"(")[2].rpartition(b") ")
    fields = rest.split(b" ")
    process, _, _ = key.partition(b"/")
    used = b"%d %d %d" % (int(ran), int(waited), int(times))
    return key, Task(int(process), name, fields[0], int(fields[_PARENT]), int(fields[_STARTED]), used)
