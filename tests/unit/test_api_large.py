"""Large files that are read again in part: the same chunks come out as if all had been read."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from typing import TYPE_CHECKING, cast

import pytest

from activities.adapters.api_large import LARGE_BYTES, LargeFile, LargeReader, Segments, Summed, likely
from activities.adapters.api_listing import Seen
from activities.adapters.api_script import BLOCK, SEGMENT_BYTES, SUM_BYTES
from activities.adapters.api_shell import ContainerShell, End
from activities.snapshots.capture import Control
from activities.snapshots.chunking import cut, digest_of
from activities.snapshots.entries import Entry, Kind
from activities.snapshots.packs import Location, PackWriter

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = b"work/big file.bin"
_XATTRS = ((b"user.note", b"x"),)


def _summed(content: bytes) -> tuple[bytes, ...]:
    reader = Summed().of(io.BytesIO(content))
    while reader.read(300_001):
        pass
    return reader.sums()


class _Shell:
    """Has one file."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.now = content
        """What it is when it is read."""
        self.handed_out = 0
        self.ahead: list[bool] = []
        self.births = 100

    def sums(
        self, path: bytes, count: int, control: Control, *, ahead: bool = False
    ) -> tuple[bytes, tuple[bytes, ...], End]:
        assert path == _PATH
        control.check()
        self.ahead.append(ahead)
        member = tarfile.TarInfo("./" + path.decode())
        member.size = len(self.content)
        member.pax_headers = {f"SCHILY.xattr.{name.decode()}": value.decode() for name, value in _XATTRS}
        head = member.tobuf(tarfile.PAX_FORMAT) + self.content[: 1 << 17]
        return head[: 1 << 17], _summed(self.content)[:count], self._end(2 + 2 * count)

    def part(self, path: bytes, block: int, count: int, control: Control) -> tuple[bytes, End]:
        assert path == _PATH
        control.check()
        data = self.now[block * BLOCK : (block + count) * BLOCK]
        self.handed_out += len(data)
        return data, self._end(1)

    def _end(self, births: int) -> End:
        first, self.births = self.births, self.births + births
        return End(0, list(range(first, self.births)), None)


class _Writer(PackWriter):
    """Remembers what it was given."""

    def __init__(self, known: dict[bytes, Location], made: dict[bytes, bytes]) -> None:
        super().__init__(known, "packs/", lambda _key, _data: None)
        self._made = made

    def add_chunk(self, chunk: bytes) -> bytes:
        digest = super().add_chunk(chunk)
        self._made[digest] = chunk
        return digest


class _World:
    """A file as it was read first, and what happens to it then."""

    def __init__(self, content: bytes) -> None:
        self.chunks: dict[bytes, bytes] = {}
        chunks = self.cut(content)
        self.known = {digest: Location("pack", 0, 0, 0, 0, len(data)) for digest, data in self.chunks.items()}
        entry = Entry(path=_PATH, kind=Kind.FILE, mode=0o600, size=len(content), chunks=chunks)
        large = LargeFile.of(entry, Segments(b"then", _summed(content)), self.known)
        assert large is not None
        self.large = large

    def cut(self, content: bytes) -> tuple[bytes, ...]:
        made = [bytes(chunk) for chunk in cut(io.BytesIO(content))]
        self.chunks |= {digest_of(chunk): chunk for chunk in made}
        return tuple(digest_of(chunk) for chunk in made)

    def read(self, shell: _Shell, *, letter: bytes = b"f", ahead: bool = False) -> Entry | None:
        seen = Seen(letter, 0o640, 1, 2, len(shell.content), 5_000_000_007, 6, 7, 1, b"")
        writer = _Writer(self.known, self.chunks)
        reader = LargeReader(cast("ContainerShell", shell), writer, Control())
        try:
            read = reader.read(seen, self.large, ahead=ahead)
        finally:
            writer.close()
        # Every command is known, or nothing could be proved.
        assert reader.births == list(range(100, shell.births))
        if read is None:
            return None
        entry, sums = read
        assert sums == _summed(shell.content)
        return entry


_RANDOM = random.Random(11)
_CONTENT = _RANDOM.randbytes(3 * SEGMENT_BYTES) + bytes(1 << 20) + _RANDOM.randbytes(5_000_001)
_MIDDLE = SEGMENT_BYTES + 12_345


