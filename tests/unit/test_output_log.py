"""Output on its way to the store: pieces that join, whoever wrote them, and a tail that is text."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from activities import output_log
from activities.adapters.local_store import LocalStore
from activities.errors import StoreUnavailable
from activities.output_log import CHUNK_BYTES, OutputLog, Tail
from hibernaut.contracts import StoreKeys

UID, EXEC = "0123", "b0-s1-c0-i0"
STREAM = bytes(range(256)) * 20_000


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


async def kept(store: LocalStore, stream: str = "stdout") -> bytes:
    """The stream as a reader of the store sees it: the pieces in key order, each where the one before it ends."""
    whole = b""
    async for info in store.list(StoreKeys.exec_chunks(UID, EXEC, stream)):
        assert info.key == StoreKeys.exec_chunk(UID, EXEC, stream, len(whole))
        whole += await store.get(info.key)
    return whole


async def feed(log: OutputLog, data: bytes, step: int, *, tick: bool = False) -> None:
    for start in range(0, len(data), step):
        await log.write("stdout", data[start : start + step])
        if tick:
            await log.tick()


async def test_short_output_needs_no_object(store: LocalStore) -> None:
    log = OutputLog(store, UID, EXEC)
    await log.write("stdout", b"short")
    await log.finish(wanted=())
    assert await kept(store) == b""


async def test_what_the_record_does_not_show_is_kept_whole(store: LocalStore) -> None:
    log = OutputLog(store, UID, EXEC)
    await log.write("stdout", b"short")
    await log.write("stderr", b"not text \xff")
    await log.finish(wanted=("stderr",))
    assert (await kept(store), await kept(store, "stderr")) == (b"", b"not text \xff")


@pytest.mark.parametrize("step", [100_000, 3_000_000])
async def test_long_output_is_written_as_it_comes(store: LocalStore, step: int) -> None:
    log = OutputLog(store, UID, EXEC)
    await feed(log, STREAM, step)
    so_far = await kept(store)
    assert len(so_far) >= len(STREAM) - CHUNK_BYTES
    await log.finish(wanted=())
    assert await kept(store) == STREAM, "what was begun is completed"


async def test_what_has_waited_is_written(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    log = OutputLog(store, UID, EXEC)
    await log.write("stdout", b"a line\n")
    await log.tick()
    assert await kept(store) == b"", "it has not waited yet"
    monkeypatch.setattr(output_log, "CHUNK_S", 0.0)
    await log.tick()
    assert await kept(store) == b"a line\n"


@pytest.mark.parametrize("further", [0, 1, 70_000, 2_000_000])
async def test_a_later_attempt_goes_on_behind_the_pieces_it_finds(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, further: int
) -> None:
    monkeypatch.setattr(output_log, "CHUNK_S", 0.0)
    first = OutputLog(store, UID, EXEC)
    await feed(first, STREAM[:1_000_000], 123_457, tick=True)
    before = [info.etag async for info in store.list("agents/")]
    second = OutputLog(store, UID, EXEC)
    await feed(second, STREAM[: 1_000_000 + further], 77_777, tick=True)
    await second.finish(wanted=("stdout",))
    assert await kept(store) == STREAM[: 1_000_000 + further]
    after = [info.etag async for info in store.list("agents/")]
    assert after[: len(before)] == before, "no object is written twice"


async def test_two_attempts_at_once_build_one_chain(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_log, "CHUNK_S", 0.0)
    logs = [OutputLog(store, UID, EXEC) for _ in range(3)]
    await asyncio.gather(
        *(feed(log, STREAM[:500_000], step, tick=True) for log, step in zip(logs, (7_001, 11_003, 29_009), strict=True))
    )
    await asyncio.gather(*(log.finish(wanted=("stdout",)) for log in logs))
    assert await kept(store) == STREAM[:500_000]


async def test_pieces_with_a_gap_are_told_not_built_upon(store: LocalStore) -> None:
    log = OutputLog(store, UID, EXEC)
    await log.write("stdout", b"x" * CHUNK_BYTES)
    await store.put(StoreKeys.exec_chunk(UID, EXEC, "stdout", CHUNK_BYTES), b"")
    with pytest.raises(StoreUnavailable, match="do not join"):
        await log.write("stdout", b"x" * CHUNK_BYTES)


@given(st.text(max_size=3_000), st.integers(1, 60), st.integers(0, 3))
def test_a_tail_is_the_end_of_the_text_up_to_where_it_says(text: str, step: int, cut: int) -> None:
    text = text.replace("\0", "")
    data = text.encode()
    data = data[: max(0, len(data) - cut)]
    tail = Tail()
    for start in range(0, len(data), step):
        tail.feed(data[start : start + step])
    shown, end = tail.read()
    assert "\ufffd" in shown or data[:end].endswith(shown.encode())
    assert len(data) - end <= 3
    assert len(shown) <= 2_000
    assert len(shown.splitlines()) <= 20
    if "\ufffd" not in text:
        assert "\ufffd" not in shown


def test_a_tail_of_bytes_that_are_no_text_is_text_all_the_same() -> None:
    tail = Tail()
    tail.feed(bytes(range(256)) * 1_000)
    shown, end = tail.read()
    shown.encode()
    assert "\0" not in shown
    assert 256_000 - end <= 3
