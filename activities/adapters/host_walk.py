"""Walks an upper directory from Python: where paths are left out, and where the host has no GNU find."""

from __future__ import annotations

import os
import stat
import sys
import zlib
from collections import defaultdict
from typing import TYPE_CHECKING

from activities.adapters.host_status import Found, Look, signature_of, status_of
from activities.adapters.linux_files import opened_directory, read_xattrs
from activities.snapshots.entries import MAX_NAME_BYTES, MAX_PATH_BYTES, ROOT, ancestors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activities.adapters.host_status import Status
    from activities.snapshots.capture import Control
    from activities.snapshots.exclusion import Exclusion
    from activities.snapshots.state import Signature

_REPORT_EVERY = 64
"""Directories."""
_KIND_MASK = 0o170000
_NONE: set[bytes] = set()
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


def walk(
    root: int,
    mount_points: frozenset[bytes],
    known: Mapping[bytes, Signature],
    control: Control,
    exclusion: Exclusion | None = None,
) -> Look:
    """See `host_look.look`."""
    # Asked of no path where there are no patterns.
    exclusion = exclusion or None
    hidden = _by_parent(mount_points)
    signatures: dict[bytes, Signature] = {}
    changed: list[Found] = []
    pending = [ROOT]
    skipped = seen = 0
    recall = known.get
    while pending:
        path = pending.pop()
        seen += 1
        if seen % _REPORT_EVERY == 0:
            control.report(f"looked at {len(signatures)} paths")
        with opened_directory(root, path) as directory:
            status = status_of(os.fstat(directory))
            left_out = exclusion is not None and exclusion.hides_below(path)
            signature = _of_left_out(directory, status) if left_out else signature_of(status)
            signatures[path] = signature
            if recall(path) != signature:
                changed.append(Found(path, status))
            prefix = b"" if path == ROOT else path + b"/"
            mounted = hidden.get(path, _NONE)
            asked = exclusion if exclusion is not None and exclusion.reaches_below(path) else None
            plain = not mounted and asked is None and len(prefix) + MAX_NAME_BYTES <= MAX_PATH_BYTES
            with os.scandir(directory) as children:
                for child in () if left_out else children:
                    status = status_of(child.stat(follow_symlinks=False))
                    name = child.name.encode(_ENCODING, _ERRORS)
                    below = prefix + name
                    kind = status.st_mode & _KIND_MASK
                    if not plain and (
                        name in mounted
                        or (asked is not None and asked.leaves_out(below, directory=kind == stat.S_IFDIR))
                    ):
                        continue
                    if kind == stat.S_IFSOCK or (not plain and len(below) > MAX_PATH_BYTES):
                        skipped += 1
                    elif kind == stat.S_IFDIR:
                        pending.append(below)
                    else:
                        signature = signatures[below] = signature_of(status)
                        if recall(below) != signature:
                            changed.append(Found(below, status))
    return Look(signatures=signatures, changed=changed, skipped=skipped)


def _of_left_out(directory: int, status: Status) -> Signature:
    """Return what tells a change of a directory itself: its times change with what is in it, which is left out."""
    attributes = zlib.crc32(repr(read_xattrs(directory)).encode())
    return b"%d %o %d %d %d" % (status.st_ino, status.st_mode, status.st_uid, status.st_gid, attributes)


def _by_parent(paths: frozenset[bytes]) -> dict[bytes, set[bytes]]:
    """Return the names of paths by the directory they are in."""
    found: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for path in paths:
        above, _, name = path.rpartition(b"/")
        # What lies below a hidden directory is never met.
        if not any(other in paths for other in ancestors(path)):
            found[above or ROOT].add(name)
    return dict(found)
