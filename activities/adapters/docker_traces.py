"""Notes what containers have on this host before they are removed; implements the port `Traces`."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from activities.adapters.cgroups import lines_of
from activities.adapters.docker_client import Daemon, translated
from activities.adapters.docker_overlay import parse_mounts
from activities.adapters.docker_remains import Remains
from activities.adapters.docker_sandbox import LABEL_AGENT, LABEL_GENERATION, LABEL_UID
from activities.errors import SandboxLost, SandboxUnavailable
from activities.ports.traces import Found, Trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger(__name__)

_CGROUPS = Path("/sys/fs/cgroup")


class DockerTraces:
    """Blocking; call it in threads."""

    def __init__(self, daemon: Daemon, folder: Path, spools: Sequence[Path] = ()) -> None:
        """Use this daemon.

        Args:
            daemon: Whose containers.
            folder: This host's own: notes are kept in `leaving` of it; marks, holds and ways out are looked for there.
            spools: Where files are put down for a moment on their way into or out of a sandbox.
        """
        self._daemon = daemon
        self._folder = folder / "leaving"
        self._remains = Remains(daemon, folder, spools)
        self._unwritten: dict[str, Trace] = {}

    def note(self, agent_uid: str, generation: int) -> None:
        """See the port."""
        with translated():
            filters = {"label": f"{LABEL_UID}={agent_uid}"}
            found: list[dict[str, Any]] = self._daemon.api.containers(all=True, filters=filters)
        for one in found:
            labels: dict[str, str] = one.get("Labels") or {}
            label = labels.get(LABEL_GENERATION, "0")
            if label.isdecimal() and int(label) <= generation:
                self.note_one(str(one["Id"]), "")

    def note_one(self, sandbox_id: str, reason: str) -> None:
        """See the port."""
        try:
            with translated():
                details: dict[str, Any] = self._daemon.api.inspect_container(sandbox_id)
        except SandboxLost:
            return
        known = self._unwritten.get(sandbox_id) or self._read(self._path(sandbox_id))
        trace = trace_of(details, reason)
        if known is not None:
            # One that no longer runs says less of itself than it did at the first attempt.
            trace = _more(known, trace)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self._path(sandbox_id)
            partial = path.with_suffix(f".{os.getpid()}")
            try:
                partial.write_text(trace.model_dump_json(), encoding="utf-8")
                partial.replace(path)
            except OSError:
                partial.unlink(missing_ok=True)
                raise
            self._unwritten.pop(sandbox_id, None)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                # What is to be removed may be what fills the disk: it is known as long as this process lives.
                log.warning("it cannot be noted in %s what %s has: the disk is full", self._folder, sandbox_id[:12])
                self._unwritten[sandbox_id] = trace
                return
            msg = f"It cannot be noted in {self._folder} what the container has ({error.strerror}): make room."
            raise SandboxUnavailable(msg) from error

    def noted(self) -> list[Trace]:
        """See the port."""
        try:
            paths = sorted(self._folder.glob("*.json"))
        except OSError:
            paths = []
        read = [trace for trace in map(self._read, paths) if trace is not None]
        return list({trace.sandbox_id: trace for trace in (*read, *self._unwritten.copy().values())}.values())

    def look(self, trace: Trace) -> Found:
        """See the port."""
        return self._remains.look(trace)

    def settle(self, trace: Trace) -> None:
        """See the port."""
        self._unwritten.pop(trace.sandbox_id, None)
        self._path(trace.sandbox_id).unlink(missing_ok=True)

    def _path(self, sandbox_id: str) -> Path:
        return self._folder / f"{sandbox_id}.json"

    def _read(self, path: Path) -> Trace | None:
        with contextlib.suppress(OSError, ValidationError):
            return Trace.model_validate_json(path.read_text(encoding="utf-8"))
        return None


def trace_of(details: dict[str, Any], reason: str = "") -> Trace:
    """What a container has, from what the daemon and the kernel say of it."""
    labels: dict[str, str] = details["Config"].get("Labels") or {}
    generation = labels.get(LABEL_GENERATION, "0")
    pid = int(details["State"].get("Pid") or 0)
    settings: dict[str, Any] = details.get("NetworkSettings") or {}
    networks: dict[str, dict[str, Any]] = settings.get("Networks") or {}
    mounts: list[dict[str, Any]] = details.get("Mounts") or []
    return Trace(
        sandbox_id=str(details["Id"]),
        agent_id=labels.get(LABEL_AGENT, ""),
        agent_uid=labels.get(LABEL_UID, ""),
        generation=int(generation) if generation.isdecimal() else 0,
        volumes=tuple(sorted(str(one["Name"]) for one in mounts if one.get("Type") == "volume" and one.get("Name"))),
        layers=_layers(details, pid),
        networks=tuple(sorted(str(one["NetworkID"]) for one in networks.values() if one.get("NetworkID"))),
        namespace=str(settings.get("SandboxKey") or ""),
        cgroups=tuple(_cgroups(pid, str(details["Id"]))),
        reason=reason,
    )


def _layers(details: dict[str, Any], pid: int) -> tuple[str, ...]:
    """The directories of its own that a container's root file system is made of."""
    driver: dict[str, Any] = details.get("GraphDriver") or {}
    data: dict[str, str] = driver.get("Data") or {}
    upper = data.get("UpperDir", "")
    if not upper and pid > 0:
        # The containerd image store does not say; the container's own mounts do.
        with contextlib.suppress(OSError):
            mounts = parse_mounts(Path(f"/proc/{pid}/mountinfo").read_bytes())
            roots = [mount for mount in mounts if mount.point == b"/" and mount.kind == b"overlay"]
            upper = os.fsdecode(roots[-1].options.get(b"upperdir", b"")) if roots else ""
    if not upper:
        return ()
    layer = Path(upper).parent
    # Docker keeps what it wrote itself (hosts, resolv.conf) in a second layer of the same name.
    return (str(layer), f"{layer}-init")


def _cgroups(pid: int, sandbox_id: str) -> Iterator[str]:
    if pid <= 0:
        return
    for line in lines_of(Path(f"/proc/{pid}/cgroup")):
        _, controllers, path = line.split(":", 2)
        # The process id may be another machine's: its cgroup then is some other's.
        if sandbox_id not in path:
            continue
        for tree in (controllers.removeprefix("name="),) if controllers else ("", "unified"):
            folder = _CGROUPS / tree / path.lstrip("/")
            if folder.is_dir():
                yield str(folder)


def _more(known: Trace, seen: Trace) -> Trace:
    """Both together."""
    fields = ("volumes", "layers", "networks", "cgroups")
    joined = {name: tuple(dict.fromkeys((*getattr(known, name), *getattr(seen, name)))) for name in fields}
    return seen.model_copy(
        update={
            **joined,
            "namespace": known.namespace or seen.namespace,
            "reason": seen.reason or known.reason,
        }
    )