_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda old: old,
    "middle": lambda old: old[:_MIDDLE] + _RANDOM.randbytes(65_536) + old[_MIDDLE + 65_536 :],
    "first": lambda old: b"x" + old[1:],
    "last": lambda old: old[:-1] + b"x",
    "appended": lambda old: old + b"more" * 1000,
    "cut": lambda old: old[:-3_000_000],
    "cut at a segment": lambda old: old[: 3 * SEGMENT_BYTES],
    "across segments": lambda old: old[: SEGMENT_BYTES - 1] + b"xy" + old[SEGMENT_BYTES + 1 :],
    "inserted": lambda old: old[: 3 * SEGMENT_BYTES + 1000] + b"inserted" + old[3 * SEGMENT_BYTES + 1000 :],
}


@pytest.mark.parametrize("name", _CHANGES)
def test_it_comes_out_as_if_all_was_read(name: str) -> None:
    world = _World(_CONTENT)
    now = _CHANGES[name](_CONTENT)
    shell = _Shell(now)
    entry = world.read(shell)
    assert entry is not None
    whole = world.cut(now)
    assert b"".join(world.chunks[digest] for digest in entry.chunks) == now
    # The end is cut a little otherwise when it is read by itself.
    assert entry.chunks[: len(whole) - 8] == whole[: len(whole) - 8]
    assert (entry.size, entry.mode, entry.uid, entry.gid, entry.mtime_ns) == (len(now), 0o640, 1, 2, 5_000_000_007)
    assert (entry.xattrs, entry.extents) == (_XATTRS, None)
    assert shell.handed_out <= 2 * SEGMENT_BYTES + (8 << 20)


def test_random_changes() -> None:
    rnd = random.Random(3)
    old = rnd.randbytes(LARGE_BYTES + 3_000_000)
    read = 0
    for _ in range(12):
        world = _World(old)
        at = rnd.randrange(len(old))
        length = rnd.choice((1, 1000, 300_000))
        new = old[:at] + rnd.randbytes(rnd.choice((0, length, length, 2 * length))) + old[at + length :]
        entry = world.read(_Shell(new))
        if entry is not None:
            read += 1
            assert entry.size == len(new)
            assert b"".join(world.chunks[digest] for digest in entry.chunks) == new
        old = new if len(new) >= LARGE_BYTES else old
    assert read


def test_what_is_not_worth_it_is_read_whole() -> None:
    world = _World(_CONTENT)
    assert world.read(_Shell(_RANDOM.randbytes(len(_CONTENT)))) is None
    assert world.read(_Shell(_CONTENT[:1000])) is None
    assert world.read(_Shell(_CONTENT), letter=b"l") is None
    shell = _Shell(_CONTENT[:_MIDDLE] + b"x" + _CONTENT[_MIDDLE + 1 :])
    shell.now = _CONTENT[:_MIDDLE]
    assert world.read(shell) is None


def test_sums_made_ahead_are_used_for_the_same_segments_alone() -> None:
    world = _World(_CONTENT)
    for content, ahead, used in (
        (_CONTENT, True, True),
        (_CONTENT, False, False),
        (_CONTENT + bytes(SEGMENT_BYTES), True, False),
    ):
        shell = _Shell(content)
        assert world.read(shell, ahead=ahead) is not None
        assert shell.ahead == [used]


def test_a_content_whose_chunks_are_not_known_is_read_whole() -> None:
    world = _World(_CONTENT)
    segments = world.large.segments
    missing = dict(world.known)
    del missing[world.large.entry.chunks[3]]
    assert LargeFile.of(world.large.entry, segments, missing) is None
    assert LargeFile.of(world.large.entry._replace(size=5), segments, world.known) is None


def test_sums_are_those_of_the_segments() -> None:
    content = _CONTENT[: 2 * SEGMENT_BYTES + 5]
    sums = _summed(content)
    assert sums == tuple(
        hashlib.blake2b(content[at : at + SEGMENT_BYTES], digest_size=SUM_BYTES).digest()
        for at in range(0, len(content), SEGMENT_BYTES)
    )
    assert _summed(b"") == ()


def test_the_largest_plain_file_is_likely() -> None:
    one, two = Segments(b"", (b"1",)), Segments(b"", (b"1", b"2"))
    assert likely({b"a": one, b"b": two, "ü".encode(): Segments(b"", (b"1",) * 9)}) == (b"b", 2)
    assert likely({b"a\nb": one}) is None
    assert likely({}) is None
