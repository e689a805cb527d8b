"""What changed from one snapshot to another, path by path: pure functions over sets of entries."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from activities.snapshots.differences import changes, paths
from activities.snapshots.entries import Entry, Kind
from activities.snapshots.state import EMPTY, State
from hibernaut.models import ChangeKind

ROOT = Entry(b".", Kind.DIRECTORY, mode=0o755)


def state(*entries: Entry) -> State:
    return replace(EMPTY, ref="x", image="i", entries={entry.path: entry for entry in (ROOT, *entries)})


def file(path: bytes, content: bytes = b"\1", **fields: Any) -> Entry:  # noqa: ANN401  # fields of many types
    entry = Entry(path, Kind.FILE, mode=0o644, size=3, chunks=(content * 32,))
    return entry._replace(**fields)


def folder(path: bytes, **fields: Any) -> Entry:  # noqa: ANN401  # fields of many types
    return Entry(path, Kind.DIRECTORY, mode=0o755)._replace(**fields)


def told(before: State, after: State) -> list[str]:
    marks = {ChangeKind.ADDED: "+", ChangeKind.CHANGED: "~", ChangeKind.DELETED: "-"}
    return [" ".join([marks[one.change] + one.path, *one.what]) for one in changes(before, after)]


def test_added_changed_deleted() -> None:
    before = state(folder(b"d"), file(b"d/a"), file(b"d/b"), file(b"d/c"))
    after = state(folder(b"d", mtime_ns=5), file(b"d/a"), file(b"d/b", content=b"\2"), file(b"d/new"))
    assert told(before, after) == ["~/d/b content", "-/d/c", "+/d/new"]
    assert told(after, after) == []
    assert told(EMPTY, before) == ["+/d/a", "+/d/b", "+/d/c"]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"mode": 0o4755}, "mode"),
        ({"uid": 7}, "owner"),
        ({"gid": 7}, "owner"),
        ({"mtime_ns": 7}, "time"),
        ({"xattrs": ((b"user.x", b"1"),)}, "attributes"),
        ({"extents": ((0, 3),)}, "content"),
        ({"mode": 0, "mtime_ns": 7, "content": b"\3"}, "content mode time"),
        ({"kind": Kind.SYMLINK, "mode": 0}, "type"),
    ],
)
def test_what_of_a_path_changed(fields: dict[str, Any], what: str) -> None:
    assert told(state(file(b"a")), state(file(b"a", **fields))) == [f"~/a {what}"]


def test_links_and_devices() -> None:
    before = state(Entry(b"l", Kind.SYMLINK, target=b"x"), Entry(b"n", Kind.CHARACTER, device=(1, 3)))
    after = state(Entry(b"l", Kind.SYMLINK, target=b"y"), Entry(b"n", Kind.CHARACTER, device=(1, 5)))
    assert told(before, after) == ["~/l target", "~/n device"]


def test_what_a_whiteout_means() -> None:
    gone = Entry(b"d/f", Kind.WHITEOUT)
    assert told(state(folder(b"d")), state(folder(b"d"), gone)) == ["-/d/f"]
    assert told(state(folder(b"d"), file(b"d/f")), state(folder(b"d"), gone)) == ["-/d/f"]
    assert told(state(folder(b"d"), gone), state(folder(b"d"), file(b"d/f"))) == ["+/d/f"]
    assert told(state(folder(b"d"), gone), state(folder(b"d"))) == ["+/d/f"]
    # The whole directory is deleted: the file of the image that was gone already is told once, not twice.
    assert told(state(folder(b"d"), gone), state(Entry(b"d", Kind.WHITEOUT))) == ["-/d"]
    assert told(state(folder(b"d"), gone), state(folder(b"d", opaque=True))) == ["~/d content"]


def test_directories_are_told_for_their_own_sake_alone() -> None:
    before, after = state(folder(b"d")), state(folder(b"d", mtime_ns=5))
    assert told(before, after) == ["~/d time"]
    assert told(before, state(folder(b"d", mtime_ns=5), file(b"d/f"))) == ["+/d/f"]
    assert told(before, state(folder(b"d", mode=0o700), file(b"d/f"))) == ["~/d mode", "+/d/f"]
    assert told(state(), state(folder(b"new"), folder(b"new/empty"))) == ["+/new/empty"]
    assert told(state(folder(b"old"), file(b"old/f")), state()) == ["-/old/f"]
    assert told(state(folder(b"was"), file(b"was/f")), state(file(b"was"))) == ["~/was type", "-/was/f"]
    touched = replace(before, entries={**before.entries, b".": ROOT._replace(mtime_ns=9)})
    assert told(before, touched) == ["~/ time"]


def test_a_hard_link_changes_with_what_it_links_to() -> None:
    before = state(file(b"a"), Entry(b"b", Kind.FILE, mode=0o644, leader=b"a"))
    after = state(file(b"a", size=4, content=b"\2"), Entry(b"b", Kind.FILE, mode=0o644, leader=b"a"))
    assert told(before, after) == ["~/a content", "~/b content"]
    found = list(changes(before, after))[1]
    assert (found.before and found.before.size, found.after and found.after.size) == (3, 4)
    # The first name is removed: the content stays where it was, under the other one.
    assert told(before, state(file(b"b"))) == ["-/a", "~/b link"]


def test_a_directory_comes_right_before_what_is_in_it() -> None:
    after = state(
        *(folder(path, mode=0o700) for path in (b"a", b"a/b", b"a-b", b"a.b")), file(b"a/b/c"), file(b"a-b/c")
    )
    before = state(*(folder(path) for path in (b"a", b"a/b", b"a-b", b"a.b")))
    assert [one.path for one in changes(before, after)] == ["/a", "/a/b", "/a/b/c", "/a-b", "/a-b/c", "/a.b"]
    assert [one.path for one in paths(after)] == ["/", "/a", "/a/b", "/a/b/c", "/a-b", "/a-b/c", "/a.b"]


def test_every_path_of_a_snapshot() -> None:
    found = list(
        paths(
            state(
                folder(b"d", opaque=True),
                file(b"d/caf\xe9", mtime_ns=-(2**66)),
                Entry(b"d/h", Kind.FILE, leader=b"d/caf\xe9"),
                Entry(b"gone", Kind.WHITEOUT),
                Entry(b"l", Kind.SYMLINK, target=b"\xff", mtime_ns=2**66),
            )
        )
    )
    assert [one.path for one in found] == ["/", "/d", os.fsdecode(b"/d/caf\xe9"), "/d/h", "/gone", "/l"]
    assert [one.file is None for one in found] == [False, False, False, False, True, False]
    assert [one.opaque for one in found][1] is True
    assert (found[3].link, found[3].file and found[3].file.size) == (os.fsdecode(b"/d/caf\xe9"), 3)
    assert found[2].file is not None
    assert found[2].file.mtime.year == 1
    assert found[5].file is not None
    assert (found[5].file.target, found[5].file.mtime.year) == (os.fsdecode(b"\xff"), 4308)
