"""What a restore makes out: sizes before anything is sent, shares of several tars, and how paths look after it."""

from __future__ import annotations

import random

import pytest

from activities.adapters import api_restore
from activities.adapters.api_restored import Restored, unmounted
from activities.adapters.api_unpack import signal
from activities.adapters.pax_writer import member_size
from activities.errors import CaptureError
from activities.snapshots.entries import ROOT, Entry, Kind
from activities.snapshots.state import WHITEOUT_SIGNATURE

_MOUNTS = frozenset({b"proc", b"etc/hosts"})


def _record(path: bytes, *, ctime: bytes = b"20.0000000010", letter: bytes = b"f") -> bytes:
    fields = [letter, b"644", b"0", b"0", b"5", b"10.0000000020", ctime, b"77", b"1", b">", b"/" + path]
    return b"\0".join(fields) + b"\0\0"


def _listing(*records: bytes, end: bytes = b"\nword 0\nlook 1\nword\n") -> bytes:
    return b"look 9 8 7\0mounts\n\0" + b"30.5\n" + b"\0" + b"".join(records) + end


def _entries(*paths: bytes, kind: Kind = Kind.FILE) -> dict[bytes, Entry]:
    return {path: Entry(path=path, kind=kind) for path in paths}


def _fed(restored: Restored, listing: bytes, rnd: random.Random | None = None) -> Restored:
    at = 0
    while at < len(listing):
        step = rnd.randrange(1, 60) if rnd is not None else len(listing)
        restored.feed(listing[at : at + step])
        at += step
    return restored


def test_every_path_is_found_however_the_listing_is_cut() -> None:
    entries = _entries(b"a", b"b/c", b"late", b"absent", b"proc/1", b"etc/hosts", b"etc/passwd")
    entries |= _entries(b"gone", b"back", kind=Kind.WHITEOUT) | _entries(ROOT, kind=Kind.DIRECTORY)
    listing = _listing(
        _record(b"", letter=b"d"),
        _record(b"a"),
        _record(b"other"),
        _record(b"b/c"),
        _record(b"late", ctime=b"29.0000000000"),
        _record(b"proc/1"),
        _record(b"etc/hosts"),
        _record(b"etc/passwd"),
        _record(b"back"),
    )
    looks = b"77 5 10000000002 20000000001"
    rnd = random.Random(5)
    for _ in range(50):
        restored = _fed(Restored(entries, _MOUNTS), listing, rnd)
        assert restored.taken_ns == 30_500_000_000
        assert restored.signatures(29_000_000_000) == {
            ROOT: looks,
            b"a": looks,
            b"b/c": looks,
            b"etc/passwd": looks,
            b"gone": WHITEOUT_SIGNATURE,
        }


@pytest.mark.parametrize(
    "listing",
    [
        _listing(_record(b""), _record(b"a"), _record(b"a")),
        _listing(_record(b""), _record(b"a", ctime=b"soon")),
        _listing(_record(b""), b"f\0644\0/a\0\0"),
        _listing(_record(b"a")),
        b"look\0mounts\0never\0",
        b"look\0mounts",
        b"",
    ],
    ids=["twice", "no time", "short", "cut short", "no clock", "no records", "nothing"],
)
def test_a_listing_that_cannot_be_used(listing: bytes) -> None:
    restored = Restored(_entries(b"a"), _MOUNTS)
    with pytest.raises(CaptureError):
        _fed(restored, listing).signatures(1)


def test_other_file_systems_are_left_alone() -> None:
    entries = _entries(ROOT, b"proc", b"proc/self", b"procs", b"etc", b"etc/hosts", b"etc/hosts/x", b"etc/hostsx")
    assert unmounted(entries, _MOUNTS).keys() == {ROOT, b"procs", b"etc", b"etc/hostsx"}


def test_sizes_are_those_of_what_is_sent() -> None:
    rnd = random.Random(9)
    for _ in range(2000):
        kind = rnd.choice((Kind.FILE, Kind.FILE, Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.FIFO))
        size = rnd.choice((0, 1, 511, 512, 513, 99_999, 10**9, 10**15)) if kind is Kind.FILE else 0
        entry = Entry(
            path=b"/".join(bytes([rnd.choice(b"ax\xff")]) * rnd.randint(1, 120) for _ in range(rnd.randint(1, 4))),
            kind=kind,
            uid=rnd.choice((0, 1000, 2**32 - 2)),
            gid=rnd.choice((0, 1000, 2**32 - 2)),
            mtime_ns=rnd.choice((0, -(10**18), 10**18 + 1, 2**62)),
            size=size,
            target=b"t" * 300 if kind is Kind.SYMLINK else b"",
            xattrs=((b"user.x", b"y" * rnd.choice((1, 600))),) if rnd.random() < 0.2 else (),
            extents=((0, size),) if kind is Kind.FILE and rnd.random() < 0.2 else None,
            leader=b"other" if kind is Kind.FILE and rnd.random() < 0.2 else b"",
        )
        assert api_restore._member_size(entry) == member_size(entry), entry


@pytest.mark.parametrize("sizes", [[], [5], [10**9], [1] * 1000, [10**9, *[1] * 10], [*[1] * 10, 10**9, 3]])
def test_shares_are_all_there_is_in_order(sizes: list[int]) -> None:
    files = [Entry(path=b"%06d" % number, kind=Kind.FILE, size=size) for number, size in enumerate(sizes)]
    for streams in (1, 2, 3):
        parts = api_restore._shared_out(files, streams)
        assert len(parts) == streams
        assert [entry for part in parts for entry in part] == files
    if len(sizes) == 1000:
        assert abs(len(parts[0]) - len(parts[1])) < 200


def test_a_signal_fills_the_block_it_is_in() -> None:
    for sent in (0, 1, 512, 65_000, 65_535, 65_536, 1 << 20):
        made = len(signal(sent))
        block = (sent + 1536 - 1) // 65_536 + 1
        assert sent + made >= block * 65_536
        assert made % 512 == 0
        assert made < 2 * 65_536
