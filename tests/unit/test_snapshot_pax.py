"""Tar streams: what GNU tar writes is read, what is written GNU tar extracts, and hostile streams are refused."""

from __future__ import annotations

import io
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from activities.adapters.linux_files import data_extents
from activities.adapters.pax_reader import Member, read_members
from activities.adapters.pax_writer import END, RECORD, filler, member, member_size
from activities.errors import CaptureError
from activities.snapshots.entries import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

ODD = b"odd\n\xff name"


class _Contents:
    """Content kept in memory, by path."""

    def __init__(self, contents: dict[bytes, bytes]) -> None:
        self._contents = contents

    def content(self, entry: Entry) -> Iterator[bytes]:
        yield self._contents.get(entry.path, b"")

    def in_order(self, entries: Iterable[Entry]) -> list[Entry]:
        return list(entries)


def _archive(entries: list[Entry], contents: dict[bytes, bytes]) -> bytes:
    source = _Contents(contents)
    parts = [filler()]
    for entry in entries:
        whole = b"".join(member(entry, source))
        assert len(whole) == member_size(entry)
        parts.append(whole)
    data = b"".join(parts) + END
    return data + bytes(-len(data) % RECORD)


def _read(data: bytes) -> dict[bytes, tuple[Member, bytes]]:
    found: dict[bytes, tuple[Member, bytes]] = {}
    for each in read_members(io.BytesIO(data)):
        parts: list[bytes] = []
        while piece := each.content.read(1000):
            parts.append(piece)
        found[each.path] = (each, b"".join(parts))
    return found


ENTRIES = [
    Entry(b"d", Kind.DIRECTORY, mode=0o755, mtime_ns=1_234_567_890_123_456_789),
    Entry(b"d/f", Kind.FILE, mode=0o640, mtime_ns=-1, size=700, chunks=(b"x",)),
    Entry(b"d/" + ODD, Kind.FILE, mode=0o600, mtime_ns=10**18 + 1, size=3, chunks=(b"x",)),
    Entry(b"d/" + b"l" * 250, Kind.SYMLINK, mode=0o777, target=b"t" * 300, mtime_ns=5),
    Entry(b"d/p", Kind.FIFO, mode=0o644, mtime_ns=7),
    Entry(b"d/empty", Kind.FILE, mode=0o644, mtime_ns=8),
    Entry(b"d/s", Kind.FILE, mode=0o644, mtime_ns=9, size=3_000_000, extents=((1_048_576, 4096),), chunks=(b"x",)),
    Entry(b"d/h", Kind.FILE, mode=0o644, mtime_ns=9, size=5_000_000, extents=()),
    Entry(b"d/k", Kind.FILE, mode=0o640, mtime_ns=-1, leader=b"d/f"),
]
CONTENTS = {b"d/f": b"c" * 700, b"d/" + ODD: b"odd", b"d/s": b"s" * 4096}


def test_gnu_tar_extracts_what_is_written(tmp_path: Path) -> None:
    command = ["tar", "--extract", "--file=-", "--preserve-permissions", "--no-same-owner", "--delay-directory-restore"]
    subprocess.run(
        command, input=_archive(ENTRIES, CONTENTS), cwd=tmp_path, check=True, env={**os.environ, "LC_ALL": "C"}
    )
    for entry in ENTRIES:
        path = tmp_path / os.fsdecode(entry.path)
        status = path.lstat()
        assert status.st_mtime_ns == entry.mtime_ns, entry.path
        assert status.st_mode & 0o7777 == entry.mode
        if entry.kind is Kind.SYMLINK:
            assert os.fsencode(path.readlink()) == entry.target
        if entry.kind is Kind.FILE and not entry.leader:
            assert status.st_size == entry.size
            with path.open("rb") as file:
                content = file.read()
                assert data_extents(file.fileno(), entry.size) == entry.extents or entry.extents is None
            assert content.strip(b"\0") == CONTENTS.get(entry.path, b"")
    assert (tmp_path / "d/k").samefile(tmp_path / "d/f")


def test_what_gnu_tar_writes_is_read(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(ODD)).write_bytes(b"odd")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10_000_000)
        for at in range(1_000_000, 9_000_000, 100_000):
            file.seek(at)
            file.write(b"data")
        file.flush()
        extents = data_extents(file.fileno(), 10_000_000)
    (tmp_path / "link").symlink_to("x" * 200)
    os.mkfifo(tmp_path / "pipe")
    names = [ODD, b"sparse", b"link", b"pipe"]
    command = ["tar", "--create", "--file=-", "--format=posix", "--sparse", "--no-recursion", "--null", "-T", "-"]
    made = subprocess.run(command, input=b"\0".join(names), cwd=tmp_path, check=True, capture_output=True)
    found = _read(made.stdout)
    assert set(found) == set(names)
    assert found[ODD][1] == b"odd"
    sparse, content = found[b"sparse"]
    assert (sparse.size, sparse.extents) == (10_000_000, extents)
    assert content.replace(b"\0", b"") == b"data" * 80
    assert (found[b"link"][0].type, found[b"pipe"][0].type) == (b"2", b"6")


def test_what_is_written_is_read() -> None:
    found = _read(_archive(ENTRIES, CONTENTS))
    assert set(found) == {b"./d/"} | {b"./" + entry.path for entry in ENTRIES[1:]}
    sparse = found[b"./d/s"][0]
    assert (sparse.size, sparse.extents, found[b"./d/s"][1]) == (3_000_000, ((1_048_576, 4096),), b"s" * 4096)


def test_extended_attributes_are_read_and_others_left_out() -> None:
    wanted = ((b"security.capability", bytes(range(20))), (b"user.a=b%c", b"1=2\n3\0"))
    entry = Entry(b"f", Kind.FILE, xattrs=(*wanted, (b"user.z", b"")))
    hostile = entry._replace(xattrs=(*entry.xattrs, (b"trusted.overlay.opaque", b"y")))
    assert _read(_archive([hostile], {}))[b"./f"][0].xattrs == entry.xattrs


def test_streams_that_cannot_be_used() -> None:
    data = _archive(ENTRIES, CONTENTS)
    for length in range(0, len(data) - RECORD - len(END), 1009):
        with pytest.raises(CaptureError):
            _read(data[:length])
    flipped = bytearray(data)
    flipped[RECORD + 10] ^= 1
    with pytest.raises(CaptureError):
        _read(bytes(flipped))


@pytest.mark.parametrize(
    "record",
    [b"99999999999 path=x\n", b"x path=y\n", b"0 path=x\n", b"3 =x", b"12 GNU.sparse.major=1\n"],
)
def test_extended_headers_that_cannot_be_used(record: bytes) -> None:
    block = bytearray(b"".join(member(Entry(b"f", Kind.FILE), _Contents({}))))
    block[512:1024] = record.ljust(512, b"\xfe")
    with pytest.raises(CaptureError):
        _read(bytes(block) + END)


def test_a_sparse_map_that_would_fill_the_memory() -> None:
    entry = Entry(b"f", Kind.FILE, size=1 << 40, extents=((0, 100_000_000),))
    head = b"".join(member(entry, _Contents({})))
    at = head.index(b"2\n0\n100000000\n")
    for lie in (b"999999999\n", b"9" * 512, b"\n" * 512, b"-1\n"):
        hostile = head[:at] + lie.ljust(512, b"1")[:512] + b"1\n" * 10_000_000
        with pytest.raises(CaptureError):
            _read(hostile)
