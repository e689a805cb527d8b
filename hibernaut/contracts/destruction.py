"""What was looked at after a sandbox was destroyed."""

from hibernaut.models.base import Open


class Looked(Open):
    """One kind of thing that a sandbox may leave behind."""

    what: str
    """`container`, `volumes`, `layers`, `mounts`, `networks`, `way out`, `processes`, `files`."""
    looked_at: int
    """How many of them were looked for."""
    found: int = 0
    """How many were still there."""
    removed: int = 0
    """How many of those were then removed; the rest are remnants."""
    note: str = ""
    """Why nothing was looked at, where that is so."""
