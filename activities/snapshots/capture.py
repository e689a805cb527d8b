"""What the engine needs of something that reads and writes a container's files. All of it blocks: run it in threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from activities.ports.snapshots import CaptureKind
    from activities.snapshots.entries import Entry
    from activities.snapshots.packs import PackWriter
    from activities.snapshots.state import Index, Scan, Signature


class Cancelled(Exception):
    """The caller gave up; raised inside the working thread only."""


class Control:
    """Between the activity and its working thread: what goes on, and whether to stop."""

    def __init__(self) -> None:
        self.text = ""
        self._stop = threading.Event()

    def report(self, text: str) -> None:
        """Say what goes on, and stop here when the caller gave up."""
        self.text = text
        self.check()

    def check(self) -> None:
        """Raise `Cancelled` when the caller gave up."""
        if self._stop.is_set():
            raise Cancelled

    def stop(self) -> None:
        """Ask the thread to stop at its next check."""
        self._stop.set()


class ContentSource(Protocol):
    """Gives back the verified content of entries."""

    def content(self, entry: Entry) -> Iterator[bytes]:
        """Yield the data of a file, holes left out, in order."""
        ...

    def in_order(self, entries: Iterable[Entry]) -> list[Entry]:
        """Sort entries by where their content lies, for speed."""
        ...


class Capture(Protocol):
    """Reads and writes one running container's files."""

    kind: CaptureKind
    image_id: str

    def prepare(self) -> bytes | None:
        """Return what `resume` will need to know of the fresh container; None: nothing."""
        ...

    needs_notes: bool
    """Whether `prepare` returns something that `resume` wants back."""

    def resume(self, notes: bytes | None) -> None:
        """Take up what `prepare` returned; called first of all when another process prepared the container."""
        ...

    def take(self, index: Index, writer: PackWriter, control: Control) -> Scan:
        """Read what differs from the image; what the index knows unchanged is not read but handed back as it is."""
        ...

    def in_image(self, paths: Iterable[bytes]) -> Mapping[bytes, bool]:
        """Tell which paths the image has; of use for counting alone."""
        ...

    def restore(
        self, entries: Mapping[bytes, Entry], source: ContentSource, control: Control
    ) -> dict[bytes, Signature]:
        """Bring the container's files to these entries, which were checked; return what their paths look like now."""
        ...


class CaptureFactory(Protocol):
    """Finds out how a container's files can be reached."""

    def open(self, container_id: str, known: Capture | None) -> Capture:
        """Return the way to reach the files of a running container: `known` itself when that is still right."""
        ...
