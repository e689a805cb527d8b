"""Holds sandboxes to their disk limits where the file system does not: counts what they wrote, ends who wrote too much.

Where Docker can give a container a quota of its own (`docker_quota.py`), none of this is needed. Elsewhere, as on ext4,
the kernel bounds one file (RLIMIT_FSIZE) and this watch the sum, a moment late: how late, and what may be written
until then, is in docs/isolation.md.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from activities.adapters.cpu_gate import TRUSTED_RUNTIMES, CpuGate
from activities.adapters.disk_usage import Written
from activities.adapters.docker_client import Daemon, translated
from activities.adapters.docker_sandbox import LABEL_DISK
from activities.adapters.ending import end_processes
from activities.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from activities.adapters.docker_control import ContainerControl

LOOK_S = 0.25
"""Seconds between two looks at what is free on the host: these cost microseconds."""
LIST_S = 1.0
"""Seconds between two lists of the containers there are."""
COUNT_S = 2.0
"""Seconds between two counts of a container's files in which something ran; more when a count takes long."""
SHARE = 10
"""A count is followed by this many times its own duration without one."""
SLACK = 64 << 20
"""Bytes beyond what was there when a sandbox was stopped, within which it may run to clean up."""
GROWN = 16 << 20
"""Bytes a sandbox must have written since the count before to be the one that uses up the host's reserve."""
TOLERANCE = 16 << 20
"""Bytes beyond the limit: one file that has reached the kernel's bound is not yet too much."""
UNSEEN_S = 60.0
"""Seconds between two looks for the files of a container that are not on this host, or not to be seen by this user."""
AGAIN_S = 30.0
"""Seconds within which a sandbox that goes on without a command loses the processes that answer for commands, too."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watched:
    """What is known of one container."""

    written: Written
    gate: CpuGate | None
    limit: int | None
    """Bytes; None for none."""
    allowed: int | None
    """The limit, or more after it was passed once: what is there may be kept, else nothing could delete it."""
    size: int = 0
    counted: bool = False
    growth: int = 0
    counted_at: float = float("-inf")
    free_then: int = 0
    took: float = 0.0
    ran: object = field(default_factory=object)
    ended_at: float = float("-inf")


class DiskWatch:
    """The watch over one daemon's containers. Blocking: give it a thread of its own."""

    def __init__(
        self,
        daemon: Daemon,
        control: ContainerControl,
        stopping: Callable[[str], AbstractContextManager[bool]],
        *,
        reserve: int = 0,
    ) -> None:
        """Watch, without having looked.

        Args:
            daemon: Whose containers.
            control: Lists those that are ours.
            stopping: Ends the commands that run in a container, with an outcome that says why, and lets no other begin
                before the block ends; says whether there were any.
            reserve: Bytes of the host's disk that sandboxes may not use up, whatever their limits are; 0 for none.
        """
        self._daemon = daemon
        self._control = control
        self._stopping = stopping
        self._reserve = reserve
        self._known: dict[str, _Watched] = {}
        self._unseen: dict[str, float] = {}
        self._listed_at = float("-inf")

    def look(self) -> list[str]:
        """Look once; the ids of the containers whose processes were ended.

        Raises:
            SandboxError: The daemon does not answer.
        """
        if time.monotonic() - self._listed_at >= LIST_S:
            self._list()
        return [sandbox_id for sandbox_id, one in self._known.items() if self._ended(sandbox_id, one)]

    def _ended(self, sandbox_id: str, one: _Watched) -> bool:
        try:
            return self._due(one) and self._over(sandbox_id, one)
        except OSError as error:
            # It is just being removed, or what it did to itself holds up no other's count.
            log.debug("the disk of sandbox %s cannot be looked at: %s", sandbox_id[:12], error)
            return False

    def _list(self) -> None:
        running = {one.sandbox_id for one in self._control.owned() if one.running}
        # Started again, a container has other processes under the same id.
        self._known = {name: one for name, one in self._known.items() if name in running and one.written.current()}
        self._unseen = {name: at for name, at in self._unseen.items() if name in running}
        for name in running - set(self._known):
            # The daemon is not asked every second for what it said a moment ago.
            if time.monotonic() - self._unseen.get(name, float("-inf")) < UNSEEN_S:
                continue
            with contextlib.suppress(SandboxError):
                found = self._found(name)
                if found is not None:
                    self._known[name] = found
                else:
                    self._told_unseen(name)
        self._listed_at = time.monotonic()

    def _told_unseen(self, sandbox_id: str) -> None:
        if not self._unseen:
            log.warning(
                "what sandbox %s writes is not to be seen from here: the disk limit (disk_mb) bounds each of its files "
                "alone; run the worker as root on the Docker daemon's host",
                sandbox_id[:12],
            )
        self._unseen[sandbox_id] = time.monotonic()

    def _found(self, sandbox_id: str) -> _Watched | None:
        with translated():
            details: dict[str, Any] = self._daemon.api.inspect_container(sandbox_id)
        written = Written.find(details)
        if written is None:
            return None
        labels: dict[str, str] = details["Config"].get("Labels") or {}
        label = labels.get(LABEL_DISK, "")
        limit = int(label) << 20 if label.isdecimal() else None
        trusted = str(details["HostConfig"].get("Runtime") or "") in TRUSTED_RUNTIMES
        gate = CpuGate.find(written.pid) if trusted else None
        allowed = limit + TOLERANCE if limit is not None else None
        return _Watched(written=written, gate=gate, limit=limit, allowed=allowed)

    def _due(self, one: _Watched) -> bool:
        """Whether to count a container's files now."""
        if one.limit is None and not self._reserve:
            return False
        free = one.written.free()
        if free is None:
            return False
        since = time.monotonic() - one.counted_at
        if since < SHARE * one.took:
            return False
        # Nobody has written more than what is free no longer, unless others gave back as much.
        hurried = free < self._reserve or (
            one.allowed is not None and one.free_then - free > max(0, one.allowed - one.size) // 2
        )
        if since < COUNT_S and not (hurried and since > LOOK_S):
            return False
        ran = one.gate.read() if one.gate is not None else None
        if ran is not None and ran == one.ran:
            # Not counted: nothing of it ran.
            one.counted_at, one.free_then, one.growth = time.monotonic(), free, 0
            return False
        one.ran = ran if ran is not None else object()
        return True

    def _over(self, sandbox_id: str, one: _Watched) -> bool:
        """Count its files, and end its processes if they are too much."""
        begun = time.monotonic()
        size = one.written.size()
        free = one.written.free()
        one.counted_at = time.monotonic()
        one.took = one.counted_at - begun
        if size is None or free is None:
            return False
        # What was there before anybody looked was not written now.
        one.growth, one.size, one.free_then = size - one.size if one.counted else 0, size, free
        one.counted = True
        if one.limit is not None and one.allowed is not None:
            # Once something was deleted, that may not be written again.
            one.allowed = max(one.limit + TOLERANCE, min(one.allowed, size + SLACK))
        passed = one.allowed is not None and size > one.allowed
        starving = free < self._reserve and one.growth > GROWN
        if not passed and not starving:
            return False
        why = "its disk limit" if passed else "what the host keeps free"
        log.warning("sandbox %s has written %d MiB, beyond %s: it is stopped", sandbox_id[:12], size >> 20, why)
        with self._stopping(sandbox_id) as asked:
            if one.gate is None:
                self._end_inside(sandbox_id)
            else:
                # Whoever goes on after that, and was not asked to, may have made the supervisors its own.
                again = not asked and one.counted_at - one.ended_at < AGAIN_S
                end_processes(one.written, supervisors=again)
        one.ended_at = time.monotonic()
        if one.limit is not None:
            one.allowed = max(one.limit + TOLERANCE, (one.written.size() or size) + SLACK)
        return True

    def _end_inside(self, sandbox_id: str) -> None:
        """End the processes of a container whose kernel is not the host's, which the host cannot see."""
        with contextlib.suppress(SandboxError), translated():
            api = self._daemon.api
            argv = ["sh", "-c", _END_ALL]
            api.exec_start(api.exec_create(sandbox_id, argv, user="0", workdir="/")["Id"])


_END_ALL = """
for round in 1 2 3; do
    for entry in /proc/[0-9]*; do
        pid=${entry#/proc/}
        { read -r _ name _ parent _ <"$entry/stat"; } 2>/dev/null || continue
        [ "$pid" -eq 1 ] || [ "$pid" -eq $$ ] || [ "$name $parent" = "(tail) 1" ] || kill -9 "$pid" 2>/dev/null
    done
done
"""
