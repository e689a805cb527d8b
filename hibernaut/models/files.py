"""Files of an agent's computer, as listed."""

from datetime import datetime
from enum import StrEnum

from hibernaut.models.base import Open


class FileType(StrEnum):
    """The type of a path."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    DEVICE = "device"
    SOCKET = "socket"


class FileEntry(Open):
    """One path. Names that are not UTF-8 are shown with surrogate escapes."""

    path: str
    type: FileType
    size: int
    """Bytes; 0 for anything but a file."""
    mode: int
    """Permission bits, set-id and sticky included."""
    uid: int
    gid: int
    mtime: datetime
    target: str | None = None
    """Where a symbolic link points."""
