"""What a container's own `find` tells, and what follows from it."""

from __future__ import annotations

import random

import pytest

from activities.adapters.api_delta import Delta, Image, followed
from activities.adapters.api_listing import Listing, Seen, parse_listing
from activities.errors import CaptureError
from activities.snapshots.entries import ROOT, ancestors
from activities.snapshots.exclusion import Exclusion

MOUNTS = (
    b"1 0 0:1 / / rw - overlay overlay rw\n2 1 0:2 / /proc rw - proc proc rw\n3 1 0:3 / /etc/hosts rw - ext4 x rw\n"
)
Tree = dict[bytes, tuple[str, int, int, int]]
"""Letter, ctime, inode and number of names by path."""


def _record(
    letter: str, path: bytes, mtime: bytes = b"5.0000000000", ctime: int = 6, inode: int = 9, links: int = 1
) -> bytes:
    told = [letter.encode(), b"755", b"0", b"0", b"3", mtime, b"%d.1234567890" % ctime, b"%d" % inode, b"%d" % links]
    return b"\0".join([*told, b">", b"/" + path]) + b"\0\0"


def _raw(*records: bytes, mounts: bytes = MOUNTS) -> bytes:
    return mounts + b"\0" + b"1795382221.123456789\n\0" + _record("d", b"") + b"".join(records)


def _listing(*paths: tuple[str, bytes]) -> Listing:
    return parse_listing(_raw(*(_record(letter, path) for letter, path in paths))).listing


def test_a_listing_is_read() -> None:
    found = parse_listing(
        _raw(
            _record("f", b"a\nb\xff", b"-315619200.2500000000"),
            _record("d", b"proc"),
            _record("f", b"etc/hosts"),
            _record("s", b"socket"),
            _record("f", b"etc/real"),
        )
    ).listing
    assert set(found.records) == {ROOT, b"a\nb\xff", b"etc/real"}
    assert found.seen(b"a\nb\xff") == Seen(b"f", 0o755, 0, 0, 3, -315619199_750000000, 6_123456789, 9, 1, b"")
    assert (found.skipped, found.taken_ns) == (1, 1795382221_123456789)
    assert (found.is_directory(ROOT), found.is_directory(b"etc/real"), found.is_directory(b"x")) == (True, False, False)


@pytest.mark.parametrize(
    "raw",
    [b"", b"x\0y\0z\0", MOUNTS, _raw()[:-1], _raw()[:-2], _raw() + b"f\0", _raw() + b"f\0\0", _raw() + b"\0",
     _raw(_record("f", b"../x")), _raw(_record("f", b"/x")), _raw(_record("f", b"a/./b")), _raw(_record("f", b"a//b")),
     _raw(_record("f", b"x" * 256)), _raw(_record("f", b"a/")), _raw(_record("f", b"..")), _raw(_record("f", b"a/..")),
     _raw(_record("f", b"a"), _record("f", b"a")), _raw(_record("f", b"a"), _record("d", b"a")),
     MOUNTS + b"\0" + b"1.0\0" + _record("f", b"a"), _raw(_record("f", b"a", b"x")), b"\0\0" + _record("d", b""),
     _raw(_record("f", b"a").replace(b">", b"")), _raw(_record("f", b"a").replace(b"/a", b"a"))],
)  # fmt: skip
def test_listings_that_cannot_be_used(raw: bytes) -> None:
    for known in (None, _listing(("f", b"a")), _listing(("f", b"other"))):
        with pytest.raises(CaptureError):
            parse_listing(raw, known)


def test_names_cannot_pass_for_the_end_of_a_record() -> None:
    odd = [b"f", b"\nf", b">", b"f\xff>", b"0.1", b"...", b"..a", b".a", b"a."]
    found = parse_listing(_raw(*(_record("f", name, inode=number) for number, name in enumerate(odd)))).listing
    assert {found.seen(name).inode for name in odd} == set(range(len(odd)))


def test_only_what_differs_is_told() -> None:
    before = parse_listing(_raw(_record("f", b"a"), _record("f", b"b"), _record("s", b"s"), _record("f", b"c"))).listing
    found = parse_listing(_raw(_record("f", b"b", b"6.0"), _record("f", b"c"), _record("f", b"d")), before)
    assert (set(found.new), set(found.gone)) == ({b"b", b"d"}, {b"a", b"b"})
    assert (found.gone[b"b"].mtime_ns, found.new[b"b"].mtime_ns) == (5_000000000, 6_000000000)
    assert (before.skipped, found.listing.skipped) == (1, 0)
    assert set(before.records) == {ROOT, b"a", b"b", b"c"}
    # With other mounts everything is looked at again.
    mounts = MOUNTS + b"4 1 0:4 / /b rw - tmpfs tmpfs rw\n"
    moved = parse_listing(_raw(_record("f", b"b"), _record("f", b"c"), mounts=mounts), found.listing)
    assert (set(moved.new), set(moved.listing.records)) == ({ROOT, b"c"}, {ROOT, b"c"})


