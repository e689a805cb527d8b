"""Reads the content of one file of an upper directory into packs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from activities.adapters.host_status import signature_of, status_of
from activities.adapters.linux_files import ExtentReader, FileReader, data_extents, open_regular
from activities.snapshots.chunking import SMALL_BYTES

if TYPE_CHECKING:
    from activities.snapshots.capture import Control
    from activities.snapshots.chunking import Readable
    from activities.snapshots.packs import PackWriter
    from activities.snapshots.state import Signature


class Content(NamedTuple):
    """What a file holds."""

    chunks: tuple[bytes, ...]
    size: int
    extents: tuple[tuple[int, int], ...] | None
    """Where it has data; None: it has no holes."""


class Ahead(NamedTuple):
    """A file that was read before everything was looked at."""

    signature: Signature
    """What it looked like before it was read."""
    content: Content


class ContentReader:
    """Reads open files, one after the other."""

    def __init__(self, writer: PackWriter, control: Control) -> None:
        self._writer = writer
        self._control = control

    def ahead(self, directory: int, name: bytes, *, live: bool) -> Ahead:
        """Open a file and read it."""
        descriptor = open_regular(directory, name, live=live)
        try:
            status = os.fstat(descriptor)
            return Ahead(signature_of(status_of(status)), self.read(descriptor, status))
        finally:
            os.close(descriptor)

    def read(self, descriptor: int, status: os.stat_result) -> Content:
        """Read a file of this status."""
        size = status.st_size
        extents = data_extents(descriptor, size) if status.st_blocks * 512 < size else None
        if extents is not None:
            reader = _Told(ExtentReader(descriptor, extents), self._control)
            return Content(self._writer.add(reader)[0], size, extents)
        if size <= SMALL_BYTES:
            data = os.pread(descriptor, size, 0)
            if len(data) == size:
                return Content(self._writer.add_small(data), size, None)
        return Content(*self._writer.add(_Told(FileReader(descriptor, size), self._control)), None)


class _Told:
    """Tells how far the reading of a large file is, and stops when the caller gave up."""

    def __init__(self, source: Readable, control: Control) -> None:
        self._source = source
        self._control = control
        self._read = 0

    def read(self, size: int, /) -> bytes:
        piece = self._source.read(size)
        self._read += len(piece)
        self._control.report(f"read {self._read >> 20} MiB of a large file")
        return piece
