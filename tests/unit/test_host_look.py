"""The two ways to look at an upper directory see the same, and what find(1) prints is read right."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from activities.adapters import host_find, host_walk
from activities.adapters.host_status import parse, signature_of, status_of
from activities.snapshots.capture import Cancelled, Control
from activities.snapshots.state import WHITEOUT_SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from activities.adapters.host_status import Look
    from activities.snapshots.state import Signature

FIND = host_find.program()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    base = tmp_path / "upper"
    (base / "etc").mkdir(parents=True)
    (base / "etc/hosts").touch()
    (base / "mnt/volume").mkdir(parents=True)
    (base / "mnt/volume/below").touch()
    (base / "mnt/volume-beside").touch()
    for number, name in enumerate((b"plain", b"new\nline", b"-name", b" spaces  ", b"\xff\xfe not UTF-8", b"x" * 255)):
        path = os.path.join(os.fsencode(base), name)  # noqa: PTH118
        os.makedirs(path)  # noqa: PTH103
        with open(os.path.join(path, b"file"), "wb") as file:  # noqa: PTH118, PTH123
            file.write(b"x" * number * 1000)
        os.utime(file.name, ns=(0, (number - 3) * 1_500_000_001))
    (base / "plain/hole").touch()
    os.truncate(base / "plain/hole", 10**12)
    os.chmod(base / "plain/hole", 0o6755)  # noqa: PTH101, S103
    (base / "plain/link").symlink_to("nowhere")
    (base / "plain/hard").hardlink_to(base / "plain/file")
    os.mkfifo(base / "plain/pipe")
    os.mknod(base / "plain/gone", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    os.mknod(base / "plain/null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.chown(base / "plain/null", 123, 2**31)
    with socket.socket(socket.AF_UNIX) as listening:
        # Its path is too long to be bound to from here.
        os.chdir(base / "plain")
        listening.bind("socket")
        os.chdir("/")
    descriptor = os.open(base, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def _both(root: int, known: dict[bytes, Signature]) -> tuple[Look, Look]:
    assert FIND is not None, "the tests run where GNU find is"
    hidden = frozenset({b"etc/hosts", b"mnt/volume"})
    return (
        host_find.find(root, hidden, known, Control(), FIND),
        host_walk.walk(root, hidden, known, Control()),
    )


def test_both_ways_see_the_same(root: int) -> None:
    native, own = _both(root, {})
    assert native.signatures == own.signatures
    assert sorted(native.changed) == sorted(own.changed)
    assert (native.skipped, own.skipped) == (1, 1)
    assert b"plain/socket" not in native.signatures
    assert b"etc/hosts" not in native.signatures
    assert b"mnt/volume/below" not in native.signatures
    assert b"mnt/volume-beside" in native.signatures
    assert native.signatures[b"plain/gone"] == WHITEOUT_SIGNATURE
    seen = [found.path for found in native.changed]
    assert {path.rpartition(b"/")[0] for path in seen} - {b""} <= set(seen)
    assert all(seen.index(path.rpartition(b"/")[0]) < seen.index(path) for path in seen if b"/" in path)


def test_only_what_differs_is_handed_on(root: int) -> None:
    known = _both(root, {})[0].signatures
    for look in _both(root, known):
        assert (look.changed, look.signatures) == ([], known)
    os.utime("plain/file", ns=(0, 7), dir_fd=root)
    os.unlink("plain/pipe", dir_fd=root)
    for look in _both(root, known):
        assert {found.path for found in look.changed} == {b"plain", b"plain/file", b"plain/hard"}
        assert known.keys() - look.signatures.keys() == {b"plain/pipe"}


def test_words_are_read_back(root: int) -> None:
    for path in (b"plain/file", b"plain/hole", b"new\nline/file", b"plain/link", b"-name"):
        status = status_of(os.stat(path, dir_fd=root, follow_symlinks=False))
        assert parse(signature_of(status)) == status


@pytest.mark.parametrize(
    ("does", "says"),
    [("exit 1", "ended with 1"), ("echo './a: gone' >&2; exit 1", "gone"), ("printf 'a\\0words'", "ended with 0")],
)
def test_what_is_not_told_in_full_is_an_error(root: int, tmp_path: Path, does: str, says: str) -> None:
    other = tmp_path / "find"
    other.write_text(f"#!/bin/sh\n{does}\n")
    other.chmod(0o755)
    with pytest.raises(FileNotFoundError, match=says):
        host_find.find(root, frozenset(), {}, Control(), str(other))


def test_a_look_is_given_up(root: int) -> None:
    assert FIND is not None
    control = Control()
    control.stop()
    with pytest.raises(Cancelled):
        host_find.find(root, frozenset(), {}, control, FIND)


def test_where_a_file_lies_on_the_disk_is_no_change(root: int) -> None:
    # Blocks are given out when pages are written back, which changes no time.
    with os.fdopen(os.open("scattered", os.O_RDWR | os.O_CREAT, dir_fd=root), "wb") as file:
        for number in range(300):
            os.pwrite(file.fileno(), b"x", number * 16384)
        known = _both(root, {})[0].signatures
        os.fsync(file.fileno())
    for look in _both(root, known):
        assert look.changed == []
