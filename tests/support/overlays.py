"""Overlays of a container's, mounted beside it: its image with other changes, or with those it had at some time."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.support.boxes import Box


@dataclass(frozen=True, slots=True)
class Kept:
    """What a container's files were."""

    upper: Path
    lower: str

    @contextlib.contextmanager
    def mounted(self) -> Generator[Path]:
        """Look at the whole tree; nothing can be changed."""
        with _mounted(self.upper.with_name(f"{self.upper.name}-seen"), f"lowerdir={self.upper}:{self.lower}") as seen:
            yield seen


def keep(box: Box, folder: Path) -> Kept:
    """Copy what a container has changed, with all its attributes, into a folder that is made."""
    data = box.daemon.api.inspect_container(box.id)["GraphDriver"]["Data"]
    # Beneath it is what Docker made for the container, and removes with it; then the image.
    own, _, image = data["LowerDir"].partition(":")
    subprocess.run(["cp", "-a", data["UpperDir"], folder], check=True)
    subprocess.run(["cp", "-a", own, f"{folder}-init"], check=True)
    return Kept(folder, f"{folder}-init:{image}")


@contextlib.contextmanager
def image_of(box: Box, folder: Path) -> Generator[Path]:
    """The files of a container's image, in which everything can be changed."""
    lower = box.daemon.api.inspect_container(box.id)["GraphDriver"]["Data"]["LowerDir"]
    upper, work = folder / "upper", folder / "work"
    upper.mkdir(parents=True)
    work.mkdir()
    with _mounted(folder / "merged", f"lowerdir={lower},upperdir={upper},workdir={work}") as merged:
        yield merged


@contextlib.contextmanager
def _mounted(point: Path, options: str) -> Generator[Path]:
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)
