"""How much a container has written to this host's disk: its upper directory, its volumes, deleted files."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activities.adapters.cgroups import cgroup_file, lines_of, processes_in
from activities.adapters.docker_overlay import find_overlay

if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNTED = ("HostsPath", "HostnamePath", "ResolvConfPath")
"""What the daemon calls the files of this host that it mounts into a container, where root may write them."""
MAX_DESCRIPTORS = 50_000
"""Open files that one look examines: whoever opens more cannot make it take for ever."""
CROWD = 0.75
"""Part of the processes that a container may have above which it is full: a shell that cannot fork waits and tries."""
FILE_BYTES = 4096
"""What a file, directory or link counts beside its blocks: it uses up an inode, and an empty file has no block."""
DU_S = 120.0
"""Seconds after which counting is given up; so many files take that long only on a failing disk."""


@dataclass(frozen=True, slots=True)
class Written:
    """Where a running container writes, as this host sees it."""

    container: str
    """Its id."""
    pid: int
    """Of the container's init process."""
    folders: tuple[Path, ...]
    """Its upper directory first, its volumes, and the files that Docker mounts into it."""

    @classmethod
    def find(cls, details: dict[str, Any]) -> Written | None:
        """Return it when this process sees the daemon's files; else None.

        Args:
            details: What the daemon says of the container (`inspect`).
        """
        if os.geteuid() != 0:
            return None
        upper = _upper(details)
        if upper is None or not upper.is_dir():
            return None
        mounts: list[dict[str, Any]] = details.get("Mounts") or []
        # The journal's, and those of the image's VOLUMEs.
        volumes = [Path(str(mount["Source"])) for mount in mounts if mount.get("Type") == "volume"]
        files = [Path(str(details[name])) for name in MOUNTED if details.get(name)]
        return cls(
            container=str(details["Id"]),
            pid=int(details["State"]["Pid"]),
            folders=(upper, *(path for path in (*volumes, *files) if path.exists())),
        )

    def size(self) -> int | None:
        """Return the bytes of disk that are taken, files counted too; None when it could not be counted."""
        # A program of its own holds up nothing of this process. It follows no link, and no name comes from inside.
        blocks, files = self._counted("--block-size=1"), self._counted("--inodes")
        if blocks is None or files is None:
            return None
        return blocks + files * FILE_BYTES + sum(_deleted(self.processes(), self.folders))

    def _counted(self, what: str) -> int | None:
        command = ["du", "--summarize", "--one-file-system", "--total", what, "--", *map(str, self.folders)]
        try:
            # In the user's language the last line would be called something else.
            done = subprocess.run(
                command, capture_output=True, check=False, timeout=DU_S, env={**os.environ, "LC_ALL": "C"}
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        # What vanished meanwhile is complained of, and counts nothing.
        total = done.stdout.splitlines()[-1:] or [b""]
        number, _, label = total[0].partition(b"\t")
        return int(number) if label == b"total" and number.isdigit() else None

    def free(self) -> int | None:
        """Return the bytes that are free on the file system it writes to; None when it is gone."""
        try:
            found = os.statvfs(self.folders[0])
        except OSError:
            return None
        return found.f_bavail * found.f_frsize

    def processes(self) -> set[int]:
        """Return the container's processes, by this host's numbers; none where its cgroup is not to be seen."""
        file = self._group()
        return processes_in(file.parent) if file is not None else set()

    def holds(self, pid: int) -> bool:
        """Return whether a process is one of the container's at this moment."""
        mine, its = self._group(), cgroup_file(pid, "pids", "cgroup.procs", "cgroup.procs")
        return mine is not None and its is not None and its.is_relative_to(mine.parent)

    def crowded(self) -> bool:
        """Return whether the container has about as many processes as it may: hardly anything can be started in it."""
        folder = self._group()
        if folder is None:
            return False
        current, most = ("".join(lines_of(folder.parent / name)) for name in ("pids.current", "pids.max"))
        return current.isdigit() and most.isdigit() and int(current) >= int(most) * CROWD

    def current(self) -> bool:
        """Return whether its init process is still the one that was found: started again, it has another."""
        return self._group() is not None

    def _group(self) -> Path | None:
        file = cgroup_file(self.pid, "pids", "cgroup.procs", "cgroup.procs")
        # Once the init process has ended, its number may come to mean a process of this host, or of a neighbour.
        return file if file is not None and self.container in str(file) else None


def _upper(details: dict[str, Any]) -> Path | None:
    driver: dict[str, Any] = details.get("GraphDriver") or {}
    data: dict[str, str] = driver.get("Data") or {}
    if data.get("UpperDir"):
        return Path(data["UpperDir"])
    # The containerd image store does not say.
    overlay = find_overlay(details)
    return Path(os.fsdecode(overlay.upper)) if overlay is not None else None


def _deleted(processes: set[int], folders: tuple[Path, ...]) -> Iterator[int]:
    """Sizes of files without a name that a process still has open: no directory shows them."""
    seen: set[tuple[int, int]] = set()
    devices = {folder.stat().st_dev for folder in folders if folder.exists()}
    left = MAX_DESCRIPTORS
    for pid in processes:
        try:
            devices_here = devices | {Path(f"/proc/{pid}/root").stat().st_dev}
        except OSError:
            continue
        for path in _held(pid):
            if left == 0:
                return
            left -= 1
            try:
                found = path.stat()
            except OSError:
                continue
            identity = (found.st_dev, found.st_ino)
            if stat.S_ISREG(found.st_mode) and not found.st_nlink and found.st_dev in devices_here:
                if identity not in seen:
                    yield found.st_blocks * 512
                seen.add(identity)


def _held(pid: int) -> Iterator[Path]:
    """Where the kernel shows what a process has open, and the files without a name that it has only mapped."""
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
        for descriptor in descriptors:
            yield Path(descriptor.path)
    with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", "rb") as maps:  # noqa: PTH123  # of the kernel
        for line in maps:
            if line.endswith(b" (deleted)\n"):
                yield Path(f"/proc/{pid}/map_files", line.partition(b" ")[0].decode("ascii"))