def test_what_no_snapshot_holds_is_left_out() -> None:
    exclusion = Exclusion(["/tmp", "**/cache"])
    records = [_record("d", b"tmp"), _record("f", b"tmp/x"), _record("d", b"a"), _record("f", b"a/cache")]
    image = parse_listing(_raw(*records)).listing.without(exclusion)
    assert set(image.records) == {ROOT, b"tmp", b"a"}
    found = parse_listing(_raw(records[0], records[2]), image, exclusion)
    delta, _ = followed(Delta(), found, Image(image))
    assert (delta.present, delta.deleted) == ({ROOT}, set())
    # Under other patterns everything is looked at again.
    again = parse_listing(_raw(*records), found.listing)
    assert set(again.listing.records) == {ROOT, b"tmp", b"tmp/x", b"a", b"a/cache"}


def test_differences_are_told_as_an_overlay_would() -> None:
    base = _listing(("d", b"d"), ("f", b"d/same"), ("f", b"d/gone"), ("d", b"t"), ("d", b"t/u"), ("f", b"t/u/v"),
                    ("d", b"w"), ("f", b"w/x"), ("d", b"q"), ("d", b"q/r"), ("f", b"q/r/s"))  # fmt: skip
    raw = _raw(*(_record(letter, path) for letter, path in (
        ("d", b"d"), ("f", b"d/same"), ("d", b"t"), ("f", b"w"), ("d", b"new"), ("f", b"new/f"), ("d", b"q"),
        ("d", b"q/r"))), _record("f", b"q/r/s", ctime=7))  # fmt: skip
    found, changed = followed(Delta(), parse_listing(raw, base), Image(base))
    assert found.deleted == {b"d/gone", b"t/u"}
    assert found.present == {ROOT, b"d", b"t", b"w", b"new", b"new/f", b"q", b"q/r", b"q/r/s"}
    assert found.deleted | found.present - {ROOT} <= changed
    same, changed = followed(found, parse_listing(raw, parse_listing(raw, base).listing), Image(base))
    assert (same, changed) == (found, set())


def test_a_delta_that_is_kept_up_is_the_one_made_anew() -> None:
    for seed in range(60):
        rnd = random.Random(seed)
        clock = [10]
        tree: Tree = {ROOT: ("d", 1, 1, 1)}
        for _ in range(40):
            _disturb(tree, rnd, clock)
        image = Image(parse_listing(_told(tree)).listing)
        known, delta = image.listing, Delta()
        for _ in range(8):
            for _ in range(rnd.randrange(6)):
                _disturb(tree, rnd, clock)
            before = delta
            change = parse_listing(_told(tree), known)
            delta, changed = followed(delta, change, image)
            known = change.listing
            anew, _ = followed(Delta(), parse_listing(_told(tree), image.listing), image)
            assert (delta.present, delta.deleted) == (anew.present, anew.deleted)
            assert (delta.present, delta.deleted) == _reference(image.listing, known)
            assert delta.present ^ before.present <= changed
            assert delta.deleted ^ before.deleted <= changed
            names = {path: facts[2] for path, facts in tree.items() if facts[3] > 1 and path in delta.present}
            for inode in names.values():
                assert delta.leader(inode) == min(path for path, other in names.items() if other == inode)


def _told(tree: Tree) -> bytes:
    records = (
        _record(letter, b"" if path == ROOT else path, ctime=ctime, inode=inode, links=links)
        for path, (letter, ctime, inode, links) in tree.items()
    )
    return MOUNTS + b"\0" + b"1795382221.123456789\n\0" + b"".join(records)


def _disturb(tree: Tree, rnd: random.Random, clock: list[int]) -> None:
    """Do to a tree what a kernel might, times included."""
    clock[0] += 1
    now = clock[0]
    path = rnd.choice(sorted(tree))
    letter, _, inode, links = tree[path]
    above = path.rpartition(b"/")[0] or ROOT
    action = rnd.randrange(5)
    if action < 2 and letter == "d":
        below = (path + b"/" if path != ROOT else b"") + b"%c" % rnd.choice(b"abcdef")
        if below not in tree:
            tree[below] = (rnd.choice("ddf"), now, now, 1)
            tree[path] = (letter, now, inode, links)
    elif action == 2 and path != ROOT:
        for gone in [other for other in tree if other == path or other.startswith(path + b"/")]:
            lost = tree.pop(gone)
            _relink(tree, lost[2], now)
        tree[above] = ("d", now, *tree[above][2:])
    elif action == 3 and letter == "f":
        other = above + b"/ln" if above != ROOT else b"ln"
        if other not in tree:
            tree[other] = (letter, now, inode, links)
            tree[above] = ("d", now, *tree[above][2:])
            _relink(tree, inode, now)
    elif action == 4:
        _relink(tree, inode, now)


def _relink(tree: Tree, inode: int, now: int) -> None:
    names = [path for path, facts in tree.items() if facts[2] == inode]
    for path in names:
        tree[path] = (tree[path][0], now, inode, len(names))


def _reference(base: Listing, now: Listing) -> tuple[set[bytes], set[bytes]]:
    """The same, said plainly."""
    present = {path for path, record in now.records.items() if base.records.get(path) != record}
    deleted = {
        path for path in base.records if path not in now.records and now.is_directory(path.rpartition(b"/")[0] or ROOT)
    }
    whole = {above for path in (*present, *deleted) for above in ancestors(path)}
    return {ROOT, *present, *whole} & now.records.keys(), deleted
