"""Segments of a conversation: written once, read in order, and mistrusted."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from activities.adapters.local_store import LocalStore
from activities.errors import TranscriptConflict, TranscriptDamaged
from activities.items import message
from activities.ports.store import ObjectInfo
from activities.transcript import Segment, Transcript, request_digest, unanswered
from hibernaut.contracts import ModelRequest, StoreKeys, UserMessage
from hibernaut.models import ToolCall, Usage

UID = "0123456789abcdef"


class CountingStore(LocalStore):
    """A local folder that counts how it is read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gets: list[str] = []
        self.listed: list[str] = []

    async def get(self, key: str) -> bytes:
        self.gets.append(key)
        return await super().get(key)

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        self.listed.append(prefix)
        return super().list(prefix)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path)


def segment(step: int, previous: str | None, **more: Any) -> Segment:  # noqa: ANN401  # fields of the model
    fields: dict[str, Any] = {
        "agent_uid": UID,
        "branch": 0,
        "step": step,
        "ordinal": 0,
        "previous": previous,
        "request_digest": f"digest-{step}",
        "new_items": (message("user", f"question {step}"),),
        "reply_items": (message("assistant", f"answer {step}"),),
        "text": f"answer {step}",
        "refusal": False,
        "tool_calls": (),
        "usage": Usage(),
        "provider": "default",
        "model": "m",
        "response_id": None,
        "created_at": datetime.now(UTC),
        "duration_ms": 1,
    }
    return Segment(**{**fields, **more})


async def chain(transcript: Transcript, length: int) -> str:
    ref: str | None = None
    for step in range(1, length + 1):
        kept, _ = await transcript.keep(segment(step, ref))
        ref = kept.key
    assert ref is not None
    return ref


async def test_a_chain_is_read_oldest_first(store: CountingStore) -> None:
    ref = await chain(Transcript(store), 5)
    found = await Transcript(store).segments(ref)
    assert [one.step for one in found] == [1, 2, 3, 4, 5]
    assert await Transcript(store).segments(None) == []
    items = await Transcript(store).items(ref)
    assert [item["content"][0]["text"] for item in items][:3] == ["question 1", "answer 1", "question 2"]
    assert await Transcript(store).answer_text(ref) == "answer 5"


async def test_the_writer_reads_nothing_again(store: CountingStore) -> None:
    transcript = Transcript(store)
    ref = await chain(transcript, 20)
    store.gets.clear()
    assert len(await transcript.segments(ref)) == 20
    assert store.gets == []
    assert store.listed == []


async def test_another_worker_reads_each_segment_once_and_then_none(store: CountingStore) -> None:
    ref = await chain(Transcript(store), 20)
    store.gets.clear()
    transcript = Transcript(store)
    assert len(await transcript.segments(ref)) == 20
    assert len(store.gets) == len(set(store.gets)) == 20
    assert len(store.listed) == 1
    assert len(await transcript.segments(ref)) == 20
    assert len(store.gets) == 20


async def test_what_lies_before_a_border_is_not_read(store: CountingStore) -> None:
    keys = [StoreKeys.segment(UID, 0, step, 0) for step in range(20)]
    for step, key in enumerate(keys):
        assert (await Transcript(store).keep(segment(step, keys[step - 1] if step else None)))[0].key == key
    reader = Transcript(store)
    assert [one.step for one in await reader.segments(keys[-1], until=keys[14])] == [15, 16, 17, 18, 19]
    assert sorted(store.gets) == keys[15:]
    assert await reader.segments(keys[14], until=keys[14]) == []
    # A border that is not on the way is none.
    assert len(await reader.segments(keys[3], until=keys[14])) == 4


async def test_one_unknown_segment_costs_one_read(store: CountingStore) -> None:
    mine, theirs = Transcript(store), Transcript(store)
    ref = await chain(mine, 10)
    newest, _ = await theirs.keep(segment(11, ref))
    store.gets.clear()
    assert len(await mine.segments(newest.key)) == 11
    assert store.gets == [newest.key]
    assert store.listed == []


async def test_a_chain_may_come_from_another_branch_and_leave_segments_aside(store: CountingStore) -> None:
    transcript = Transcript(store)
    ref = await chain(transcript, 4)
    await transcript.keep(segment(5, ref, ordinal=3))
    other, _ = await transcript.keep(segment(3, StoreKeys.segment(UID, 0, 2, 0), branch=1))
    last, _ = await transcript.keep(segment(4, other.key, branch=1))
    found = await Transcript(store).segments(last.key)
    assert [(one.branch, one.step) for one in found] == [(0, 1), (0, 2), (1, 3), (1, 4)]


