"""Where chunks lie, as three tables: packs, frames in packs, chunks in frames. Manifests have them, and offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from activities.errors import SnapshotDamaged
from activities.snapshots import layout
from activities.snapshots.packs import Location

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Tables:
    """The tables of some chunks, written."""

    def __init__(self, chunks: Mapping[bytes, Location]) -> None:
        packs: dict[str, int] = {}
        frames: dict[tuple[str, int, int, int], int] = {}
        self.chunks: list[tuple[str, int, int, int]] = []
        self.frames: list[tuple[int, int, int, int]] = []
        for digest, location in sorted(chunks.items(), key=lambda item: item[1]):
            frame = location.frame
            if frame not in frames:
                frames[frame] = len(frames)
                self.frames.append((packs.setdefault(location.pack, len(packs)), *frame[1:]))
            self.chunks.append((digest.hex(), frames[frame], location.start, location.length))
        self.packs = list(packs)


class Tabled(Protocol):
    """A document that has the tables."""

    @property
    def packs(self) -> Sequence[str]:
        """Keys of packs."""
        ...

    @property
    def frames(self) -> Sequence[tuple[int, int, int, int]]:
        """(index in `packs`, offset, stored bytes, plain bytes)."""
        ...

    @property
    def chunks(self) -> Sequence[tuple[str, int, int, int]]:
        """(digest, index in `frames`, start, bytes)."""
        ...


def locations(found: Tabled) -> dict[bytes, Location]:
    """Read the tables.

    Raises:
        SnapshotDamaged: They contradict themselves, or name what is no pack.
    """
    if not all(layout.is_pack_key(key) for key in found.packs):
        msg = "A manifest names a pack that is none."
        raise SnapshotDamaged(msg)
    chunks: dict[bytes, Location] = {}
    try:
        for digest, number, start, length in found.chunks:
            pack, offset, stored, plain = found.frames[number]
            if start + length > plain:
                msg = "A manifest places a chunk beyond its frame."
                raise SnapshotDamaged(msg)
            chunks[bytes.fromhex(digest)] = Location(found.packs[pack], offset, stored, plain, start, length)
    except IndexError:
        msg = "A manifest names a frame or a pack that it does not list."
        raise SnapshotDamaged(msg) from None
    return chunks
