"""Looks on this host for what a removed container had, and removes what may be removed.

Docker's own directories are left to Docker: what it could not delete is in use, and is named.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, NotFound

from activities.adapters import egress_wire as wire
from activities.adapters.cgroups import lines_of, processes_in
from activities.adapters.docker_client import Daemon, translated
from activities.errors import SandboxError
from activities.ports.traces import Found
from hibernaut.contracts.destruction import Looked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from activities.ports.traces import Trace

PATIENCE_S = 5.0
"""What a daemon may still be removing after it said that a container is gone."""
SETTLED_S = 1.0
"""What it gets before anything is removed in its place."""
PAUSE_S = 0.1
SPOOLED = "hibernaut-"
"""Begins the names of what is put down for a moment; others may use the same folder."""
_ELSEWHERE = "the daemon's files are not to be seen from here"
_RUNTIMES = ("containerd-shim", "runc", "runsc", "kata", "cloud-hypervisor", "firecracker", "qemu")
_TELLING = 32
"""Characters of a name that nothing else has by chance."""
_ANONYMOUS = 64
"""Hexadecimal digits of the name of a volume that nobody named."""

Left = tuple[list[str], int]
"""What of one kind is left, and how many things were looked for."""


class Remains:
    """Blocking; call it in threads."""

    def __init__(self, daemon: Daemon, folder: Path, spools: Sequence[Path] = ()) -> None:
        """Look on this daemon's host; see `DockerTraces`."""
        self._daemon = daemon
        self._folder = folder
        self._spools = tuple(spools)

    def look(self, trace: Trace) -> Found:
        """Look for everything, for some seconds again where something is left.

        Raises:
            SandboxUnavailable: The daemon does not answer.
        """
        local = self._is_local()
        kinds: list[tuple[str, Callable[[Trace], Left], Callable[[Trace, str], None] | None]] = [
            ("container", self._container, None),
            # Before volumes and layers: what runs keeps those busy.
            ("processes", _processes, _end),
            ("volumes", self._volumes, self._remove_volume),
            ("layers", self._layers, None),
            ("mounts", self._mounts, None),
            ("networks", self._networks, None),
            ("way out", self._way_out, self._close_way_out),
            ("files", self._files, _unlink),
        ]
        checked: list[Looked] = []
        remnants: list[str] = []
        begun = time.monotonic()
        there = False
        for what, look, removing in kinds:
            if not local and what in {"processes", "layers", "mounts"}:
                checked.append(Looked(what=what, looked_at=0, note=_ELSEWHERE))
                continue
            left, looked_at = look(trace)
            # What a container has that is there is in use: nothing is taken away from under it.
            remove = None if there else removing
            found: set[str] = set()
            tried = remove is None
            # What an earlier kind was waited for is no reason to leave this one as it is.
            while left and ((waited := time.monotonic() - begun) < PATIENCE_S or not tried):
                if remove is not None and (what == "files" or waited > SETTLED_S):
                    found |= set(left)
                    for one in left:
                        remove(trace, one)
                    if what == "files":
                        left, _ = look(trace)
                        break
                    tried = True
                else:
                    time.sleep(PAUSE_S)
                left, _ = look(trace)
            there = there or (what == "container" and bool(left))
            found |= set(left)
            gone = found - set(left)
            checked.append(Looked(what=what, looked_at=looked_at, found=len(found), removed=len(gone)))
            remnants += [f"{what}: {one}" for one in left]
        return Found(checked=tuple(checked), remnants=tuple(remnants))

    def _is_local(self) -> bool:
        """Whether the daemon's files are to be seen from here."""
        with translated():
            root = str(self._daemon.api.info().get("DockerRootDir") or "")
        return os.geteuid() == 0 and bool(root) and Path(root, "containers").is_dir()

    def _container(self, trace: Trace) -> Left:
        try:
            with translated():
                self._daemon.api.inspect_container(trace.sandbox_id)
        except SandboxError as error:
            if error.retryable:
                raise
            return [], 1
        return [trace.sandbox_id], 1

    def _volumes(self, trace: Trace) -> Left:
        return [name for name in trace.volumes if self._has_volume(name)], len(trace.volumes)

    def _has_volume(self, name: str) -> bool:
        with translated():
            try:
                self._daemon.api.inspect_volume(name)
            except NotFound:
                return False
        return True

    def _remove_volume(self, trace: Trace, name: str) -> None:
        del trace
        # One that somebody named is somebody's: it is told of, and left.
        if len(name) == _ANONYMOUS and set(name) <= set("0123456789abcdef"):
            with contextlib.suppress(APIError):
                self._daemon.api.remove_volume(name)

    def _layers(self, trace: Trace) -> Left:
        with translated():
            root = str(self._daemon.api.info().get("DockerRootDir") or "/var/lib/docker")
        places = [*trace.layers, str(Path(root, "containers", trace.sandbox_id))]
        return [place for place in places if os.path.lexists(place)], len(places)

    def _mounts(self, trace: Trace) -> Left:
        """Mounts of its layers in any process's view; what is deleted lives on in a mount."""
        marks = [re.escape(os.fsencode(name)) for name in (trace.sandbox_id, *trace.volumes)]
        marks += [re.escape(os.fsencode(_mark(layer))) + rb"(?!\w)" for layer in trace.layers]
        any_of_them = re.compile(b"|".join(marks))
        left: dict[str, None] = {}
        tables = 0
        for lines in _mount_tables():
            tables += 1
            for line in lines.splitlines():
                if any_of_them.search(line):
                    left[os.fsdecode(line.split(b" ")[4])] = None
        return list(left), tables

    def _networks(self, trace: Trace) -> Left:
        left: list[str] = []
        for network in trace.networks:
            with translated():
                try:
                    details: dict[str, Any] = self._daemon.api.inspect_network(network)
                except NotFound:
                    continue
            if trace.sandbox_id in (details.get("Containers") or {}):
                left.append(f"endpoint in {network[:12]}")
        # Unmounted, its file is an empty one, which Docker clears away within a minute.
        if trace.namespace and os.path.ismount(trace.namespace):
            left.append(trace.namespace)
        return left, len(trace.networks) + bool(trace.namespace)

    def _way_out(self, trace: Trace) -> Left:
        doors = self._folder / "egress" / "doors"
        left = [str(path) for path in _named(doors, trace.sandbox_id)]
        with contextlib.suppress(OSError, ValueError):
            # Where no proxy runs, none has a door.
            if trace.sandbox_id in (wire.ask(self._folder / "egress", wire.Request(op="list")).doors or {}):
                left.append("open")
        return left, 1

    def _close_way_out(self, trace: Trace, name: str) -> None:
        if name != "open":
            _unlink(trace, name)
            return
        with contextlib.suppress(OSError, ValueError):
            wire.ask(self._folder / "egress", wire.Request(op="close", sandbox_id=trace.sandbox_id))

    def _files(self, trace: Trace) -> Left:
        """Marks and holds of the watchdog and of snapshots, and what was put down for a moment."""
        marks = [self._folder / "frozen", self._folder / "held"]
        left = [str(path) for folder in marks for path in _named(folder, trace.sandbox_id)]
        for folder in self._spools:
            left += [str(path) for path in _named(folder, trace.sandbox_id) if path.name.startswith(SPOOLED)]
        return left, len(marks) + len(self._spools)


