"""Reading and writing trees on the host: nothing leads out of them. A folder stands for a container's root."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from activities.adapters.docker_overlay import Overlay, mount_points, parse_mounts
from activities.adapters.host_restore import RootWriter
from activities.adapters.host_scan import UpperScan
from activities.adapters.linux_files import _walk_to, data_extents, open_directory
from activities.errors import PathEscape
from activities.snapshots.capture import Control, Piece
from activities.snapshots.chunking import digest_of
from activities.snapshots.entries import ROOT, Entry, Kind
from activities.snapshots.fetch import Held
from activities.snapshots.packs import Location, PackWriter
from activities.snapshots.state import EMPTY, Index, Scan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Opener = Callable[[int, bytes], int]
OPENERS: list[Opener] = [open_directory, _walk_to]


def _contents(entries: Iterable[Entry]) -> tuple[dict[bytes, Entry], Held]:
    """Give files content of their size, in one frame each."""
    filled: dict[bytes, Entry] = {}
    chunks: dict[bytes, Location] = {}
    pieces: list[Piece] = []
    for entry in entries:
        content = b"x" * entry.size
        digest = digest_of(content)
        filled[entry.path] = entry._replace(chunks=(digest,)) if content else entry
        if content and digest not in chunks:
            chunks[digest] = Location("pack", len(pieces), 1, len(content), 0, len(content))
            pieces.append(Piece(chunks[digest].frame, b"", content, {digest: chunks[digest]}))
    return filled, Held(chunks, pieces)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root").mkdir()
    descriptor = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def _overlay(path: Path, *mounts: bytes) -> Overlay:
    return Overlay(pid=1, upper=os.fsencode(path), lowers=(), mount_points=frozenset(mounts))


def _scan(path: Path, *mounts: bytes, index: Index | None = None) -> tuple[Scan, int]:
    packs: dict[str, bytes] = {}
    writer = PackWriter(set[bytes](), "packs/", packs.__setitem__)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = UpperScan(descriptor, _overlay(path, *mounts), index or Index(EMPTY), writer, Control()).run()
        return found, writer.read_bytes
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("opener", OPENERS)
def test_no_way_leads_out(root: int, tmp_path: Path, opener: Opener) -> None:
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/file").touch()
    (tmp_path / "outside").mkdir()
    for name, target in (
        ("up", "../outside"),
        ("abs", str(tmp_path / "outside")),
        ("in", "a"),
        ("proc", "/proc/self/cwd"),
    ):
        (tmp_path / "root" / name).symlink_to(target)
    os.close(opener(root, b"a/b"))
    os.close(opener(root, b"a"))
    os.close(open_directory(root, ROOT))
    for path in (b"..", b"a/../..", b"up", b"abs", b"in", b"in/b", b"proc", b"/etc", b"file"):
        with pytest.raises(OSError, match=r".") as caught:
            opener(root, path)
        assert not isinstance(caught.value, FileNotFoundError), path


@pytest.mark.parametrize("opener", OPENERS)
def test_no_way_leads_into_another_mount(opener: Opener) -> None:
    slash = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match=r"[Cc]ross-device"):
            opener(slash, b"proc/self")
    finally:
        os.close(slash)


def test_a_directory_swapped_for_a_link_leads_nowhere(root: int, tmp_path: Path) -> None:
    inside, outside = tmp_path / "root/d", tmp_path / "outside"
    (inside / "e").mkdir(parents=True)
    (outside / "e").mkdir(parents=True)
    forbidden = (outside / "e").stat().st_ino
    stop = threading.Event()

    def swap() -> None:
        away = tmp_path / "root/away"
        while not stop.is_set():
            inside.rename(away)
            inside.symlink_to(outside)
            inside.unlink()
            away.rename(inside)

    swapper = threading.Thread(target=swap)
    swapper.start()
    opened = 0
    try:
        tries = 0
        # On a busy machine the swapper may hold the directory away for long.
        while tries < 20_000 or (not opened and tries < 2_000_000):
            tries += 1
            try:
                descriptor = open_directory(root, b"d/e")
            except OSError:
                continue
            opened += 1
            assert os.fstat(descriptor).st_ino != forbidden
            os.close(descriptor)
    finally:
        stop.set()
        swapper.join()
    assert opened


@pytest.mark.parametrize(
    "entry",
    [
        Entry(b"link/new", Kind.FILE, size=3),
        Entry(b"link/new", Kind.DIRECTORY),
        Entry(b"link/new", Kind.SYMLINK, target=b"x"),
        Entry(b"link/new", Kind.FIFO),
        Entry(b"new", Kind.FILE, leader=b"link/precious"),
    ],
)
def test_a_restore_through_a_link_is_refused(root: int, tmp_path: Path, entry: Entry) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").write_text("precious")
    (tmp_path / "root/link").symlink_to(tmp_path / "outside")
    entries, contents = _contents([entry])
    writer = RootWriter(root, contents, Control())
    with pytest.raises(PathEscape):
        writer.apply(entries)
    writer.close()
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["precious"]
    assert not (tmp_path / "root/new").exists()


def test_what_is_in_the_way_is_replaced(root: int, tmp_path: Path) -> None:
    base = tmp_path / "root"
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").write_text("precious")
    (base / "tree/deep").mkdir(parents=True)
    (base / "tree/deep/link").symlink_to(tmp_path / "outside")
    (base / "as-dir").symlink_to(tmp_path / "outside")
    (base / "link").symlink_to(tmp_path / "outside")
    (base / "merged").mkdir()
    (base / "merged/kept").touch()
    (base / "hidden").mkdir()
    (base / "hidden/gone").touch()
    (base / "deleted/below").mkdir(parents=True)
    own: dict[str, Any] = {"uid": os.getuid(), "gid": os.getgid(), "mtime_ns": 10**18 + 1}
    entries = [
        Entry(ROOT, Kind.DIRECTORY, mode=0o700, **own),
        Entry(b"tree", Kind.FILE, mode=0o4711, size=3, **own),
        Entry(b"as-dir", Kind.DIRECTORY, mode=0o500, **own),
        Entry(b"as-dir/in", Kind.FILE, mode=0o600, size=1, **own),
        Entry(b"merged", Kind.DIRECTORY, mode=0o755, **own),
        Entry(b"hidden", Kind.DIRECTORY, mode=0o755, opaque=True, **own),
        Entry(b"deleted", Kind.WHITEOUT),
        Entry(b"missing/far", Kind.WHITEOUT),
        Entry(b"link/precious", Kind.WHITEOUT),
    ]
    for _ in range(2):
        wanted, contents = _contents(entries)
        writer = RootWriter(root, contents, Control())
        writer.apply(wanted)
        writer.close()
    assert (tmp_path / "outside/precious").read_text() == "precious"
    found = sorted(str(path.relative_to(base)) for path in base.rglob("*"))
    assert found == ["as-dir", "as-dir/in", "hidden", "link", "merged", "merged/kept", "tree"]
    assert (base / "tree").stat().st_mode & 0o7777 == 0o4711
    assert {os.lstat(base / name).st_mtime_ns for name in (".", "tree", "as-dir", "as-dir/in", "hidden")} == {
        10**18 + 1
    }


def _differs(root: Path, index: Index) -> bool:
    descriptor = os.open(root, os.O_RDONLY)
    try:
        writer = PackWriter(set[bytes](), "packs/", dict[str, bytes]().__setitem__)
        return UpperScan(descriptor, _overlay(root, b"mnt"), index, writer, Control()).look()
    finally:
        os.close(descriptor)


def test_a_scan_reads_only_what_changed(tmp_path: Path) -> None:
    root = tmp_path / "upper"
    (root / "d").mkdir(parents=True)
    for number in range(20):
        (root / f"d/{number}").write_bytes(b"%d" % number * 100)
    os.link(root / "d/1", root / "d/one")
    (root / "mnt").mkdir()
    (root / "mnt/hidden").touch()
    first, read = _scan(root, b"mnt")
    assert (read, len(first.entries), b"mnt" in first.entries) == (3000, 23, False)
    assert first.entries[b"d/one"].leader == b"d/1"
    # What was written just now may change again unseen: only a later scan trusts it.
    threading.Event().wait(0.05)
    index = Index(EMPTY.__class__("ref", None, 1, 0, None, first.entries, {}), first.signatures)
    second, read = _scan(root, b"mnt", index=index)
    assert second.entries == first.entries
    assert len(second.signatures) == 23
    index.signatures = second.signatures
    third, read = _scan(root, b"mnt", index=index)
    assert read == 0
    assert all(third.entries[path] is first.entries[path] for path in first.entries if path != b"d/one")
    assert not _differs(root, index)
    (root / "d/7").write_bytes(b"other")
    assert _differs(root, index)
    fourth, read = _scan(root, b"mnt", index=index)
    assert (read, fourth.entries[b"d/7"].size) == (5, 5)


def test_a_file_with_countless_holes_stays_small_in_memory(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        for at in range(25_000):
            os.pwrite(file.fileno(), b"x", at * 8192)
        extents = data_extents(file.fileno(), os.fstat(file.fileno()).st_size)
    assert extents is not None
    assert len(extents) < 11_000
    assert extents[-1][0] + extents[-1][1] >= 24_999 * 8192


def test_mounts_are_read() -> None:
    lines = (
        b"113 61 0:50 / / rw,relatime master:3 - overlay overlay "
        b"rw,lowerdir=/l/A:/l/B,upperdir=/u\\040p/diff,workdir=/w\n"
        b"114 113 0:53 / /proc rw,nosuid shared:1 master:2 - proc proc rw\n"
        b"115 113 8:1 /x /etc/with\\040space\\134 rw - ext4 /dev/sda1 rw\n"
    )
    mounts = parse_mounts(lines)
    assert mounts[0].options[b"upperdir"] == b"/u p/diff"
    assert mounts[0].options[b"lowerdir"] == b"/l/A:/l/B"
    assert mount_points(mounts) == {b"proc", b"etc/with space\\"}
