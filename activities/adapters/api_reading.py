"""Reads paths of a container by one `tar` inside it, as entries of a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from activities.adapters.api_large import Summed
from activities.adapters.pax_reader import Member, read_members
from activities.errors import CaptureError
from activities.snapshots.entries import ROOT, Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from activities.adapters.api_listing import Seen
    from activities.adapters.api_shell import ContainerShell, End
    from activities.snapshots.capture import Control
    from activities.snapshots.packs import PackWriter

_TAR_FAILED = 2
_MAX_PADDING = 1 << 20
_NOTHING_SUMMED: Mapping[bytes, Summed] = {}
_REPORT_EVERY = 100
_KINDS = {
    b"f": Kind.FILE,
    b"d": Kind.DIRECTORY,
    b"l": Kind.SYMLINK,
    b"p": Kind.FIFO,
    b"c": Kind.CHARACTER,
    b"b": Kind.BLOCK,
}
_TYPES = {
    b"0": Kind.FILE,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}


def read_paths(
    shell: ContainerShell,
    wanted: Mapping[bytes, Seen],
    is_opaque: Callable[[bytes], bool],
    writer: PackWriter,
    control: Control,
    summed: Mapping[bytes, Summed] = _NOTHING_SUMMED,
) -> tuple[dict[bytes, Entry], End]:
    """Read paths that were listed; one that has vanished or become something else is left out.

    Args:
        shell: In the container.
        wanted: The paths, and what they looked like.
        is_opaque: Tells whether a directory hides what the image has below it.
        writer: Takes contents.
        control: Told what goes on.
        summed: Sums up the contents of some.

    Raises:
        CaptureError: The container's tar failed, or what it says cannot be used.
    """
    names = b"".join(b"./%s\0" % path if path != ROOT else b"./\0" for path in wanted)
    found: dict[bytes, Entry] = {}
    stream = shell.read(names)
    try:
        for number, member in enumerate(read_members(stream)):
            if number % _REPORT_EVERY == 0:
                control.report(f"{number} paths, {writer.read_bytes >> 20} MiB read")
            path = member.path.removeprefix(b"./").rstrip(b"/") or ROOT
            # Once: a hostile tar may say the same over and over.
            seen = wanted.get(path) if path not in found else None
            entry = _entry(path, seen, member, writer, is_opaque, summed.get(path)) if seen is not None else None
            if entry is not None:
                found[path] = entry
        _, end = shell.rest(control, _MAX_PADDING)
    except CaptureError as error:
        if not shell.complaints:
            raise
        msg = f"{error} It said: {shell.complaints}"
        raise CaptureError(msg) from error
    if end.code > _TAR_FAILED:
        msg = f"Reading the container's files failed with code {end.code}: {shell.complaints}"
        raise CaptureError(msg)
    return found, end


def _entry(
    path: bytes,
    seen: Seen,
    member: Member,
    writer: PackWriter,
    is_opaque: Callable[[bytes], bool],
    summed: Summed | None,
) -> Entry | None:
    kind = _KINDS.get(seen.letter)
    if kind is None or _TYPES.get(member.type) is not kind:
        return None
    size, chunks, extents = 0, (), None
    if kind is Kind.FILE:
        extents = member.extents
        chunks, size = writer.add(summed.of(member.content) if summed is not None else member.content)
        size = size if extents is None else member.size
    return Entry(
        path=path,
        kind=kind,
        mode=seen.mode if kind is not Kind.SYMLINK else 0o777,
        uid=seen.uid,
        gid=seen.gid,
        mtime_ns=seen.mtime_ns,
        size=size,
        chunks=chunks,
        extents=extents,
        target=seen.target if kind is Kind.SYMLINK else b"",
        device=member.device,
        xattrs=member.xattrs,
        opaque=kind is Kind.DIRECTORY and is_opaque(path),
    )
