"""Tells which paths an image has, from the lower directories of an overlay."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from activities.snapshots.entries import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class InImage:
    """Asks once for each directory: of most deltas the image has not even those."""

    def __init__(self, lowers: Sequence[bytes]) -> None:
        self._having: dict[bytes, Sequence[bytes]] = {ROOT: lowers}

    def of(self, paths: Iterable[bytes]) -> dict[bytes, bool]:
        """Tell of each path whether a layer has it, under a whiteout or not."""
        return {path: bool(self._with(path, self._layers(path.rpartition(b"/")[0] or ROOT))) for path in paths}

    def _layers(self, directory: bytes) -> Sequence[bytes]:
        """Return the layers that have a directory."""
        unknown: list[bytes] = []
        while directory not in self._having:
            unknown.append(directory)
            directory = directory.rpartition(b"/")[0] or ROOT
        found = self._having[directory]
        for below in reversed(unknown):
            found = self._having[below] = self._with(below, found)
        return found

    def _with(self, path: bytes, layers: Sequence[bytes]) -> list[bytes]:
        return [layer for layer in layers if os.path.lexists(os.path.join(layer, path))]  # noqa: PTH118
