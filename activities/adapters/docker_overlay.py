"""Finds a container's files on this host: the upper directory of its overlay, named in its init process's mounts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ESCAPE = re.compile(rb"\\([0-7]{3})")
_PARAMETERS = Path("/sys/module/overlay/parameters")
_HIDING = ("redirect_dir", "metacopy", "index")
"""Features of overlay under which the upper directory alone does not say what differs from the image."""
_GVISOR_PATTERN = ".gvisor.filestore.*"


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo."""

    point: bytes
    kind: bytes
    options: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Overlay:
    """A running container's root file system."""

    pid: int
    """Of the container's init process, on this host."""
    upper: bytes
    lowers: tuple[bytes, ...]
    mount_points: frozenset[bytes]
    """Relative to the container's root: other file systems, which no snapshot holds."""


def find_overlay(details: dict[str, Any]) -> Overlay | None:
    """Return a running container's overlay when this process can use it beside the daemon; else None.

    Args:
        details: What the daemon says of the container (`inspect`).
    """
    pid = int(details["State"]["Pid"])
    identity = str(details["Id"]).encode()
    if os.geteuid() != 0 or pid <= 0:
        return None
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_bytes()
        groups = Path(f"/proc/{pid}/cgroup").read_bytes()
        user_map = Path(f"/proc/{pid}/uid_map").read_text().split()
        # The process id may be one of another machine or name space: the container must recognise itself.
        if identity not in lines and identity not in groups:
            return None
        if user_map != ["0", "0", "4294967295"]:
            return None
        return _usable(pid, parse_mounts(lines))
    except OSError:
        return None


def parse_mounts(lines: bytes) -> list[Mount]:
    """Read mountinfo."""
    mounts: list[Mount] = []
    for line in lines.splitlines():
        left, _, right = line.partition(b" - ")
        fields, tail = left.split(b" "), right.split(b" ")
        options = dict(_option(option) for option in tail[2].split(b",")) if len(tail) > 2 else {}  # noqa: PLR2004
        mounts.append(Mount(point=_plain(fields[4]), kind=tail[0], options=options))
    return mounts


def mount_points(mounts: list[Mount]) -> frozenset[bytes]:
    """Return the mount points other than the root, relative to it."""
    return frozenset(mount.point.lstrip(b"/") for mount in mounts if mount.point != b"/")


def _usable(pid: int, mounts: list[Mount]) -> Overlay | None:
    roots = [mount for mount in mounts if mount.point == b"/"]
    if not roots or roots[-1].kind != b"overlay":
        return None
    options = roots[-1].options
    upper = options.get(b"upperdir")
    if upper is None or b"userxattr" in options or any(_is_on(name, options) for name in _HIDING):
        return None
    if any(Path(os.fsdecode(upper)).glob(_GVISOR_PATTERN)):
        # gVisor keeps the container's writes in a file of its own: this directory stays empty.
        return None
    base = Path(os.fsdecode(upper)).parent.parent
    lowers = [os.fsencode(base / os.fsdecode(lower)) for lower in options.get(b"lowerdir", b"").split(b":") if lower]
    return Overlay(pid=pid, upper=upper, lowers=tuple(lowers), mount_points=mount_points(mounts))


def _is_on(name: str, options: dict[bytes, bytes]) -> bool:
    value = options.get(name.encode())
    if value is not None:
        return value in (b"on", b"follow")
    try:
        return (_PARAMETERS / name).read_text().strip() in ("Y", "1")
    except FileNotFoundError:
        return False


def _option(option: bytes) -> tuple[bytes, bytes]:
    name, _, value = option.partition(b"=")
    return name, _plain(value)


def _plain(field: bytes) -> bytes:
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), field)
