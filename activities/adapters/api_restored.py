"""What the paths of a snapshot look like right after its restore, read from a listing while that still arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activities.adapters.api_listing import FIELDS, nanoseconds, signature_of
from activities.errors import CaptureError
from activities.snapshots.entries import ROOT, Entry, Kind, ancestors
from activities.snapshots.state import WHITEOUT_SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activities.snapshots.state import Signature

_PATH = b"\0/"
"""What comes before the path in a record, and nowhere else."""
_BEFORE = 3
"""NUL bytes before the first record: after a look, after the mounts and after the time."""


class Restored:
    """Takes in a listing piece by piece."""

    def __init__(self, entries: Mapping[bytes, Entry], mounts: frozenset[bytes]) -> None:
        """Look for these entries, but for what other file systems hold."""
        self._wanted = {path: entry.kind for path, entry in unmounted(entries, mounts).items()}
        self._found: dict[bytes, tuple[Signature, int]] = {}
        self._there: set[bytes] = set()
        self._before = _BEFORE
        self._rest: bytes = b""
        self.taken_ns = 0
        """When the listing began, by the container's clock."""

    def feed(self, piece: bytes) -> None:
        """Take in what came next.

        Raises:
            CaptureError: It is no listing.
        """
        data: bytes = self._rest + piece
        while self._before:
            head, separator, after = data.partition(b"\0")
            if not separator:
                self._rest = data
                return
            self._before -= 1
            if not self._before:
                self.taken_ns = _time(head)
            data = after
        records, _, self._rest = data.rpartition(b"\0\0")
        for record in records.split(b"\0\0") if records else ():
            try:
                self._record(record)
            except ValueError as error:
                raise _unreadable() from error

    def signatures(self, settled_ns: int) -> dict[bytes, Signature]:
        """Return what every path looks like whose next change is sure to show: all that changed before this time.

        Raises:
            CaptureError: Not everything came.
        """
        if ROOT not in self._there:
            msg = "The container's listing of its files is cut short."
            raise CaptureError(msg)
        gone = (path for path, kind in self._wanted.items() if kind is Kind.WHITEOUT and path not in self._there)
        found = {path: signature for path, (signature, ctime_ns) in self._found.items() if ctime_ns < settled_ns}
        return found | dict.fromkeys(gone, WHITEOUT_SIGNATURE)

    def _record(self, record: bytes) -> None:
        fields, _, rest = record.rpartition(_PATH)
        path = rest or ROOT
        kind = self._wanted.get(path)
        if kind is None and path != ROOT:
            return
        if path in self._there:
            raise ValueError
        self._there.add(path)
        if kind is None or kind is Kind.WHITEOUT:
            return
        told = fields.split(b"\0")
        if len(told) != FIELDS - 1:
            raise ValueError
        ctime_ns = nanoseconds(told[6])
        self._found[path] = signature_of(int(told[7]), int(told[4]), nanoseconds(told[5]), ctime_ns), ctime_ns


def unmounted(entries: Mapping[bytes, Entry], mounts: frozenset[bytes]) -> dict[bytes, Entry]:
    """Return the entries that lie on the container's own file system."""
    tops = {mount.partition(b"/")[0] for mount in mounts}
    return {
        path: entry
        for path, entry in entries.items()
        if path.partition(b"/")[0] not in tops
        or not (path in mounts or any(above in mounts for above in ancestors(path)))
    }


def _time(text: bytes) -> int:
    try:
        return nanoseconds(text.strip())
    except ValueError as error:
        raise _unreadable() from error


def _unreadable() -> CaptureError:
    return CaptureError("The container's listing of its files cannot be read.")
