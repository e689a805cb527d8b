"""How a container's listing differs from that of its image, in the words of an overlay; kept up as listings change."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from activities.snapshots.entries import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from activities.adapters.api_listing import Change, Listing


class Image:
    """The listing of a fresh container."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing

    @cached_property
    def children(self) -> dict[bytes, list[bytes]]:
        """The paths in each directory."""
        found: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for path in self.listing.records:
            if path != ROOT:
                found[_above(path)].append(path)
        return found


@dataclass(frozen=True, slots=True)
class Delta:
    """What differs. Nothing in it is ever changed."""

    present: set[bytes] = field(default_factory=lambda: {ROOT})
    """New or different, with every directory above them."""
    deleted: set[bytes] = field(default_factory=set[bytes])
    """Of the image, the topmost."""
    links: dict[int, frozenset[bytes]] = field(default_factory=dict[int, frozenset[bytes]])
    """The names of each inode that has several, as far as they were told of."""

    def leader(self, inode: int) -> bytes:
        """Return the name of an inode that bears its content; its other names point to it."""
        return min(path for path in self.links[inode] if path in self.present)


def followed(delta: Delta, change: Change, image: Image) -> tuple[Delta, set[bytes]]:
    """Bring a delta up to date; return it, and the paths of which it may say something else than before."""
    now = change.listing
    touched = change.gone.keys() | change.new.keys()
    links, linked = _linked(delta, change)
    grown = _with_ancestors(path for path in change.new if now.records[path] not in image.listing.everything)
    deleted = set(delta.deleted)
    for path in _to_reconsider(touched, image):
        # Below what is gone, or no directory any more, nothing needs to be said.
        if path not in now.records and now.is_directory(_above(path)):
            deleted.add(path)
            grown |= _with_ancestors([_above(path)])
        else:
            deleted.discard(path)
    present = (delta.present | grown) & now.records.keys()
    return Delta(present, deleted, links), {
        *touched,
        *(grown - delta.present),
        *(deleted ^ delta.deleted),
        *(path for inode in linked for names in (delta.links, links) for path in names.get(inode, ())),
    }


def _linked(delta: Delta, change: Change) -> tuple[dict[int, frozenset[bytes]], set[int]]:
    """Return the names of inodes that have several, and the inodes whose names may be others than before."""
    gone = {path: seen.inode for path, seen in change.gone.items() if seen.links > 1 and not seen.is_directory}
    new = {path: seen.inode for path, seen in change.new.items() if seen.links > 1 and not seen.is_directory}
    links = dict(delta.links)
    for path, inode in gone.items():
        links[inode] = links.get(inode, frozenset()) - {path}
    for path, inode in new.items():
        links[inode] = links.get(inode, frozenset()) | {path}
    linked = {*gone.values(), *new.values()}
    for inode in linked:
        if not links.get(inode):
            links.pop(inode, None)
    return links, linked


def _to_reconsider(touched: Iterable[bytes], image: Image) -> Iterator[bytes]:
    """The image's paths that may be deleted now, or be no longer so."""
    for path in touched:
        if path in image.listing.records and path != ROOT:
            yield path
        yield from image.children.get(path, ())


def _with_ancestors(paths: Iterable[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    for path in paths:
        while path not in found:
            found.add(path)
            path = _above(path)  # noqa: PLW2901  # up to the root, which is above itself
    return found


def _above(path: bytes) -> bytes:
    return path.rpartition(b"/")[0] or ROOT
