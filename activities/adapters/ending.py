"""Ends the processes of a container from the host, and leaves it standing."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from activities.adapters.disk_usage import Written

ROUNDS = 10
"""How often processes are looked for that were forked while others were killed."""


class _Process(NamedTuple):
    """What the kernel says of one."""

    pid: int
    state: str
    parent: int
    session: int
    start: int


def end_processes(written: Written, *, supervisors: bool = False) -> None:
    """Kill every process of a container but its init, the first child of that, and the supervisors of its commands.

    Args:
        written: The container.
        supervisors: Whether to kill these too.
    """
    for _ in range(ROUNDS):
        living = _look(written)
        spared = {written.pid, *_keeper(written.pid, living)}
        if not supervisors:
            spared |= _supervisors(written.pid, living)
        doomed = [pid for pid, process in living.items() if pid not in spared and process.state not in "ZX"]
        if not doomed:
            return
        for pid in doomed:
            _kill(pid, written)
        time.sleep(0.01)


def _look(written: Written) -> dict[int, _Process]:
    found: dict[int, _Process] = {}
    for pid in written.processes():
        with contextlib.suppress(OSError, IndexError, ValueError):
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123  # of the kernel
                fields = file.read().rpartition(")")[2].split()
            found[pid] = _Process(pid, fields[0], int(fields[1]), int(fields[3]), int(fields[19]))
    return found


def _keeper(init: int, living: dict[int, _Process]) -> list[int]:
    """The oldest child of the init process: it was there before any command, and cannot be forged."""
    children = [(process.start, process.pid) for process in living.values() if process.parent == init]
    return [min(children)[1]] if children else []


def _supervisors(init: int, living: dict[int, _Process]) -> set[int]:
    """What Docker started in the container, and their sessions; a command is given a session of its own.

    Its parent is outside: no process in the container can bring that about, for orphans go to the init.
    """
    roots = {process.pid for process in living.values() if process.parent not in living and process.pid != init}
    return {process.pid for process in living.values() if process.session in roots}


def _kill(pid: int, written: Written) -> None:
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return
    try:
        # The number may have become another's before it was opened; from here on it is this process or none.
        if written.holds(pid):
            signal.pidfd_send_signal(process, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(process)
