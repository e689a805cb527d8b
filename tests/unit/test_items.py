"""What happened, as items of the conversation; and output trimmed to what a model is shown."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from openai.types.responses.response_input_item_param import ResponseInputItemParam

from activities.adapters.local_store import LocalStore
from activities.errors import TranscriptDamaged
from activities.items import render
from activities.records import ExecRecord, ExecutedCommand, OutputWindow, head_tail
from examples.scripted_model.typed import by_literal, check
from hibernaut.contracts import Instructions, NewItem, Note, ToolResult, UserMessage
from hibernaut.models import CommandOutcome, OutcomeKind


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


async def rendered(store: LocalStore, *items: NewItem) -> list[dict[str, Any]]:
    found = [dict(item) for item in await render(items, store)]
    for item in found:
        members = by_literal(ResponseInputItemParam, "type")[item["type"]]
        check(item, members[0] if item["type"] != "message" else members[1], "item")
    return found


def executed(kind: OutcomeKind = OutcomeKind.EXIT, **more: Any) -> ExecutedCommand:  # noqa: ANN401  # fields of the model
    return ExecutedCommand(exec_id="e-i0", command="ls", kind=kind, **more)


async def kept(store: LocalStore, *commands: ExecutedCommand) -> str:
    record = ExecRecord(
        agent_uid="u",
        exec_prefix="e",
        call_id="call_1",
        commands=commands,
        max_output_length=1000,
        created_at=datetime.now(UTC),
    )
    await store.put("agents/u/exec/e.json", record.model_dump_json().encode())
    return "agents/u/exec/e.json"


async def test_messages_take_the_roles_of_those_who_speak(store: LocalStore) -> None:
    await store.put("agents/u/messages/long.txt", "Long ÄÖÜ".encode())
    items = await rendered(
        store,
        Instructions(text="Be brief."),
        UserMessage(message_id="1", text="Hello"),
        Note(text="[hibernaut] a note"),
        UserMessage(message_id="2", text="Long", text_ref="agents/u/messages/long.txt"),
    )
    assert [(item["role"], item["content"][0]["text"]) for item in items] == [
        ("developer", "Be brief."),
        ("user", "Hello"),
        ("developer", "[hibernaut] a note"),
        ("user", "Long ÄÖÜ"),
    ]


async def test_empty_instructions_are_no_item(store: LocalStore) -> None:
    assert await rendered(store, Instructions()) == []


async def test_a_missing_or_damaged_text_is_said_so(store: LocalStore) -> None:
    with pytest.raises(TranscriptDamaged, match=r"messages/none\.txt"):
        await rendered(store, UserMessage(message_id="1", text_ref="agents/u/messages/none.txt"))
    await store.put("agents/u/messages/bad.txt", b"\xff\xfe")
    with pytest.raises(TranscriptDamaged, match=r"messages/bad\.txt"):
        await rendered(store, Instructions(text_ref="agents/u/messages/bad.txt"))


async def test_a_native_call_is_answered_command_by_command(store: LocalStore) -> None:
    ref = await kept(
        store,
        executed(exit_code=3, stdout="out", stderr="err"),
        executed(OutcomeKind.TIMEOUT, stdout="partial"),
        executed(OutcomeKind.INTERRUPTED, stderr="half a line"),
        executed(OutcomeKind.UNKNOWN),
        executed(OutcomeKind.NOT_RUN),
    )
    result = ToolResult(call_id="call_1", call_kind="shell_call", record_ref=ref, max_output_length=1000)
    [item] = await rendered(store, result)
    assert (item["type"], item["call_id"], item["max_output_length"]) == ("shell_call_output", "call_1", 1000)
    first, second, *rest = item["output"]
    assert first == {"stdout": "out", "stderr": "err", "outcome": {"type": "exit", "exit_code": 3}}
    assert second == {"stdout": "partial", "stderr": "", "outcome": {"type": "timeout"}}
    assert [output["outcome"]["exit_code"] for output in rest] == [251, 252, 253]
    assert rest[0]["stderr"].startswith("half a line\n[hibernaut] interrupted")
    assert rest[1]["stderr"].startswith("[hibernaut] unknown")
    assert rest[2]["stderr"].startswith("[hibernaut] not run")


async def test_what_is_known_beyond_the_outcome_is_told_in_both_forms(store: LocalStore) -> None:
    ref = await kept(
        store,
        executed(OutcomeKind.INTERRUPTED, stderr="part", detail="ended: it wrote more than 9 bytes"),
        executed(exit_code=0, background=("12 sleep", "34 my server")),
    )
    [item] = await rendered(store, ToolResult(call_id="c", call_kind="shell_call", record_ref=ref))
    first, second = (output["stderr"].splitlines() for output in item["output"])
    assert (first[0], first[2]) == ("part", "[hibernaut] ended: it wrote more than 9 bytes")
    assert second == ["[hibernaut] still running in the background: 12 sleep, 34 my server"]
    [item] = await rendered(store, ToolResult(call_id="c", call_kind="function_call", record_ref=ref))
    one, two = json.loads(item["output"])["outputs"]
    assert (one["detail"], two["background"]) == ("ended: it wrote more than 9 bytes", ["12 sleep", "34 my server"])
    assert "background" not in one
    assert "detail" not in two


async def test_max_output_length_is_echoed_only_when_the_call_had_it(store: LocalStore) -> None:
    [item] = await rendered(store, ToolResult(call_id="c", call_kind="shell_call", error="no"))
    assert "max_output_length" not in item


async def test_a_function_call_is_answered_with_a_field_for_everything(store: LocalStore) -> None:
    ref = await kept(
        store,
        executed(exit_code=0, stdout="größer", truncated=True, duration_ms=12),
        executed(OutcomeKind.TIMEOUT, exit_code=137),
        executed(OutcomeKind.NOT_RUN),
    )
    [item] = await rendered(store, ToolResult(call_id="c", call_kind="function_call", record_ref=ref))
    assert item["type"] == "function_call_output"
    assert "größer" in item["output"]
    first, second, third = json.loads(item["output"])["outputs"]
    assert first == {
        "stdout": "größer",
        "stderr": "",
        "exit_code": 0,
        "outcome": "exit",
        "timed_out": False,
        "truncated": True,
        "duration_ms": 12,
    }
    assert (second["outcome"], second["timed_out"], second["exit_code"]) == ("timeout", True, None)
    assert (third["outcome"], third["exit_code"]) == ("not_run", None)


async def test_an_invalid_call_is_answered_with_its_error(store: LocalStore) -> None:
    [native] = await rendered(store, ToolResult(call_id="c", call_kind="shell_call", error="no commands"))
    [function] = await rendered(store, ToolResult(call_id="c", call_kind="function_call", error="no commands"))
    [output] = native["output"]
    assert output["outcome"] == {"type": "exit", "exit_code": 254}
    assert output["stderr"] == "[hibernaut] no commands\n"
    assert json.loads(function["output"]) == {"error": "no commands"}


async def test_outcomes_without_a_record_are_enough(store: LocalStore) -> None:
    outcomes = tuple(
        CommandOutcome(exec_id=f"e-i{index}", command="ls", kind=OutcomeKind.NOT_RUN) for index in range(2)
    )
    [item] = await rendered(store, ToolResult(call_id="c", call_kind="shell_call", outcomes=outcomes))
    assert [output["outcome"]["exit_code"] for output in item["output"]] == [253, 253]


async def test_a_result_of_nothing_is_refused(store: LocalStore) -> None:
    with pytest.raises(TranscriptDamaged, match="'c'"):
        await rendered(store, ToolResult(call_id="c", call_kind="shell_call"))


@pytest.mark.parametrize("data", [None, b"", b"[]", b'{"format": "hibernaut-exec/9"}', b"\xff"])
async def test_a_damaged_record_is_said_so(store: LocalStore, data: bytes | None) -> None:
    if data is not None:
        await store.put("agents/u/exec/e.json", data)
    with pytest.raises(TranscriptDamaged, match=r"exec/e\.json"):
        await rendered(store, ToolResult(call_id="c", call_kind="shell_call", record_ref="agents/u/exec/e.json"))


def test_short_output_is_shown_whole() -> None:
    assert head_tail(b"hello", b"", 5, limit=5) == ("hello", False)
    assert head_tail(b"hel", b"lo", 5, limit=5) == ("hello", False)
    assert head_tail(b"hello", b"hello", 5, limit=5) == ("hello", False)
    assert head_tail(b"", b"", 0, limit=5) == ("", False)


def test_long_output_keeps_head_and_tail() -> None:
    assert head_tail(b"0123456789", b"", 10, limit=4) == ("01\n[... 6 bytes left out ...]\n89", True)
    assert head_tail(b"0123", b"6789", 1000, limit=4) == ("01\n[... 996 bytes left out ...]\n89", True)


def test_a_cut_within_a_character_shows_no_half_of_it() -> None:
    text = "ä" * 10
    raw = text.encode()
    assert head_tail(raw[:7], raw[-7:], len(raw), limit=4) == ("ää\n[... 12 bytes left out ...]\nää", True)


def test_a_tail_that_starts_within_a_character_drops_that_half() -> None:
    raw = ("ä" * 10).encode()
    assert head_tail(raw[:5], raw[-3:], len(raw), limit=4) == ("ää\n[... 14 bytes left out ...]\nä", True)


def test_bytes_that_are_no_text_are_shown_as_replacements() -> None:
    assert head_tail(b"a\xff\0b", b"", 4, limit=10) == ("a\ufffd\ufffdb", False)


@given(chunks=st.lists(st.binary(max_size=60), max_size=30), limit=st.integers(1, 40))
def test_a_window_shows_the_same_as_the_whole_stream(chunks: list[bytes], limit: int) -> None:
    window = OutputWindow(limit)
    for chunk in chunks:
        window.feed(chunk)
    whole = b"".join(chunks)
    assert window.total == len(whole)
    text, truncated = window.render()
    text.encode()
    assert "\0" not in text
    decoded = whole.decode("utf-8", "surrogateescape")
    assert truncated == (len(decoded) > limit)
    if truncated:
        head = (
            decoded[: limit // 2].encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "\ufffd")
        )
        assert text.startswith(f"{head}\n[... ")


@given(text=st.text(max_size=200), limit=st.integers(1, 40))
def test_text_loses_only_what_the_line_says(text: str, limit: int) -> None:
    window = OutputWindow(limit)
    raw = text.encode()
    for at in range(0, len(raw), 3):
        window.feed(raw[at : at + 3])
    shown, truncated = window.render()
    if not truncated:
        assert shown == text.replace("\0", "\ufffd")
        return
    head, tail = text[: limit // 2], text[len(text) - (limit - limit // 2) :]
    left_out = len(raw) - len(head.encode()) - len(tail.encode())
    assert shown == f"{head}\n[... {left_out} bytes left out ...]\n{tail}".replace("\0", "\ufffd")
