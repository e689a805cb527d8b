"""A listing of a container as it came, and what it says as entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from activities.adapters.api_delta import Delta, Image, followed
from activities.adapters.api_listing import parse_listing
from activities.adapters.api_proof import Look, parse_look
from activities.adapters.host_scan import FRESH_NS
from activities.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from activities.adapters.api_large import Segments
    from activities.adapters.api_listing import Listing, Seen
    from activities.adapters.api_shell import ContainerShell, End
    from activities.snapshots.capture import Control
    from activities.snapshots.scope import Scope
    from activities.snapshots.state import Index, Signature

_UPTIME_STEP_NS = 10_000_000


@dataclass(frozen=True, slots=True)
class Known:
    """What a scan left behind for the next one."""

    listing: Listing
    delta: Delta
    signatures: dict[bytes, Signature]
    """The very ones of that scan: an index that holds them is of that scan."""
    shell: ContainerShell
    look: Look | None
    """Nothing but the shell ran from before the listing up to this one; None: that is not proved."""
    segments: Mapping[bytes, Segments]
    """Of large files that changed before."""

    def is_of(self, index: Index, scope: Scope) -> bool:
        """Tell whether the index is of this very scan, and of the same scope."""
        return self.signatures is index.signatures and self.listing.patterns == scope.exclusion.patterns

    def stands_still(self, shell: ContainerShell, now: Look | None) -> bool:
        """Tell whether it is proved that no file changed since the scan."""
        return shell is self.shell and now is not None and self.look is not None and not now.ran_since(self.look, [])


class Raw(NamedTuple):
    """A listing as it came."""

    raw: bytes
    look: Look | None
    """Made before it."""
    end: End

    def still(self, end: End | None = None) -> Look | None:
        """Return the last look if nothing but the shell ran from before the listing up to it.

        Args:
            end: Of what the shell was asked after the listing; by default of the listing itself.
        """
        births = self.end.births + (end.births if end is not None else [])
        last = (end or self.end).look
        if self.look is None or last is None or last.ran_since(self.look, births):
            return None
        return last

    def settled_ns(self, taken_ns: int, last: Look | None) -> int:
        """Return the time before which a change is sure to differ in its time from every later one.

        Args:
            taken_ns: When it began, by the container's clock.
            last: The look up to which nothing ran, which is not before the next change then.
        """
        passed = last.uptime_ns - self.look.uptime_ns - _UPTIME_STEP_NS if last is not None and self.look else 0
        return taken_ns + max(passed, 0) - FRESH_NS


def list_paths(
    shell: ContainerShell,
    control: Control,
    take: Callable[[bytes], None] | None = None,
    ahead: tuple[bytes, int] | None = None,
) -> Raw:
    """List everything; for `take` and `ahead` see `ContainerShell.list`.

    Raises:
        CaptureToolMissing: The image lacks GNU find or GNU tar.
        CaptureError: The listing could not be made.
    """
    body, end = shell.list(control, take, ahead)
    # One: a path vanished on the way, which is no error.
    if end.code not in (0, 1):
        msg = f"Listing the container's files failed with code {end.code}: {shell.complaints}"
        raise CaptureError(msg)
    look, _, raw = body.partition(b"\0")
    return Raw(raw, parse_look(look), end)


class View:
    """What a listing says, as entries: of which paths it has to be found out anew, and what sort they are."""

    def __init__(self, image: Image, raw: Raw, known: Known | None, index: Index, scope: Scope) -> None:
        """Look at a listing against the one before, whose entries the index holds, or against the image alone."""
        change = parse_listing(raw.raw, known.listing if known is not None else image.listing, scope.exclusion)
        self.listing = change.listing
        self.delta, self.anew = followed(known.delta if known is not None else Delta(), change, image)
        self.entries = dict(index.state.entries) if known is not None else {}
        self.signatures = dict(index.signatures) if known is not None else {}
        self.anew |= self.entries.keys() - self.signatures.keys()
        self.anew |= self.delta.present - self.entries.keys()
        self.own: dict[bytes, Seen] = {}
        """Paths that bear a content of their own, or none."""
        self.linked: dict[bytes, bytes] = {}
        """Hard links, and the first name of each."""
        self.whiteouts: list[bytes] = []
        leaders: dict[int, bytes] = {}
        for path in self.anew:
            self.entries.pop(path, None)
            self.signatures.pop(path, None)
            if path in self.delta.present:
                seen = change.new.get(path) or self.listing.seen(path)
                if seen.inode in self.delta.links and not seen.is_directory:
                    if seen.inode not in leaders:
                        leaders[seen.inode] = self.delta.leader(seen.inode)
                    if leaders[seen.inode] != path:
                        self.linked[path] = leaders[seen.inode]
                        continue
                self.own[path] = seen
            elif path in self.delta.deleted and not scope.exclusion.leaves_out(path, directory=False):
                self.whiteouts.append(path)
