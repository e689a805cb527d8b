"""Captures and restores a container's files on the Docker host itself, as root, through its overlay."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from activities.adapters.host_restore import RootWriter
from activities.adapters.host_scan import FRESH_NS, UpperScan, is_unchanged, read_signatures
from activities.adapters.linux_files import sync_file_system
from activities.errors import CaptureError
from activities.snapshots.entries import ancestors
from activities.snapshots.state import Index, Scan, State

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from activities.adapters.docker_freeze import Freezer
    from activities.adapters.docker_overlay import Overlay
    from activities.ports.snapshots import CaptureKind
    from activities.snapshots.capture import ContentSource, Control
    from activities.snapshots.entries import Entry
    from activities.snapshots.packs import PackWriter
    from activities.snapshots.state import Signature


class HostCapture:
    """Implements `Capture` beside the daemon."""

    kind: CaptureKind = "host"
    needs_notes = False

    def __init__(self, freezer: Freezer, container_id: str, image_id: str, overlay: Overlay) -> None:
        self.image_id = image_id
        self._freezer = freezer
        self._container_id = container_id
        self.overlay = overlay

    def prepare(self) -> bytes | None:
        """See `Capture.prepare`: the upper directory alone says what differs."""
        return None

    def resume(self, notes: bytes | None) -> None:
        """See `Capture.resume`."""

    def take(self, index: Index, writer: PackWriter, control: Control) -> Scan:
        """See `Capture.take`."""
        control.report("looking for changes")
        with _opened(self.overlay.upper) as upper:
            if index.state.ref is not None and is_unchanged(upper, self.overlay, index):
                return Scan(entries=dict(index.state.entries), signatures=index.signatures, skipped=0)
            with self._freezer.frozen(self._container_id), _explained("read"):
                sync_file_system(upper)
                return UpperScan(upper, self.overlay, index, writer, control).run()

    def in_image(self, paths: Iterable[bytes]) -> Mapping[bytes, bool]:
        """See `Capture.in_image`."""
        lowers = self.overlay.lowers
        return {path: any(os.path.lexists(os.path.join(lower, path)) for lower in lowers) for path in paths}  # noqa: PTH118

    def restore(
        self, entries: Mapping[bytes, Entry], source: ContentSource, control: Control
    ) -> dict[bytes, Signature]:
        """See `Capture.restore`."""
        control.report("writing files")
        wanted = {path: entry for path, entry in entries.items() if not self._is_mounted(path)}
        state = State(ref=None, digest=None, number=0, depth=0, image=None, entries=wanted, chunks={})
        with self._freezer.frozen(self._container_id), _explained("written"):
            with _opened(b"/proc/%d/root" % self.overlay.pid) as root:
                writer = RootWriter(root, source, control)
                try:
                    writer.apply(wanted)
                finally:
                    writer.close()
            # What was just written must be told from what changes next.
            time.sleep(2 * FRESH_NS / 1e9)
            with _opened(self.overlay.upper) as upper:
                return read_signatures(upper, self.overlay, Index(state))

    def _is_mounted(self, path: bytes) -> bool:
        points = self.overlay.mount_points
        return path in points or any(above in points for above in ancestors(path))


@contextlib.contextmanager
def _opened(path: bytes) -> Generator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        msg = f"The container's files at {os.fsdecode(path)} cannot be opened: {error.strerror}."
        raise CaptureError(msg) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(what: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        where = ascii(error.filename) if error.filename else "its root"
        msg = f"The container's files could not be {what} at {where}: {error.strerror}."
        raise CaptureError(msg) from error
