"""The programs that the benchmark of snapshots compares with: Debian's own packages."""

from __future__ import annotations

import shutil

from deploy.setup import apt
from deploy.setup.console import say

PACKAGES = {"restic": "restic", "borg": "borgbackup", "zstd": "zstd", "rsync": "rsync"}
"""By program."""


def ensure_peers() -> None:
    """Make sure that the peers' programs are there.

    Raises:
        SetupError: One is missing and cannot be installed; the message says which.
    """
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if missing:
        apt.install(missing, why="The benchmark of snapshots compares with other programs")
    say(f"peers: {', '.join(PACKAGES)} are installed")
