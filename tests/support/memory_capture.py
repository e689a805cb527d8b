"""A capture without a container: the files are a dictionary."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from activities.snapshots.entries import ROOT, Entry, Kind
from activities.snapshots.scope import EVERYTHING
from activities.snapshots.state import Index, Scan, Signature

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from activities.ports.snapshots import CaptureKind
    from activities.snapshots.capture import Capture, ContentSource, Control
    from activities.snapshots.packs import PackWriter
    from activities.snapshots.scope import Scope

Tree = dict[bytes, tuple[Entry, bytes]]


class MemoryCapture:
    """A container whose files are a dictionary; also its own factory."""

    kind: CaptureKind = "host"
    image_id = "sha256:image"
    needs_notes = False

    def __init__(self) -> None:
        self.tree: Tree = {}
        self.add(Entry(ROOT, Kind.DIRECTORY, mode=0o755))

    def add(self, entry: Entry, content: bytes = b"") -> None:
        size = entry.size or len(content)
        self.tree[entry.path] = (entry._replace(size=size), content)

    def open(self, container_id: str, known: Capture | None) -> Capture:
        del container_id, known
        return self

    def prepare(self) -> bytes | None:
        return b"notes"

    def resume(self, notes: bytes | None) -> None:
        del notes

    def take(
        self,
        index: Index,
        writer: PackWriter,
        control: Control,
        *,
        thorough: bool = False,
        scope: Scope = EVERYTHING,
    ) -> Scan:
        del index, thorough
        control.report("reading")
        tree = {
            path: (entry, content)
            for path, (entry, content) in self.tree.items()
            if not scope.exclusion.leaves_out(path, directory=entry.kind is Kind.DIRECTORY)
        }
        scope.limit.check({path: len(content) for path, (_, content) in tree.items()})
        entries = {
            path: entry._replace(chunks=writer.add(io.BytesIO(content))[0]) if content else entry
            for path, (entry, content) in tree.items()
        }
        return Scan(entries=entries, signatures={}, skipped=0)

    def in_image(self, paths: Iterable[bytes]) -> Mapping[bytes, bool]:
        return dict.fromkeys(paths, False)

    def written(self, entries: Mapping[bytes, Entry], control: Control) -> set[bytes]:
        del entries, control
        return set()

    def restore(
        self,
        entries: Mapping[bytes, Entry],
        source: ContentSource,
        control: Control,
        done: Container[bytes] = (),
    ) -> dict[bytes, Signature]:
        del done
        control.report("writing")
        self.tree = {
            path: (entry._replace(chunks=()), b"".join(source.content(entry))) for path, entry in entries.items()
        }
        return {}
