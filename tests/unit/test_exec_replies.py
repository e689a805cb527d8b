"""What a container answers is hostile: whatever comes, the worker stays bounded and ends."""

import pytest
from hypothesis import given, strategies as st

from activities.adapters.docker_result import INLINE_BYTES, ReplyReader, Seen
from activities.errors import SandboxRefused
from hibernaut.models import OutcomeKind

END = b"hibernaut2 end exit 3 100 250 4 2 - 1 0\n"


def read(data: bytes, step: int = 1 << 20) -> tuple[ReplyReader, dict[str, bytes]]:
    reader, got = ReplyReader(), {"stdout": b"", "stderr": b""}
    for start in range(0, len(data), step):
        for stream, piece in reader.feed(data[start : start + step]):
            got[stream] += piece
    return reader, got


@pytest.mark.parametrize("step", [1, 2, 7, 100])
def test_an_end_comes_in_any_pieces(step: int) -> None:
    reader, got = read(END + b"out\ner", step)
    assert reader.done
    assert reader.end is not None
    assert got == {"stdout": b"out\n", "stderr": b"er"}
    end = reader.end.outcome(4, 2, 10)
    assert (end.kind, end.exit_code, end.duration_ms, end.detail) == (OutcomeKind.EXIT, 3, 1_500, "")
    assert not reader.surplus


def test_background_processes_come_before_the_output() -> None:
    reader, got = read(b"hibernaut2 end exit 0 1 2 2 0 - 1 2\n12 sleep\n345 my program\nok", 3)
    assert reader.end is not None
    assert reader.end.background == ("12 sleep", "345 my program")
    assert got["stdout"] == b"ok"
    assert reader.done


@pytest.mark.parametrize(
    ("header", "kind", "detail"),
    [
        (b"limit - 1 2 0 0 cut 1 0", OutcomeKind.INTERRUPTED, "ended: it wrote more than 77 bytes (max_output_bytes)"),
        (b"exit 0 1 2 0 0 cut 1 0", OutcomeKind.EXIT, "only the first 77 bytes of each of its streams were kept"),
        (b"unknown - 1 1 0 0 restarted 1 0", OutcomeKind.UNKNOWN, "the container was restarted after the command had"),
        (b"unknown - 1 1 0 0 unseen 1 0", OutcomeKind.UNKNOWN, "its supervisor was killed"),
        (b"not_run - 0 0 0 0 - 1 0", OutcomeKind.NOT_RUN, ""),
        (b"timeout 143 9 1 0 0 - 1 0", OutcomeKind.TIMEOUT, ""),
    ],
)
def test_kinds_and_what_is_said_of_them(header: bytes, kind: OutcomeKind, detail: str) -> None:
    reader, _ = read(b"hibernaut2 end " + header + b"\n")
    assert reader.end is not None
    end = reader.end.outcome(0, 0, 77)
    assert end.kind is kind
    assert end.detail.startswith(detail)
    assert bool(detail) == bool(end.detail)
    assert end.duration_ms >= 0
    assert (end.exit_code is not None) is (kind is OutcomeKind.EXIT)


@pytest.mark.parametrize(
    "forged",
    [
        b"hibernaut2 end exit 0 1 2 999999999999999 0 - 1 0\n",
        b"hibernaut2 end exit 0 1 2 9999999999999999999 0 - 1 0\n",
        b"hibernaut2 end exit 0 1 2 -5 0 - 1 0\n",
        b"hibernaut2 end exit 0 1 2 0 0 - 1 99\n",
        b"hibernaut2 end exit 0 1 2 0 0 - 1 1\nno pid\n",
        b"hibernaut2 end exit 0 1 2 0 0 - 1 1\n1 \x1b[31m\n",
        b"hibernaut2 end exit 0000 1 2 0 0 - 1 0\n",
        b"hibernaut2 end great 0 1 2 0 0 - 1 0\n",
        b"hibernaut2 part 9999999999 1\n",
        b"hibernaut1 exit 0 1 2 0 0\n",
        b"\n",
        b"x" * 10_000,
        "hibernaut2 end exit ٣ 1 2 0 0 - 1 0\n".encode(),
    ],
)
def test_what_is_no_answer_is_refused(forged: bytes) -> None:
    with pytest.raises(SandboxRefused, match="tampered"):
        read(forged, 11)


@pytest.mark.parametrize(("why", "told"), [(b"user", "/etc/passwd"), (b"drop", "util-linux"), (b"claim", "disk")])
def test_a_supervisor_that_cannot_says_why(why: bytes, told: str) -> None:
    with pytest.raises(SandboxRefused, match=told):
        read(b"hibernaut2 refused " + why + b"\n")


def test_more_than_announced_is_noticed_and_dropped() -> None:
    reader, got = read(END + b"out\nerhibernaut2 end exit 0 1 2 0 0 - 1 0\n")
    assert reader.surplus
    assert got == {"stdout": b"out\n", "stderr": b"er"}


@given(st.binary(max_size=2_000), st.integers(1, 50))
def test_garbage_never_does_anything_but_be_refused(data: bytes, step: int) -> None:
    try:
        reader, got = read(data, step)
    except SandboxRefused:
        return
    assert len(reader._line) <= 200
    assert sum(map(len, got.values())) <= INLINE_BYTES


@given(st.lists(st.tuples(st.integers(0, 40), st.binary(max_size=30)), max_size=20))
def test_every_byte_is_handed_on_once_and_none_beyond_the_bound(reads: list[tuple[int, bytes]]) -> None:
    stream = bytes(range(100))
    seen, got = Seen(50), b""
    for start, data in reads:
        # Readings may begin anywhere up to what was seen, and repeat it.
        begin = min(start, seen.given["stdout"])
        for _, piece in seen.fresh({"stdout": begin, "stderr": 0}, [("stdout", stream[begin : begin + len(data)])]):
            got += piece
    assert got == stream[: len(got)]
    assert len(got) <= 50
