"""Captures a container's files through the Docker API alone: listed by one `find`, read by one streamed `tar`.

The container is not frozen, for nothing runs in a frozen one. Where it is proved that nothing ran while it was listed
and read (see `api_proof`), all is as of one moment. Else the files are listed again after they were read, and what
changed meanwhile is read again, a few times. Where it is proved that nothing ran since the last snapshot, nothing is
listed at all. Which paths differ from the image is told by a listing of the fresh container.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING

import zstandard

from activities.adapters.api_delta import Image
from activities.adapters.api_listing import parse_listing
from activities.adapters.api_restore import ApiRestore
from activities.adapters.api_restored import Restored
from activities.adapters.api_scan import ApiScan
from activities.adapters.api_shell import ContainerShell
from activities.adapters.api_view import Known, list_paths
from activities.errors import CaptureError, SandboxNotFresh, SandboxUnavailable
from activities.snapshots.capture import Control
from activities.snapshots.entries import Entry
from activities.snapshots.scope import EVERYTHING
from activities.snapshots.state import Scan

if TYPE_CHECKING:
    from collections.abc import Container, Generator, Iterable, Mapping

    from activities.adapters.api_proof import Look
    from activities.adapters.docker_client import Daemon
    from activities.ports.snapshots import CaptureKind
    from activities.snapshots.capture import ContentSource
    from activities.snapshots.packs import PackWriter
    from activities.snapshots.scope import Scope
    from activities.snapshots.state import Index, Signature

_MAX_NOTES = 256 << 20


class ApiCapture:
    """Implements `Capture` from anywhere."""

    kind: CaptureKind = "api"
    needs_notes = True

    def __init__(self, daemon: Daemon, container_id: str, image_id: str) -> None:
        self.image_id = image_id
        self._daemon = daemon
        self._container_id = container_id
        self._fresh: Image | None = None
        self._shell: ContainerShell | None = None
        self._closing: weakref.finalize[[], ApiCapture] | None = None

    def prepare(self) -> bytes | None:
        """See `Capture.prepare`: the listing of the fresh container."""
        with self._inside() as (shell, _):
            raw = list_paths(shell, Control()).raw
        self._fresh = Image(parse_listing(raw).listing)
        return zstandard.ZstdCompressor(level=3).compress(raw)

    def resume(self, notes: bytes | None) -> None:
        """See `Capture.resume`."""
        if notes is None:
            msg = (
                f"What the container {self._container_id[:12]} looked like when it was fresh is not known: "
                "acquire a new sandbox and restore the last snapshot."
            )
            raise SandboxNotFresh(msg)
        if zstandard.frame_content_size(notes) > _MAX_NOTES:
            msg = "The listing of the fresh container in the store is damaged."
            raise CaptureError(msg)
        raw = zstandard.ZstdDecompressor().decompress(notes, max_output_size=_MAX_NOTES)
        self._fresh = Image(parse_listing(raw).listing)

    def take(
        self,
        index: Index,
        writer: PackWriter,
        control: Control,
        *,
        thorough: bool = False,
        scope: Scope = EVERYTHING,
    ) -> Scan:
        """See `Capture.take`."""
        # Only if the index is of that very scan: what a failed attempt left is of no use.
        gate = index.gate
        known = gate if isinstance(gate, Known) and gate.is_of(index, scope) else None
        image = Image(self._image.listing.without(scope.exclusion)) if scope.exclusion else self._image
        with self._inside() as (shell, look):
            if not thorough and known is not None and known.stands_still(shell, look):
                return Scan(index.state.entries, index.signatures, known.listing.skipped, known)
            return ApiScan(image, shell, index, known, writer, control, scope).run()

    def in_image(self, paths: Iterable[bytes]) -> Mapping[bytes, bool]:
        """See `Capture.in_image`."""
        return {path: path in self._image.listing.records for path in paths}

    def written(self, entries: Mapping[bytes, Entry], control: Control) -> set[bytes]:
        """See `Capture.written`: what a tar has finished is not known."""
        del entries, control
        return set()

    def restore(
        self,
        entries: Mapping[bytes, Entry],
        source: ContentSource,
        control: Control,
        done: Container[bytes] = (),
    ) -> dict[bytes, Signature]:
        """See `RestoresInOrder.restore`."""
        del done
        ApiRestore(self._daemon, self._container_id, self._image.listing, source, control).apply(entries)
        restored = Restored(entries, self._image.listing.mounts)
        with self._inside() as (shell, _):
            raw = list_paths(shell, control, restored.feed)
        return restored.signatures(raw.settled_ns(restored.taken_ns, raw.still()))

    @property
    def _image(self) -> Image:
        if self._fresh is None:
            self.resume(None)
            raise AssertionError
        return self._fresh

    @contextlib.contextmanager
    def _inside(self) -> Generator[tuple[ContainerShell, Look | None]]:
        """The shell in the container, and what it sees; it is given up when anything goes wrong in the block."""
        look: Look | None = None
        if self._shell is not None:
            try:
                look = self._shell.look()
            except (SandboxUnavailable, CaptureError):
                # It ended by itself, or what was asked last was not answered to the end.
                self._drop()
        shell = self._shell
        if shell is None:
            shell = self._shell = ContainerShell(self._daemon, self._container_id)
            self._closing = weakref.finalize(self, shell.close)
        try:
            yield shell, look
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        self._shell = None
        if self._closing is not None:
            self._closing()
