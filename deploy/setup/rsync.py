"""rsync, which the tests compare a restored container with: the one that is installed, else Debian's package."""

from __future__ import annotations

import shutil

from deploy.setup import apt


def ensure_rsync() -> None:
    """Make sure that `rsync` is there.

    Raises:
        SetupError: It is not, and cannot be installed here.
    """
    if shutil.which("rsync") is None:
        apt.install(["rsync"], why="restored snapshots are compared with rsync")