def _named(folder: Path, sandbox_id: str) -> Iterator[Path]:
    """The files of a folder whose names bear a container's id, whole or its first twelve digits."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if sandbox_id[:12] in entry.name]
    except OSError:
        return
    yield from (folder / name for name in sorted(names))


def _unlink(trace: Trace, name: str) -> None:
    del trace
    with contextlib.suppress(OSError):
        if stat.S_ISREG(Path(name).lstat().st_mode):
            Path(name).unlink()


def _mark(layer: str) -> str:
    """What the mounts of a layer have in them, wherever the disk that it is on is mounted."""
    path = Path(layer)
    # containerd's names are small numbers, and mean something below their folder alone.
    return path.name if len(path.name) >= _TELLING else f"/{path.parent.name}/{path.name}"


def _processes(trace: Trace) -> Left:
    """Processes of its cgroup, those of its runtime, and what is left of the cgroup itself."""
    left = [folder for folder in trace.cgroups if Path(folder).is_dir()]
    running = {pid for folder in left for pid in processes_in(Path(folder))}
    running |= _of_runtime(trace.sandbox_id)
    return [*left, *(f"process {pid}" for pid in sorted(running))], len(trace.cgroups) + 1


def _of_runtime(sandbox_id: str) -> set[int]:
    found: set[int] = set()
    for pid in _pids():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            program = os.fsdecode(command.split(b"\0", 1)[0]).rpartition("/")[2]
            if sandbox_id.encode() in command and program.startswith(_RUNTIMES):
                found.add(pid)
    return found


def _end(trace: Trace, name: str) -> None:
    kind, _, number = name.partition(" ")
    if kind == "process":
        pid = int(number)
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            try:
                # Its number may be another's by now.
                if trace.sandbox_id in "".join(lines_of(Path(f"/proc/{pid}/cgroup"))):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)
        return
    with contextlib.suppress(OSError):
        Path(name).rmdir()


def _mount_tables() -> Iterator[bytes]:
    """The mounts of every mount namespace that there is on this host."""
    seen: set[int] = set()
    for pid in _pids():
        with contextlib.suppress(OSError):
            namespace = Path(f"/proc/{pid}/ns/mnt").stat().st_ino
            if namespace not in seen:
                lines = Path(f"/proc/{pid}/mountinfo").read_bytes()
                seen.add(namespace)
                yield lines


def _pids() -> list[int]:
    try:
        return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    except OSError:
        return []
