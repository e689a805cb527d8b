"""Looks at every path of an overlay's upper directory, and tells which look otherwise than they did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activities.adapters import host_find, host_walk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activities.adapters.docker_overlay import Overlay
    from activities.adapters.host_status import Look
    from activities.snapshots.capture import Control
    from activities.snapshots.exclusion import Exclusion
    from activities.snapshots.state import Signature


def look(
    root: int,
    overlay: Overlay,
    known: Mapping[bytes, Signature],
    control: Control,
    exclusion: Exclusion | None = None,
) -> Look:
    """Walk the tree below an open directory, mount points and what is left out aside.

    Raises:
        OSError: A path vanished on the way, which happens only while something runs in the container.
    """
    native = host_find.program()
    if native is None or exclusion:
        # What is left out may be large: only a walk of our own does not enter it.
        return host_walk.walk(root, overlay.mount_points, known, control, exclusion)
    return host_find.find(root, overlay.mount_points, known, control, native)


def signatures(root: int, overlay: Overlay, control: Control) -> dict[bytes, Signature]:
    """Return what the paths below an open directory look like; what a whiteout looks like is not to be relied on."""
    native = host_find.program()
    if native is None:
        return host_walk.walk(root, overlay.mount_points, {}, control, None).signatures
    return host_find.listed(root, overlay.mount_points, control, native)
