"""Extracts a tar stream in a container: started before anything is written, which may replace what it is made of.

A tar that reads from a pipe reads it to its end, which a connection that stays open has not: the bytes are counted.
No program is started on the way: what it needs may be replaced by then.
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Self

from activities.adapters.docker_stream import WAIT, ExecStream
from activities.adapters.pax_writer import filler
from activities.errors import CaptureError

if TYPE_CHECKING:
    from types import TracebackType

    from activities.adapters.docker_client import Daemon

TAR = (
    "tar --extract --file=- --directory=/ --absolute-names --numeric-owner --same-owner --preserve-permissions "
    "--xattrs --xattrs-include='*' --delay-directory-restore"
)
_BLOCK = 65536
_UNPACK = (
    WAIT + "read -r blocks; if dd bs=1 count=0 iflag=fullblock </dev/null >/dev/null 2>&1; "
    f'then dd bs={_BLOCK} count="$blocks" iflag=fullblock 2>/dev/null; else head -c "$((blocks * {_BLOCK}))"; fi | '
    f"{TAR} --read-full-records --blocking-factor={_BLOCK // 512} --warning=unknown-keyword"
)
_READY = "HIBERNAUT.ready"


def _signal() -> bytes:
    """Return what has tar complain: a member that writes nothing, with a keyword that nobody knows."""
    member = tarfile.TarInfo("hibernaut")
    member.type = b"V"
    member.pax_headers = {_READY: "1"}
    return member.tobuf(tarfile.PAX_FORMAT)


_SIGNAL = _signal()


def signal(sent: int) -> bytes:
    """Return what, sent after so many bytes, makes tar tell that it has worked off all before; see `Unpacker.wait`."""
    fill = filler()
    # It reads blocks, and acts once one is there.
    return _SIGNAL + fill * -(-(-(sent + len(_SIGNAL)) % _BLOCK) // len(fill))


class Unpacker:
    """One tar in a container, a context manager."""

    def __init__(self, daemon: Daemon, container_id: str) -> None:
        """Start a shell for it, as fast as the daemon can: what it will be sent need not be known."""
        self.stream = ExecStream(daemon, container_id, ["/bin/sh", "-c", _UNPACK])
        self.size = 0
        """Bytes that it reads, a multiple of its block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.close()

    def begin(self, size: int) -> None:
        """Have it read this many bytes, rounded up."""
        blocks = -(-size // _BLOCK)
        self.size = blocks * _BLOCK
        self.stream.send(b"%d\n" % blocks)

    def wait(self) -> None:
        """Wait until it has come to a signal that was sent to it.

        Raises:
            CaptureError: It ended, or complains of other things.
        """
        self.stream.wait_for_complaint(_READY.encode())
        if _READY.encode() not in self.stream.complaints:
            raise _failed("starting tar", None, self.stream)

    def check(self, what: str) -> None:
        """Wait for its end.

        Raises:
            CaptureError: It failed.
        """
        check_end(self.stream, what)


def check_end(stream: ExecStream, what: str) -> None:
    """Wait for a program's end.

    Raises:
        CaptureError: It failed.
    """
    code = stream.finish()
    if code:
        raise _failed(what, code, stream)


def _failed(what: str, code: int | None, stream: ExecStream) -> CaptureError:
    why = stream.complaints.decode(errors="replace").strip()[:500]
    with_code = "" if code is None else f", with code {code}"
    return CaptureError(f"Restoring through the Docker API failed in {what}{with_code}: {why}")
