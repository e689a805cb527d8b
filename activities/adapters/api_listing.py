"""Lists every path of a container by one `find` inside it, and tells which differ from the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from activities.adapters.docker_overlay import mount_points, parse_mounts
from activities.adapters.docker_stream import WAIT, ExecStream
from activities.errors import CaptureError, CaptureToolMissing, PathEscape
from activities.snapshots.entries import MAX_PATH_BYTES, ROOT, ancestors, check_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from activities.adapters.docker_client import Daemon
    from activities.snapshots.capture import Control
    from activities.snapshots.state import Signature

_FIELDS = ("%y", "%m", "%U", "%G", "%s", "%T@", "%C@", "%i", "%n", "%l", "%P")
_FORMAT = r"\0".join(_FIELDS) + r"\0"
_SCRIPT = (
    WAIT + "find --version 2>/dev/null | grep -q GNU || { echo no GNU find >&2; exit 90; }; "
    "tar --version 2>/dev/null | grep -q GNU || { echo no GNU tar >&2; exit 90; }; "
    "sync -f /; cat /proc/self/mountinfo; printf '\\0'; date +%s.%N; printf '\\0'; "
    f"exec find / -xdev -printf '{_FORMAT}'"
)
_NO_TOOL = 90
_PIECE = 1 << 18
_MAX_BYTES = 256 << 20
_SOCKET = b"s"


class Seen(NamedTuple):
    """A path as `find` saw it."""

    letter: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    links: int
    target: bytes

    @property
    def signature(self) -> Signature:
        """What tells a change of this path."""
        return (self.inode, self.size, self.mtime_ns, self.ctime_ns)


@dataclass(frozen=True, slots=True)
class Listing:
    """All paths of a container but those of other mounts."""

    paths: dict[bytes, Seen]
    taken_ns: int
    """When it began, by the container's clock."""
    skipped: int
    """Sockets, and paths too long to be named."""
    mounts: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Delta:
    """How a listing differs from that of the image."""

    present: list[bytes]
    """New or different, with every directory above them."""
    deleted: list[bytes]
    """Of the image, the topmost."""


def read_listing(daemon: Daemon, container_id: str, control: Control) -> bytes:
    """Return what `parse_listing` reads.

    Raises:
        CaptureToolMissing: The image lacks GNU find or GNU tar.
        CaptureError: The listing could not be made.
    """
    parts: list[bytes] = []
    size = 0
    with ExecStream(daemon, container_id, ["/bin/sh", "-c", _SCRIPT]) as stream:
        while piece := stream.read(_PIECE):
            parts.append(piece)
            size += len(piece)
            control.report(f"listing files, {size >> 10} KiB")
            if size > _MAX_BYTES:
                msg = "The container has more files than can be listed: remove some."
                raise CaptureError(msg)
        code = stream.finish()
        why = stream.complaints.decode(errors="replace").strip()
    if code in (_NO_TOOL, 126, 127):
        msg = (
            f"Files cannot be captured through the Docker API: {why or 'no shell'} in the image. Use an image with a "
            "shell, GNU find and GNU tar, or run the worker as root beside the daemon."
        )
        raise CaptureToolMissing(msg)
    # One: a path vanished on the way, which is no error.
    if code not in (0, 1):
        msg = f"Listing the container's files failed with code {code}: {why[:500]}"
        raise CaptureError(msg)
    return b"".join(parts)


def parse_listing(raw: bytes) -> Listing:
    """Read a listing; it comes from an untrusted container."""
    try:
        mount_lines, clock, found = raw.split(b"\0", 2)
        mounts = mount_points(parse_mounts(mount_lines))
        taken = _nanoseconds(clock.strip())
        paths: dict[bytes, Seen] = {}
        skipped = 0
        for path, seen in _paths(found.lstrip(b"\n")):
            if path in mounts or any(above in mounts for above in ancestors(path)):
                continue
            if seen.letter == _SOCKET or len(path) > MAX_PATH_BYTES:
                skipped += 1
                continue
            check_path(path)
            paths[path] = seen
    except (ValueError, IndexError, PathEscape) as error:
        msg = "The container's listing of its files cannot be read."
        raise CaptureError(msg) from error
    if ROOT not in paths:
        msg = "The container's listing of its files is cut short."
        raise CaptureError(msg)
    return Listing(paths=paths, taken_ns=taken, skipped=skipped, mounts=mounts)


def differences(base: Listing, now: Listing) -> Delta:
    """Tell what differs from the image, in the words of an overlay."""
    present: set[bytes] = set()
    for path, seen in now.paths.items():
        if base.paths.get(path) != seen:
            present.add(path)
            present.update(ancestors(path))
    deleted: list[bytes] = []
    for path in base.paths:
        if path in now.paths:
            continue
        above = path.rpartition(b"/")[0] or ROOT
        parent = now.paths.get(above)
        # Below what is gone, or no directory any more, nothing needs to be said.
        if parent is not None and parent.letter == b"d":
            deleted.append(path)
            if above != ROOT:
                present.add(above)
                present.update(ancestors(above))
    present.add(ROOT)
    return Delta(present=sorted(present & now.paths.keys()), deleted=deleted)


def _paths(found: bytes) -> Iterator[tuple[bytes, Seen]]:
    fields = found.split(b"\0")
    if fields.pop() != b"" or len(fields) % len(_FIELDS):
        raise ValueError
    for at in range(0, len(fields), len(_FIELDS)):
        letter, mode, uid, gid, size, mtime, ctime, inode, links, target, path = fields[at : at + len(_FIELDS)]
        yield (
            path or ROOT,
            Seen(
                letter,
                int(mode, 8),
                int(uid),
                int(gid),
                int(size),
                _nanoseconds(mtime),
                _nanoseconds(ctime),
                int(inode),
                int(links),
                target,
            ),
        )


def _nanoseconds(text: bytes) -> int:
    """Read whole seconds and, after the point, nanoseconds to be added to them (also to negative ones)."""
    seconds, _, fraction = text.partition(b".")
    return int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
