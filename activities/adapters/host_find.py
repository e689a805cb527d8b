"""Looks at every path of an upper directory by GNU find: twice as fast as from Python, and on a core of its own.

What it prints of a path is compared as it stands with what it printed before; only what differs is parsed.
"""

from __future__ import annotations

import functools
import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

from activities.adapters.host_status import Found, Look, Status, parse, signature_of, status_of
from activities.adapters.linux_files import opened_directory
from activities.snapshots.entries import MAX_PATH_BYTES, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activities.snapshots.capture import Control
    from activities.snapshots.state import Signature

_FORMAT = r"%P\0%i %s %T@ %C@ %y %m %U %G %n\0"
_ENVIRONMENT = {"LC_ALL": "C"}
_PIECE_BYTES = 1 << 18
_PIECES = 32
_WORDS_BYTES = 300
_ANSWERS_IN_S = 10.0


@functools.cache
def program() -> str | None:
    """Return the path of GNU find; None: this host has another one, or none."""
    path = shutil.which("find")
    if path is None:
        return None
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, timeout=_ANSWERS_IN_S, check=False, env=_ENVIRONMENT
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return path if b"GNU findutils" in said else None


def find(root: int, hidden: frozenset[bytes], known: Mapping[bytes, Signature], control: Control, using: str) -> Look:
    """See `host_look.look`; nothing is left out but what lies at mount points."""
    signatures = listed(root, hidden, control, using)
    recall = known.get
    changed: dict[bytes, list[Found]] = {}
    skipped = 0
    for path, words in [item for item in signatures.items() if recall(item[0]) != item[1]]:
        above = path.rpartition(b"/")[0]
        status = parse(words)
        if stat.S_ISSOCK(status.st_mode) or len(path) > MAX_PATH_BYTES:
            # What lies below a path too long to be named is not counted again.
            skipped += len(above) <= MAX_PATH_BYTES
            del signatures[path]
            continue
        if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            status = _asked(root, path)
            signatures[path] = signature_of(status)
            if recall(path) == signatures[path]:
                continue
        changed.setdefault(above, []).append(Found(path, status))
    # find(1) comes back to a directory after each one below it.
    together = [found for group in changed.values() for found in group]
    return Look(signatures=signatures, changed=together, skipped=skipped)


def listed(root: int, hidden: frozenset[bytes], control: Control, using: str) -> dict[bytes, Signature]:
    """Return what find(1) tells of each path, of whiteouts, sockets and paths too long to be named as well."""
    signatures: dict[bytes, bytes] = {}
    rest: list[bytes] = []
    command = [using, ".", "-printf", _FORMAT]
    with (
        os.fdopen(os.memfd_create("find"), "w+b") as complaints,
        subprocess.Popen(
            command, cwd=f"/proc/self/fd/{root}", stdout=subprocess.PIPE, stderr=complaints, env=_ENVIRONMENT
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - as asked for
        try:
            while piece := os.read(process.stdout.fileno(), _PIECE_BYTES):
                control.check()
                rest.append(piece)
                if len(rest) >= _PIECES:
                    rest = [_parse_pairs(b"".join(rest), signatures)]
                    control.report(f"looked at {len(signatures)} paths")
        except BaseException:
            process.kill()
            raise
        code = process.wait()
        complaints.seek(0)
        said = complaints.read(_WORDS_BYTES).decode(errors="backslashreplace").strip()
    left = _parse_pairs(b"".join(rest), signatures)
    if code != 0 or left:
        # It goes on past what vanishes on the way, and says so at the end.
        raise FileNotFoundError(0, said or f"find ended with {code}", os.fsencode(using))
    signatures[ROOT] = signatures.pop(b"")
    for path in hidden:
        if signatures.pop(path, b"").split(b" ")[4:5] == [b"d"]:
            below = path + b"/"
            signatures = {other: words for other, words in signatures.items() if not other.startswith(below)}
    return signatures


def _parse_pairs(text: bytes, into: dict[bytes, bytes]) -> bytes:
    """Take in whole pairs of path and words; return what is left."""
    parts = text.split(b"\0")
    whole = (len(parts) - 1) // 2 * 2
    into.update(zip(parts[0:whole:2], parts[1:whole:2], strict=True))
    return b"\0".join(parts[whole:])


def _asked(root: int, path: bytes) -> Status:
    above, _, name = path.rpartition(b"/")
    with opened_directory(root, above or ROOT) as directory:
        return status_of(os.stat(name, dir_fd=directory, follow_symlinks=False))
