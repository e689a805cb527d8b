"""Snapshots of an agent's computer, as listed, shown and compared."""

from datetime import datetime
from enum import StrEnum

from hibernaut.models.base import Open
from hibernaut.models.files import FileEntry


class SnapshotSummary(Open):
    """One snapshot, in a line. Of one that cannot be read, only its place and its damage are known."""

    number: int
    ref: str
    """Key of its manifest in the object store."""
    newest: bool = False
    """Whether the agent goes on from it."""
    names: tuple[str, ...] = ()
    """Names given to it, by which it is kept."""
    damage: str = ""
    """Why it cannot be read; empty when it can."""
    manifest_bytes: int = 0
    created: datetime | None = None
    generation: int = 0
    """Of the sandbox it was taken of."""
    parent: str | None = None
    """Reference of the snapshot before it."""
    kind: str = ""
    """`full`, or `delta`: then it builds on its parent."""
    depth: int = 0
    """Deltas down to the full one it builds on, itself included."""
    capture: str = ""
    """`host` or `api`: how the files were reached."""
    image: str = ""
    """Id of the image that it is a difference from."""
    added: int = 0
    """Files, links and the like; directories are not counted, here and below."""
    changed: int = 0
    deleted: int = 0
    skipped: int = 0
    """Sockets and paths too long to be named, which no snapshot holds."""
    files: int = 0
    """In the whole difference from the image."""
    bytes_new: int = 0
    """Bytes it added to the store, its manifest included."""
    bytes_total: int = 0
    """Of content in the whole difference from the image, uncompressed."""
    duration_ms: int = 0
    """What taking it took; 0 when not known."""


class SnapshotPage(Open):
    """Some of an agent's snapshots, the newest first."""

    snapshots: tuple[SnapshotSummary, ...]
    total: int
    """Of all snapshots that the store has."""
    before: int | None = None
    """The next page begins before this number; none when this is the last one."""


class SnapshotLink(Open):
    """A manifest that a snapshot is read from."""

    ref: str
    number: int
    kind: str
    manifest_bytes: int


class SnapshotPack(Open):
    """An object with content of a snapshot."""

    key: str
    size: int | None
    """Bytes; none when it is missing from the store."""
    used: int
    """Bytes of it that restoring the snapshot reads."""
    new: bool
    """Whether this snapshot's own manifest names it, and not one below."""


class SnapshotDetail(Open):
    """All there is to say of a snapshot, its paths left out."""

    snapshot: SnapshotSummary
    chain: tuple[SnapshotLink, ...] = ()
    """What it is read from: itself, then what it builds on, down to a full one."""
    packs: tuple[SnapshotPack, ...] = ()
    """The objects that a restore of it reads, those it reads most of first."""
    biggest: tuple[FileEntry, ...] = ()
    """Its largest files."""
    damage: str = ""
    """Why it cannot be restored, when a manifest that it builds on cannot be read."""


class SnapshotPath(Open):
    """A path in which a snapshot differs from its image."""

    path: str
    """Names that are not UTF-8 are shown with surrogate escapes."""
    file: FileEntry | None
    """None: the image's path is deleted, with all below it."""
    link: str | None = None
    """The path that this one is a hard link to."""
    opaque: bool = False
    """A directory that hides what the image has at its path."""


class ChangeKind(StrEnum):
    """What happened to a path."""

    ADDED = "added"
    CHANGED = "changed"
    DELETED = "deleted"


class SnapshotChange(Open):
    """A path in which two snapshots differ."""

    path: str
    change: ChangeKind
    what: tuple[str, ...] = ()
    """Of a path that both have: type, content, mode, owner, time, target, device, attributes, link."""
    before: FileEntry | None = None
    """None when it was not there, or the image's own."""
    after: FileEntry | None = None
    """None when it is not there, or the image's own."""
