"""What the engine needs of something that reads and writes a container's files. All of it blocks: run it in threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from activities.snapshots.scope import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from activities.ports.snapshots import CaptureKind
    from activities.snapshots.entries import Entry
    from activities.snapshots.packs import Location, PackWriter
    from activities.snapshots.scope import Scope
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

    def content(self, entry: Entry) -> Iterator[bytes | memoryview]:
        """Yield the data of a file, holes left out, in order; may be called by several threads."""
        ...

    def in_order(self, entries: Iterable[Entry]) -> list[Entry]:
        """Sort entries by where their content lies, for speed."""
        ...


class Piece(NamedTuple):
    """One frame of a pack, verified as far as it is wanted."""

    frame: tuple[str, int, int, int]
    """Pack, offset, stored bytes, plain bytes."""
    stored: bytes
    content: bytes
    chunks: Mapping[bytes, Location]
    """Where the chunks that are wanted lie in the content."""


class PieceSource(Protocol):
    """Gives back verified content as it comes."""

    @property
    def chunks(self) -> Mapping[bytes, Location]:
        """Where chunks lie, and how long they are: of what is wanted, and maybe of others."""
        ...

    def pieces(self) -> Iterator[Piece]:
        """Yield what is wanted, each frame once among all threads that call this."""
        ...


class Capture(Protocol):
    """Reads one running container's files; it writes them in one of the two ways below."""

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

    def take(
        self,
        index: Index,
        writer: PackWriter,
        control: Control,
        *,
        thorough: bool = False,
        scope: Scope = EVERYTHING,
    ) -> Scan:
        """Read what differs from the image; what the index knows unchanged is not read but handed back as it is.

        Args:
            index: What is known of the files.
            writer: Takes the content of what is read.
            control: Told what goes on.
            thorough: Every path is looked at, whatever proof there is that nothing ran.
            scope: What belongs to a snapshot. A directory that is left out has its own entry, never an opaque one.

        Raises:
            SnapshotTooLarge: There is more than the scope allows; nothing was read then.
        """
        ...

    def in_image(self, paths: Iterable[bytes]) -> Mapping[bytes, bool]:
        """Tell which paths the image has; of use for counting alone."""
        ...

    def written(self, entries: Mapping[bytes, Entry], control: Control) -> set[bytes]:
        """Return the files that an earlier restore of these very entries has finished; none, where that is unknown."""
        ...


@runtime_checkable
class RestoresInOrder(Protocol):
    """A capture that asks for the content of one file after the other."""

    def restore(
        self,
        entries: Mapping[bytes, Entry],
        source: ContentSource,
        control: Control,
        done: Container[bytes] = (),
    ) -> dict[bytes, Signature]:
        """Bring the container's files to these entries, which were checked; return what their paths look like now.

        `done`: files that are not written again.
        """
        ...


@runtime_checkable
class RestoresPieces(Protocol):
    """A capture that writes content as it comes."""

    def restore_pieces(
        self,
        entries: Mapping[bytes, Entry],
        source: PieceSource,
        control: Control,
        done: Container[bytes] = (),
    ) -> dict[bytes, Signature]:
        """See `RestoresInOrder.restore`.

        Raises:
            SnapshotDamaged: Content that came proved damaged; some of the files are written.
        """
        ...


class CaptureFactory(Protocol):
    """Finds out how a container's files can be reached."""

    def open(self, container_id: str, known: Capture | None) -> Capture:
        """Return the way to reach the files of a running container: `known` itself when that is still right."""
        ...