async def test_the_cache_is_bounded(store: CountingStore) -> None:
    size = len(segment(1, None).model_dump_json())
    transcript = Transcript(store, cache_bytes=3 * size)
    ref = await chain(transcript, 10)
    assert len(await transcript.segments(ref)) == 10
    assert transcript._size <= 3 * size
    assert len(transcript._cached) <= 3
    assert len(await Transcript(store, cache_bytes=0).segments(ref)) == 10


async def test_the_first_reply_of_a_step_is_kept(store: CountingStore) -> None:
    """A race of two attempts of one step: both return the same reply."""
    workers = [Transcript(store) for _ in range(8)]
    results = await asyncio.gather(
        *(worker.keep(segment(1, None, text=f"reply {at}")) for at, worker in enumerate(workers))
    )
    assert len({kept.text for kept, _ in results}) == 1
    assert sorted(lost for _, lost in results) == [False] + [True] * 7
    assert (await workers[3].segments(results[0][0].key))[0].text == results[0][0].text


async def test_a_retry_finds_its_reply_and_another_request_is_refused(store: CountingStore) -> None:
    transcript = Transcript(store)
    kept, lost = await transcript.keep(segment(1, None))
    assert not lost
    assert await transcript.find(kept.key, "digest-1") == kept
    assert await transcript.find(StoreKeys.segment(UID, 0, 2, 0), "digest-2") is None
    with pytest.raises(TranscriptConflict, match="ordinal"):
        await transcript.find(kept.key, "digest-other")
    with pytest.raises(TranscriptConflict, match="ordinal"):
        await transcript.keep(segment(1, None, request_digest="digest-other"))


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b'{"format": "hibernaut-transcript/2"}',
        segment(7, None).model_dump_json().encode(),
        segment(1, None).model_dump_json().encode()[:-20],
    ],
)
async def test_a_damaged_segment_is_named(store: CountingStore, data: bytes | None) -> None:
    first = segment(1, None)
    if data is not None:
        await store.put(first.key, data)
    newest, _ = await Transcript(store).keep(segment(2, first.key))
    with pytest.raises(TranscriptDamaged, match=first.key):
        await Transcript(store).segments(newest.key)


async def test_a_circle_ends(store: CountingStore) -> None:
    transcript = Transcript(store)
    await transcript.keep(segment(1, StoreKeys.segment(UID, 0, 2, 0)))
    last, _ = await transcript.keep(segment(2, StoreKeys.segment(UID, 0, 1, 0)))
    with pytest.raises(TranscriptDamaged, match="itself"):
        await transcript.segments(last.key)


async def test_whole_commands_are_found_by_call(store: CountingStore) -> None:
    long = "x" * 100_000
    calls = (ToolCall(call_id="c1", kind="shell_call", commands=(long, "b")), ToolCall(call_id="c2", kind="shell_call"))
    kept, _ = await Transcript(store).keep(segment(1, None, tool_calls=calls))
    assert await Transcript(store).commands_of(kept.key, "c1") == (long, "b")
    with pytest.raises(TranscriptDamaged, match="'c3'"):
        await Transcript(store).commands_of(kept.key, "c3")
    assert unanswered(kept, [{"type": "shell_call_output", "call_id": "c2"}]) == ["c1"]


async def test_fields_of_a_newer_release_are_let_be(store: CountingStore) -> None:
    one = segment(1, None)
    await store.put(one.key, one.model_dump_json().replace('"step":1', '"step":1,"new_field":5').encode())
    assert (await Transcript(store).segment(one.key)) == one


def test_the_digest_tells_requests_apart_and_survives_new_fields() -> None:
    class Newer(ModelRequest):
        added: int = 0

    fields: dict[str, Any] = {
        "agent_uid": UID,
        "branch": 0,
        "step": 1,
        "ordinal": 0,
        "transcript_ref": None,
        "new_items": (UserMessage(message_id="1", text="hi"),),
        "provider": "default",
        "model": "m",
    }
    digest = request_digest(ModelRequest(**fields))
    assert digest == request_digest(ModelRequest.model_validate_json(ModelRequest(**fields).model_dump_json()))
    assert digest == request_digest(Newer(**fields))
    changes: list[dict[str, Any]] = [
        {"model": "n"},
        {"ordinal": 1},
        {"new_items": (UserMessage(message_id="1", text="ho"),)},
    ]
    for change in changes:
        assert request_digest(ModelRequest(**{**fields, **change})) != digest
