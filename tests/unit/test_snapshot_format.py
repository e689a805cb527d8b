"""The snapshot format: what is written is read back, and what was tampered with is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from activities.errors import PathEscape, SnapshotDamaged, SnapshotNotFound
from activities.snapshots import layout
from activities.snapshots.entries import ROOT, Entry, Kind, check_path, check_tree
from activities.snapshots.manifest import (
    Manifest,
    Statistics,
    bytes_of,
    decode,
    encode,
    read_entries,
    text_of,
    write_entry,
)

REF = "agents/uid/snapshots/manifests/00000007"
DIGEST = bytes(range(32))

names = st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & {0, 0x2F} and name not in (b".", b".."))
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
xattrs = st.dictionaries(names.map(lambda name: b"user." + name), st.binary(max_size=30), max_size=3)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(list(Kind)))
    common: dict[str, Any] = {
        "path": draw(paths),
        "kind": kind,
        "mode": draw(st.integers(0, 0o7777)),
        "uid": draw(st.integers(0, 2**32 - 1)),
        "gid": draw(st.integers(0, 2**32 - 1)),
        "mtime_ns": draw(st.integers(-(2**60), 2**65)),
        "xattrs": tuple(sorted(draw(xattrs).items())),
        "leader": draw(st.one_of(st.just(b""), paths)),
        "opaque": draw(st.booleans()),
    }
    if kind is Kind.FILE:
        common |= {"size": draw(st.integers(0, 2**62)), "chunks": tuple(draw(st.lists(st.just(DIGEST), max_size=3)))}
        common["extents"] = draw(st.one_of(st.none(), st.just(()), st.just(((0, 5), (10, 1)))))
    if kind is Kind.SYMLINK:
        common["target"] = draw(st.binary(min_size=1, max_size=20).filter(lambda target: 0 not in target))
    if kind in (Kind.CHARACTER, Kind.BLOCK):
        common["device"] = (draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1)))
    return Entry(**common)


def manifest(found: list[Entry]) -> Manifest:
    statistics = Statistics(
        added=0, changed=0, deleted=0, skipped=0, files_total=0, bytes_total=0, packs_stored=0
    )  # fmt: skip
    return Manifest(
        agent_uid="uid",
        generation=1,
        number=7,
        parent=None,
        kind="full",
        parent_digest=None,
        depth=0,
        image="sha256:0",
        capture="host",
        created="2026-01-01T00:00:00+00:00",
        packs=[],
        frames=[],
        chunks=[],
        entries=[write_entry(entry) for entry in found],
        removed=[],
        statistics=statistics,
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(entries(), max_size=6, unique_by=lambda entry: entry.path))
def test_entries_survive(found: list[Entry]) -> None:
    data, digest = encode(manifest(found))
    read, again = decode(data, REF)
    assert again == digest
    assert read_entries(read.entries) == {entry.path: entry for entry in found}


@given(st.binary(max_size=50))
def test_bytes_survive_as_text(raw: bytes) -> None:
    assert bytes_of(text_of(raw)) == raw
    text_of(raw).encode()


def test_every_damaged_byte_is_noticed() -> None:
    data, _ = encode(manifest([Entry(b"a", Kind.DIRECTORY)]))
    for at in range(len(data)):
        hurt = bytearray(data)
        hurt[at] ^= 1
        with pytest.raises(SnapshotDamaged):
            decode(bytes(hurt), REF)
    for length in range(len(data)):
        with pytest.raises(SnapshotDamaged):
            decode(data[:length], REF)


@pytest.mark.parametrize(
    "path",
    [b"", b"/", b"/etc", b"..", b"a/..", b"../a", b"a/../b", b"a//b", b"a/", b"./a", b"a/.", b"a\0", b"x" * 256,
     b"/".join([b"y" * 255] * 17)],
)  # fmt: skip
def test_paths_that_escape(path: bytes) -> None:
    with pytest.raises(PathEscape):
        check_path(path)
    with pytest.raises(PathEscape):
        check_tree({path: Entry(path, Kind.DIRECTORY)}, {})


@pytest.mark.parametrize("path", [ROOT, b"a", b"...", b"..a", b".a", b"a b\n\xff", b"a/b/c", b"-rf"])
def test_paths_that_are_fine(path: bytes) -> None:
    check_path(path)


@pytest.mark.parametrize("kind", [Kind.SYMLINK, Kind.FILE, Kind.WHITEOUT, Kind.FIFO])
def test_nothing_lies_below_what_is_no_directory(kind: Kind) -> None:
    with pytest.raises(PathEscape):
        check_tree({b"a": Entry(b"a", kind, target=b"/"), b"a/b/c": Entry(b"a/b/c", Kind.FILE)}, {})


@pytest.mark.parametrize(
    "entry",
    [
        Entry(ROOT, Kind.FILE),
        Entry(b"a", Kind.FILE, mode=0o10000),
        Entry(b"a", Kind.FILE, uid=2**32),
        Entry(b"a", Kind.FILE, mtime_ns=2**70),
        Entry(b"a", Kind.FILE, xattrs=((b"trusted.overlay.redirect", b"/etc"),)),
        Entry(b"a", Kind.FILE, xattrs=((b"security.selinux", b"x"),)),
        Entry(b"a", Kind.FILE, leader=b"missing"),
        Entry(b"a", Kind.FILE, leader=b"a"),
        Entry(b"a", Kind.FILE, leader=b"fifo"),
        Entry(b"a", Kind.DIRECTORY, leader=b"fifo"),
        Entry(b"a", Kind.FIFO, chunks=(DIGEST,)),
        Entry(b"a", Kind.FILE, size=9, chunks=(DIGEST,)),
        Entry(b"a", Kind.FILE, size=10, chunks=(bytes(32),)),
        Entry(b"a", Kind.FILE, size=10, chunks=(DIGEST,), extents=((0, 5),)),
        Entry(b"a", Kind.FILE, size=10, chunks=(DIGEST,), extents=((5, 5), (0, 5))),
        Entry(b"a", Kind.FILE, size=10, chunks=(DIGEST,), extents=((5, 10),)),
        Entry(b"a", Kind.FILE, size=10, extents=((0, 0),)),
    ],
)
def test_entries_that_contradict_themselves(entry: Entry) -> None:
    fifo = Entry(b"fifo", Kind.FIFO)
    with pytest.raises(SnapshotDamaged):
        check_tree({entry.path: entry, fifo.path: fifo}, {DIGEST: 10})
    whole = Entry(b"a", Kind.FILE, size=20, chunks=(DIGEST,), extents=((0, 5), (15, 5)))
    check_tree({whole.path: whole, fifo.path: fifo, b"l": Entry(b"l", Kind.FILE, leader=b"a")}, {DIGEST: 10})


@pytest.mark.parametrize("uid", ["", "a/b", "../x", ".x", "a b", "x" * 129])
def test_agent_uids_that_cannot_be_used(uid: str) -> None:
    with pytest.raises(SnapshotNotFound):
        layout.manifest_key(uid, 1)


def test_references_say_whose_and_which() -> None:
    assert layout.manifest_key("uid", 7) == REF
    assert layout.parse_ref(REF) == ("uid", 7)
    assert layout.parse_ref(layout.manifest_key("a.b-c_d", 123_456_789)) == ("a.b-c_d", 123_456_789)
    with pytest.raises(SnapshotNotFound):
        layout.manifest_key("uid", -1)
