"""The two ends of a stream into a container: what arrives in frames, and what is sent by a thread."""

from __future__ import annotations

import random
import struct
import threading
from typing import TYPE_CHECKING, cast

import pytest

from activities.adapters.api_sender import Sender
from activities.adapters.docker_stream import Demultiplexer
from activities.errors import SandboxUnavailable

if TYPE_CHECKING:
    from activities.adapters.docker_stream import ExecStream


def _framed(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


def test_frames_are_taken_apart_wherever_they_are_cut() -> None:
    rnd = random.Random(4)
    for _ in range(200):
        pieces = [(rnd.choice((1, 1, 1, 2)), rnd.randbytes(rnd.choice((0, 1, 7, 8, 9, 100)))) for _ in range(20)]
        raw = b"".join(_framed(stream, data) for stream, data in pieces)
        frames, taken = Demultiplexer(), b""
        at = 0
        while at < len(raw):
            step = rnd.choice((1, 3, 8, 50))
            frames.feed(raw[at : at + step])
            at += step
            taken += frames.take(rnd.choice((0, 1, 5, 1000)))
        taken += frames.take(frames.waiting)
        assert taken == b"".join(data for stream, data in pieces if stream == 1)
        assert frames.complaints == b"".join(data for stream, data in pieces if stream == 2)
        assert frames.waiting == 0


def test_complaints_are_kept_in_part() -> None:
    frames = Demultiplexer()
    for _ in range(100):
        frames.feed(_framed(2, b"x" * 1000))
    assert frames.complaints == b"x" * 4000


class _Stream:
    def __init__(self, *, breaks_after: int = 1 << 60) -> None:
        self.got = bytearray()
        self.hung_up = threading.Event()
        self._breaks_after = breaks_after

    def send(self, data: bytes) -> None:
        self.got += data
        if len(self.got) > self._breaks_after:
            msg = "gone"
            raise SandboxUnavailable(msg)

    def hang_up(self) -> None:
        self.hung_up.set()


class _Stuck(_Stream):
    def send(self, data: bytes) -> None:
        self.got += data
        assert self.hung_up.wait(30)


def _sender(stream: _Stream) -> Sender:
    return Sender(cast("ExecStream", stream))


def test_everything_is_sent_in_order() -> None:
    stream = _Stream()
    pieces = [bytes([number % 256]) * (number * 7919 % 100_000) for number in range(200)]
    with _sender(stream) as sender:
        for piece in pieces:
            sender.add(memoryview(piece))
        assert sender.bytes == sum(map(len, pieces))
        sender.finish()
    assert bytes(stream.got) == b"".join(pieces)


def test_a_broken_stream_is_told() -> None:
    stream = _Stream(breaks_after=3 << 20)

    def send() -> None:
        with _sender(stream) as sender:
            for _ in range(100):
                sender.add(bytes(1 << 20))
            sender.finish()

    with pytest.raises(SandboxUnavailable):
        send()
    assert len(stream.got) < 20 << 20


def test_giving_up_does_not_wait_for_a_command_that_reads_nothing() -> None:
    stream = _Stuck()

    def give_up() -> None:
        with _sender(stream) as sender:
            for _ in range(3):
                sender.add(bytes(1 << 20))
            msg = "enough"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="enough"):
        give_up()
    assert not any(thread.name == "restore-sender" for thread in threading.enumerate())
