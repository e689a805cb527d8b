"""Compares two trees with rsync, which knows nothing of snapshots: every byte, attribute, link and time."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.setup.rsync import ensure_rsync

if TYPE_CHECKING:
    from collections.abc import Iterable

COMPARE = (
    "-aHAX", "--checksum", "--dry-run", "--itemize-changes", "--delete", "--numeric-ids",
    "--modify-window=-1",  # times to the nanosecond
    "--8-bit-output", "--no-inc-recursive",
)  # fmt: skip


def differences(left: Path, right: Path, leave_out: Iterable[str] = ()) -> list[str]:
    """Return a line for everything in which two directories differ, as root sees them.

    Asked in both directions, since rsync looks for no hard link that only the receiving side has.

    Args:
        left: One directory.
        right: The other one.
        leave_out: Paths in them, beginning with a slash, that are not looked at, nor what is below.

    Raises:
        RuntimeError: rsync could not read all of both.
    """
    ensure_rsync()
    excludes = [f"--exclude={path}" for path in leave_out]
    found: list[str] = []
    for source, target in ((left, right), (right, left)):
        argv = ["rsync", *COMPARE, *excludes, f"{source}/", f"{target}/"]
        done = subprocess.run(argv, capture_output=True, check=False)
        if done.returncode != 0:
            said = done.stderr.decode(errors="backslashreplace")
            raise RuntimeError(f"{' '.join(argv)} ended with exit code {done.returncode}: {said}")
        found += done.stdout.decode(errors="backslashreplace").splitlines()
    return found
