"""A shell that stays in a container: it lists files, hands them out, and looks at what runs there, over one stream.

Entering a container costs an exec as much time as listing thousands of files. And only a process that stays can tell
that no other one was born: every exec is born itself.

A request is a line on its standard input. An answer is bytes of any kind, then a line that begins with the word that
the request named (nobody can know it beforehand) and holds the exit code and the ids of the commands it ran, then a
look (see `api_proof`), then that word in a line of its own.
"""

from __future__ import annotations

import re
import secrets
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from activities.adapters.api_proof import Look, parse_look
from activities.adapters.api_script import BLOCK, HEAD_BYTES, SERVE, SUM_BYTES
from activities.adapters.docker_stream import WAIT, ExecStream
from activities.errors import CaptureError, CaptureToolMissing, SandboxUnavailable
from activities.snapshots.capture import Control

if TYPE_CHECKING:
    from collections.abc import Callable

    from activities.adapters.docker_client import Daemon

_SUM = re.compile(rb"^([0-9a-f]{%d})  /dev/shm/[^\n]*/([01])$" % (2 * SUM_BYTES), re.MULTILINE)
_NO_TOOL = 90
_PIECE = 1 << 18
_MAX_SUM_LINE = 200
_MAX_LOOK = 16 << 20
_MAX_LISTING = 256 << 20


class End(NamedTuple):
    """How an answer ended."""

    code: int
    births: list[int]
    """Process ids of the commands that were run."""
    look: Look | None
    """Made last of all."""


class ContainerShell:
    """One container's. Use it in one thread at a time, and close it: also when an answer was not read to its end."""

    def __init__(self, daemon: Daemon, container_id: str) -> None:
        """Start it.

        Raises:
            CaptureToolMissing: The image lacks a shell, GNU find or GNU tar.
        """
        self._stream = ExecStream(daemon, container_id, ["/bin/sh", "-c", WAIT + SERVE])
        self._word = b""

    def close(self) -> None:
        """End it."""
        self._stream.close()

    @property
    def complaints(self) -> str:
        """What its commands wrote to stderr first."""
        return self._stream.complaints.decode(errors="replace").strip()[:500]

    def look(self) -> Look | None:
        """Look at what runs; None when this kernel does not tell."""
        self._ask(b"look", 0)
        return self.rest(Control(), _MAX_LOOK)[1].look

    def list(
        self,
        control: Control,
        take: Callable[[bytes], None] | None = None,
        ahead: tuple[bytes, int] | None = None,
    ) -> tuple[bytes, End]:
        """Return a look, and after a NUL what `parse_listing` reads.

        Args:
            control: Told what goes on.
            take: Given all of it as well, piece by piece as it arrives, and what comes after it.
            ahead: A file whose `sums` may be asked for next, and how many segments it has.
        """
        path, count = ahead or (None, 0)
        self._ask(b"list", count, 0, path)
        return self.rest(control, _MAX_LISTING, take)

    def blocks(self, control: Control) -> dict[bytes, int]:
        """Return how many bytes of room every file takes."""
        self._ask(b"blocks", 0)
        found, _ = self.rest(control, _MAX_LISTING)
        pairs = (record.partition(b"/") for record in found.split(b"\0")[:-1])
        return {path: int(blocks) * 512 for blocks, _, path in pairs if blocks.isdigit()}

    def read(self, names: bytes) -> ExecStream:
        """Ask for paths, each followed by a NUL; return the tar stream, after whose end mark comes the `rest`."""
        self._ask(b"read", len(names))
        self._stream.send(names)
        return self._stream

    def sums(
        self, path: bytes, count: int, control: Control, *, ahead: bool = False
    ) -> tuple[bytes, tuple[bytes, ...], End]:
        """Return the beginning of a file's member in a tar stream, and the sums of so many segments of the file.

        What cannot be summed up comes out in another number of sums. The path is of printable ASCII.

        Args:
            path: Of the file.
            count: Of its segments.
            control: Told what goes on.
            ahead: They may have been made beside the last listing: nothing ran meanwhile.
        """
        self._ask(b"sums", count, int(ahead), path)
        body, end = self.rest(control, HEAD_BYTES + count * _MAX_SUM_LINE + _MAX_LOOK)
        # Two at a time, in any order.
        found: tuple[list[bytes], list[bytes]] = ([], [])
        for text, number in _SUM.findall(body[HEAD_BYTES:]):
            found[int(number)].append(bytes.fromhex(text.decode()))
        pairs = zip_longest(*found)
        return body[:HEAD_BYTES], tuple(sum_ for pair in pairs for sum_ in pair if sum_ is not None), end

    def part(self, path: bytes, block: int, count: int, control: Control) -> tuple[bytes, End]:
        """Return so many blocks of a file from some block on; the path is of printable ASCII."""
        self._ask(b"part", block, count, path)
        return self.rest(control, count * BLOCK + _MAX_LOOK)

    def rest(self, control: Control, limit: int, take: Callable[[bytes], None] | None = None) -> tuple[bytes, End]:
        """Read an answer to its end."""
        last = b"\n%s\n" % self._word
        parts: list[bytes] = []
        size = 0
        tail = b""
        while not tail.endswith(last):
            piece = self._stream.read(_PIECE)
            if not piece:
                raise self._ended()
            parts.append(piece)
            size += len(piece)
            tail = (tail + piece)[-len(last) :]
            if take is not None:
                take(piece)
            control.report(f"listing files, {size >> 10} KiB")
            if size > limit:
                msg = "The container has more files than can be listed: remove some."
                raise CaptureError(msg)
        body, _, end = b"".join(parts).partition(b"\n%s " % self._word)
        numbers, _, look = end[: -len(last)].partition(b"\n")
        try:
            code, *births = [int(number) for number in numbers.split()]
        except ValueError as error:
            msg = "What answers in the container is not the shell that was started there."
            raise CaptureError(msg) from error
        return body, End(code, births, parse_look(look))

    def _ask(self, what: bytes, size: int, count: int = 0, path: bytes | None = None) -> None:
        self._word = secrets.token_hex(16).encode()
        line = b"" if path is None else path + b"\n"
        self._stream.send(b"%s %s %d %d\n%s" % (what, self._word, size, count, line))

    def _ended(self) -> CaptureError | SandboxUnavailable:
        code = self._stream.finish()
        if code in (_NO_TOOL, 126, 127):
            return CaptureToolMissing(
                f"Files cannot be captured through the Docker API: {self.complaints or 'no shell'} in the image. Use "
                "an image with a shell, GNU find and GNU tar, or run the worker as root beside the daemon."
            )
        return SandboxUnavailable(f"The shell in the container ended (exit code {code}): the call is made again.")
