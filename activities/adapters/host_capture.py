"""Captures and restores a container's files on the Docker host itself, as root, through its overlay."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from activities.adapters.cpu_gate import TICK_S
from activities.adapters.host_image import InImage
from activities.adapters.host_look import look, signatures
from activities.adapters.host_restore import RootWriter
from activities.adapters.host_scan import FRESH_NS, UpperScan
from activities.adapters.host_status import is_coarse, parse
from activities.adapters.linux_files import sync_file_system
from activities.errors import CaptureError, SnapshotTooLarge
from activities.snapshots.entries import Kind, ancestors
from activities.snapshots.scope import EVERYTHING
from activities.snapshots.state import WHITEOUT_SIGNATURE, Index, Scan

if TYPE_CHECKING:
    from collections.abc import Container, Generator, Iterable, Mapping

    from activities.adapters.cpu_gate import CpuGate
    from activities.adapters.docker_freeze import Freezer
    from activities.adapters.docker_overlay import Overlay
    from activities.adapters.host_status import Status
    from activities.ports.snapshots import CaptureKind
    from activities.snapshots.capture import Control, PieceSource
    from activities.snapshots.entries import Entry
    from activities.snapshots.packs import PackWriter
    from activities.snapshots.scope import Scope
    from activities.snapshots.state import Signature

_SAMPLES = 8
_LARGE_BYTES = 64 << 20
"""As much is read before a container is frozen rather than while it is."""


class HostCapture:
    """Implements `Capture` beside the daemon."""

    kind: CaptureKind = "host"
    needs_notes = False

    def __init__(
        self,
        freezer: Freezer,
        container_id: str,
        image_id: str,
        overlay: Overlay,
        *,
        cpu: CpuGate | None = None,
        started_at: str = "",
    ) -> None:
        self.image_id = image_id
        self._cpu = cpu
        self._started_at = started_at
        self._freezer = freezer
        self._container_id = container_id
        self.overlay = overlay

    def prepare(self) -> bytes | None:
        """See `Capture.prepare`: the upper directory alone says what differs."""
        return None

    def resume(self, notes: bytes | None) -> None:
        """See `Capture.resume`."""

    def take(
        self,
        index: Index,
        writer: PackWriter,
        control: Control,
        *,
        thorough: bool = False,
        scope: Scope = EVERYTHING,
    ) -> Scan:
        """See `Capture.take`.

        Where it can be known that nothing runs, nothing is frozen: what was read while nothing ran is as of one moment.
        Else what is large is read first, and the container is frozen for what changed meanwhile.
        """
        control.report("looking for changes")
        ran = self._ran()
        if not thorough and ran is not None and index.gate == ran:
            return Scan(index.state.entries, index.signatures, 0, ran)
        with _opened(self.overlay.upper) as upper:
            # What is stored while the pages are written out may be stored once more unseen.
            settled = time.time_ns()
            with _explained("read"):
                self._write_out(upper)
            if ran is not None:
                scan = self._take_live(upper, index, writer, control, ran, scope, settled)
                if scan.gate is not None or scan.entries is index.state.entries:
                    return scan
                # Something ran. What was read holds all the same, but for what looks otherwise once all stands still.
                index = Index(replace(index.state, entries=scan.entries), scan.signatures)
            with self._freezer.frozen(self._container_id, self.overlay.pid), _explained("read"):
                self._write_out(upper)
                # To be frozen and to go on costs no CPU time that is charged: this proof outlives the thaw.
                still = self._ran()
                return UpperScan(upper, self.overlay, index, writer, control, scope=scope).run()._replace(gate=still)

    def _take_live(
        self, upper: int, index: Index, writer: PackWriter, control: Control, ran: object, scope: Scope, settled: int
    ) -> Scan:
        """Read while the container goes on; the scan bears a gate when nothing ran meanwhile.

        One that found nothing changed is right in any case: each path looked as it did when it was looked at, hence
        also when the walk began, and that moment is what the answer is of.
        """
        begun = time.monotonic()
        nothing = Scan(dict(index.state.entries), index.signatures, 0)
        scan = UpperScan(upper, self.overlay, index, writer, control, live=True, scope=scope, settled_ns=settled)
        try:
            if not scan.look() and index.state.ref is not None:
                return scan.unchanged()._replace(gate=self._still(ran, begun))
            if self._ran() != ran and scan.changed_bytes < _LARGE_BYTES:
                return nothing
            found = scan.read()
        except SnapshotTooLarge:
            if self._still(ran, begun) is None:
                # What was seen at different moments may never have been there at once.
                return nothing
            raise
        except (OSError, CaptureError):
            # A path vanished or became something else: something runs.
            return nothing
        return found._replace(gate=self._still(ran, begun))

    def _ran(self) -> object:
        """Return what is equal to an earlier answer if nothing ran since; None where that cannot be known."""
        usage = self._cpu.read() if self._cpu is not None else None
        return None if usage is None else (self.overlay.pid, self._started_at, usage)

    def _still(self, ran: object, begun: float) -> object:
        """Return `ran`, which was read at `begun`, if nothing ran up to now."""
        counted = self._cpu is not None and self._cpu.counts_runs
        time.sleep(max(0.0, TICK_S - (time.monotonic() - begun)) if counted else TICK_S)
        return ran if self._ran() == ran else None

    def _write_out(self, upper: int) -> None:
        """Write dirty pages out where a store to them may not show."""
        if self._cpu is None or self._cpu.may_store_unseen():
            sync_file_system(upper)

    def in_image(self, paths: Iterable[bytes]) -> Mapping[bytes, bool]:
        """See `Capture.in_image`."""
        return InImage(self.overlay.lowers).of(paths)

    def written(self, entries: Mapping[bytes, Entry], control: Control) -> set[bytes]:
        """See `Capture.written`: a file's time is set last, when all else of it is there."""
        with _opened(self.overlay.upper) as upper, _explained("read"):
            found = look(upper, self.overlay, {}, control).changed
        # A directory that hides the image's is made anew, with all that is in it.
        made_anew = {path for path, entry in entries.items() if entry.opaque}
        return {
            path
            for path, status in found
            if _is_written(entries.get(path), status) and made_anew.isdisjoint(ancestors(path))
        }

    def restore_pieces(
        self,
        entries: Mapping[bytes, Entry],
        source: PieceSource,
        control: Control,
        done: Container[bytes] = (),
    ) -> dict[bytes, Signature]:
        """See `RestoresPieces.restore_pieces`."""
        control.report("writing files")
        wanted = {path: entry for path, entry in entries.items() if not self._is_mounted(path)}
        with self._freezer.frozen(self._container_id, self.overlay.pid), _explained("written"):
            with _opened(b"/proc/%d/root" % self.overlay.pid) as root:
                writer = RootWriter(root, source, control)
                try:
                    writer.apply(wanted, done)
                finally:
                    writer.close()
            # What was just written must be told from what changes next.
            time.sleep(FRESH_NS / 1e9)
            with _opened(self.overlay.upper) as upper:
                return self._restored(upper, wanted, control)

    def _restored(self, upper: int, entries: Mapping[bytes, Entry], control: Control) -> dict[bytes, Signature]:
        """Return what the paths of a restored tree look like in the upper directory."""
        seen = signatures(upper, self.overlay, control)
        found = {path: signature for path, signature in seen.items() if path in entries}
        lost = [path for path, entry in entries.items() if path not in found and entry.kind is not Kind.WHITEOUT]
        if lost:
            msg = f"{lost[0][:200]!a} and {len(lost) - 1} more paths are not there after they were restored."
            raise CaptureError(msg)
        # Time goes on in whole seconds where nobody's time has a fraction: what changes next would look as it does now.
        whiteouts = {path for path, entry in entries.items() if entry.kind is Kind.WHITEOUT and path in found}
        sample = [path for path in found if path not in whiteouts][-_SAMPLES:]
        if all(is_coarse(parse(found[path]).st_ctime_ns) for path in sample):
            return {}
        return found | dict.fromkeys(whiteouts, WHITEOUT_SIGNATURE)

    def _is_mounted(self, path: bytes) -> bool:
        points = self.overlay.mount_points
        return path in points or any(above in points for above in ancestors(path))


def _is_written(entry: Entry | None, status: Status) -> bool:
    return (
        entry is not None
        and entry.kind is Kind.FILE
        and not entry.leader
        and stat.S_ISREG(status.st_mode)
        and (status.st_size, status.st_mtime_ns) == (entry.size, entry.mtime_ns)
        and (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (entry.mode, entry.uid, entry.gid)
    )


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
