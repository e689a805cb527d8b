"""What is said of files that are more than a snapshot may hold."""

from __future__ import annotations

import re

import pytest

from activities.errors import SnapshotTooLarge
from activities.snapshots.entries import ROOT, Entry, Kind
from activities.snapshots.limit import UNLIMITED, Limit, content_bytes, largest_directories

MEGABYTE = 1_000_000
SIZES = {
    b"home/agent/data/one.bin": 700 * MEGABYTE,
    b"home/agent/data/two.bin": 100 * MEGABYTE,
    b"home/agent/notes.txt": 10,
    **{b"srv/node_modules/p%d/index.js" % number: MEGABYTE // 2 for number in range(400)},
    b"etc/motd": 5,
    b"top": 1,
}


def test_the_limit_itself_is_allowed() -> None:
    total = sum(SIZES.values())
    Limit(total).check(SIZES)
    with pytest.raises(SnapshotTooLarge):
        Limit(total - 1).check(SIZES)
    UNLIMITED.check({b"a": 2**60})
    assert not UNLIMITED
    assert Limit(1)
    assert not SnapshotTooLarge.retryable


def test_the_message_says_how_much_where_and_what_to_do() -> None:
    with pytest.raises(SnapshotTooLarge) as caught:
        Limit(2 * MEGABYTE).check(SIZES)
    text = str(caught.value)
    for part in (
        "1.0 GB",
        "2.0 MB",
        "1,000,000,016 of 2,000,000 bytes",
        "/home/agent/data 800.0 MB, /srv/node_modules 200.0 MB.",
        "sandbox.snapshots.max_bytes",
        "sandbox.snapshots.exclude",
        "Delete",
    ):
        assert part in text, text
    assert "p17" not in text
    assert len(text) < 700


def test_what_is_largest() -> None:
    assert largest_directories({b"big": 10}) == [(ROOT, 10)]
    spread = {b"%d/file" % number: 10 for number in range(100)}
    assert largest_directories(spread) == [(ROOT, 1000)]
    two = {b"a/x/y/f": 60, b"a/x/z/f": 30, b"b/f": 10, b"c/f": 1}
    assert largest_directories(two) == [(b"a/x/y", 60), (b"a/x/z", 30), (b"b", 10)]
    assert len(largest_directories({b"%d/f" % number: 2**number for number in range(20)}, 3)) == 3


def test_hostile_names_are_escaped_and_cut() -> None:
    for name in (b"a\nb", b"\xff", "\u202e".encode(), b"x" * 255):
        with pytest.raises(SnapshotTooLarge) as caught:
            Limit(1).check({name + b"/" + name + b"/f": 5})
        text = str(caught.value)
        assert text.isascii()
        assert text.isprintable()
        assert re.search(r"x{201}", text) is None


def test_holes_and_links_hold_nothing() -> None:
    assert content_bytes(Entry(b"f", Kind.FILE, size=10)) == 10
    assert content_bytes(Entry(b"f", Kind.FILE, size=10**12, extents=((0, 5), (100, 7)))) == 12
    assert content_bytes(Entry(b"f", Kind.FILE, leader=b"a")) == 0
    assert content_bytes(Entry(b"f", Kind.DIRECTORY, size=4096)) == 0
