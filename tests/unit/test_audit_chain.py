"""The chain of an audit log: what is written is sound, and any single change of what is kept is found."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from hibernaut._audit_chain import BadLine, Note, agent_chain, canonical, part_name, read, write
from hibernaut._audit_verify import Part, Walk, verify
from hibernaut.models.audit import AuditHead, AuditTrouble

CHAIN = agent_chain("a" * 32)
BEGAN = datetime(2026, 1, 31, 12, tzinfo=UTC)


def chain(*sizes: int, name: str = CHAIN, closed: bool = False) -> tuple[list[Part], AuditHead]:
    """Sound parts of so many lines each, and the head that a workflow would know."""
    head, parts, total = AuditHead(), list[Part](), sum(sizes)
    for size in sizes:
        first = head.seq + 1
        notes = [
            Note(
                BEGAN + timedelta(seconds=seq),
                "agent.closed" if closed and seq == total else "exec",
                {"exec_id": f"x-{seq}", "exit_code": seq % 3, "agent_id": "weekly"},
                {"command": f"sha256:{seq:064x}"},
            )
            for seq in range(first, first + size)
        ]
        text, head = write(name, head, notes)
        parts.append(Part(part_name(first, head), text))
    return parts, head


def trouble(parts: list[Part], anchor: AuditHead | None, *, over: bool = False) -> tuple[AuditTrouble, int] | None:
    problem = verify(CHAIN, parts, anchor, over=over).problem
    return None if problem is None else (problem.trouble, problem.seq)


def test_what_was_written_is_sound() -> None:
    parts, head = chain(3, 1, 4)
    report = verify(CHAIN, list(reversed(parts)), head)
    assert (report.sound, report.lines, report.parts, report.agent_id) == (True, 8, 3, "weekly")
    assert report.head.hash == head.hash
    assert verify(CHAIN, [], AuditHead()).sound, "an agent that has done nothing has no lines"


def test_a_second_reader_needs_nothing_but_json_and_sha256() -> None:
    (part,), _ = chain(1)
    line = read(part.text.rstrip("\n"))
    body = line.model_dump(mode="json", exclude={"hash"})
    assert part.text.startswith(canonical(body)[:10])
    assert line.prev == "0" * 64


def test_facts_are_cut_to_what_a_line_may_hold() -> None:
    deep: dict[str, object] = {}
    for _ in range(50):
        deep = {"in": deep, "share": 0.5}
    facts = {"text": "x" * 10_000, "many": list(range(1_000)), "deep": deep}
    text, head = write(CHAIN, AuditHead(), [Note(BEGAN, "exec", facts, {})])  # pyright: ignore[reportArgumentType]  # JSON
    assert len(text) < 2_000
    assert verify(CHAIN, [Part(part_name(1, head), text)], head).sound


def test_a_missing_part_is_a_gap() -> None:
    parts, head = chain(2, 2, 2)
    assert trouble([parts[0], parts[2]], head) == (AuditTrouble.GAP, 3)
    assert trouble(parts[1:], head) == (AuditTrouble.GAP, 1)


def test_a_missing_end_is_found_by_the_anchor() -> None:
    parts, head = chain(2, 2, 2)
    assert trouble(parts[:2], head) == (AuditTrouble.TRUNCATED, 5)
    assert trouble([], head) == (AuditTrouble.TRUNCATED, 1)


def test_a_missing_end_of_an_agent_that_is_gone_is_found_by_its_last_line() -> None:
    parts, _ = chain(2, 2, closed=True)
    assert trouble(parts, None, over=True) is None
    assert trouble(parts[:1], None, over=True) == (AuditTrouble.TRUNCATED, 3)
    assert trouble([], None, over=True) == (AuditTrouble.TRUNCATED, 1)


def test_what_came_in_while_an_agent_closed_does_not_make_its_chain_look_cut() -> None:
    parts, head = chain(2, 2, closed=True)
    text, last = write(CHAIN, head, [Note(BEGAN, "message.rejected", {}, {})])
    parts.append(Part(part_name(5, last), text))
    assert trouble(parts, None, over=True) is None
    assert walked(parts).report(None, over=True).sound


def walked(parts: list[Part]) -> Walk:
    walk = Walk(CHAIN)
    assert all(walk.take(part) for part in parts)
    return walk


def test_a_walk_says_of_a_sound_chain_what_the_verification_of_all_its_lines_says() -> None:
    parts, head = chain(3, 1, 4)
    walk = walked(parts)
    middle = AuditHead(seq=3, hash=read(parts[0].text.splitlines()[2]).hash)
    for anchor in (None, head, middle, AuditHead(), AuditHead(seq=9, hash="f" * 64), AuditHead(seq=8, hash="f" * 64)):
        for over in (False, True):
            assert walk.report(anchor, over=over) == verify(CHAIN, parts, anchor, over=over)
    assert Walk(CHAIN).report(AuditHead()) == verify(CHAIN, [], AuditHead())


def test_lines_that_came_while_a_chain_was_read_wait_for_their_anchor_and_those_before_do_not() -> None:
    parts, head = chain(2, 2)
    known = AuditHead(seq=2, hash=read(parts[0].text.splitlines()[1]).hash)
    report = walked(parts).report(known, seen=2)
    assert (report.sound, report.lines, report.head) == (True, 2, known)
    added = walked(parts).report(known, seen=4).problem
    assert added is not None
    assert added.trouble == AuditTrouble.FOREIGN
    assert walked(parts).report(AuditHead(seq=2, hash="f" * 64), seen=2).problem is not None
    assert walked(parts).report(head, seen=2).lines == 4


def test_an_edited_line_is_found() -> None:
    parts, head = chain(2, 2)
    edited = replace(parts[0], text=parts[0].text.replace('"exit_code":2', '"exit_code":0'))
    assert edited != parts[0]
    assert trouble([edited, parts[1]], head) == (AuditTrouble.EDITED, 2)


def test_a_chain_that_was_written_anew_from_a_line_on_is_found() -> None:
    parts, head = chain(2, 2)
    line = read(parts[1].text.splitlines()[0])
    notes = [Note(line.at, "exec", {"exec_id": "another"}, {}) for _ in range(2)]
    begun = AuditHead(seq=2, hash=line.prev)
    text, forged = write(CHAIN, begun, notes)
    assert trouble([parts[0], Part(part_name(3, forged), text)], head) == (AuditTrouble.EDITED, 4)


def test_lines_in_another_order_are_found() -> None:
    parts, head = chain(3)
    one, two, three = parts[0].text.splitlines()
    shuffled = Part(parts[0].name, f"{two}\n{one}\n{three}\n")
    assert trouble([shuffled], head) == (AuditTrouble.REORDERED, 1)


def test_parts_that_took_each_others_place_are_found() -> None:
    parts, head = chain(2, 2)
    swapped = [Part(parts[0].name, parts[1].text), Part(parts[1].name, parts[0].text)]
    assert trouble(swapped, head) == (AuditTrouble.REORDERED, 1)


def test_a_part_that_is_there_twice_is_found() -> None:
    parts, head = chain(2, 2)
    copy = replace(parts[0], name=f"{9:016d}-{'f' * 32}.jsonl")
    assert trouble([*parts, copy], head) == (AuditTrouble.DUPLICATE, 1)


@pytest.mark.parametrize("digit", ["0", "f"], ids=["read-first", "read-last"])
def test_a_foreign_part_is_found_wherever_it_is_read(digit: str) -> None:
    parts, head = chain(2, 2)
    line = read(parts[1].text.splitlines()[0])
    text, forged = write(CHAIN, AuditHead(seq=2, hash=line.prev), [Note(line.at, "exec", {"exec_id": digit}, {})])
    name = f"{3:016d}-{digit * 32}.jsonl"
    assert trouble([*parts, Part(name, text)], head) == (AuditTrouble.FOREIGN, 3)
    assert forged.seq == 3


def test_a_part_of_another_chain_is_foreign() -> None:
    parts, head = chain(2)
    others, _ = chain(2, name=agent_chain("b" * 32))
    assert trouble([*parts, *others], head) == (AuditTrouble.FOREIGN, 1)


def test_what_is_added_behind_the_head_is_foreign() -> None:
    parts, head = chain(2)
    text, more = write(CHAIN, head, [Note(BEGAN, "exec", {}, {})])
    assert trouble([*parts, Part(part_name(3, more), text)], head) == (AuditTrouble.FOREIGN, 3)


def test_something_that_is_no_part_is_found() -> None:
    parts, head = chain(2)
    for text in ("", "\n", "hello", "[" * 100_000, '{"a":1}\n', "null\n"):
        assert trouble([*parts, Part("note.txt", text)], head) == (AuditTrouble.EDITED, 3), text[:20]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00.000000+23:59", "2026-01-31T12:00:00.000000+00:00", "1", None])
def test_a_time_that_is_not_written_our_way_is_no_line(at: str | None) -> None:
    text, _ = write(CHAIN, AuditHead(), [Note(BEGAN, "exec", {}, {})])
    body = json.loads(text) | {"at": at}
    del body["hash"]
    whole = canonical(body | {"hash": hashlib.sha256(canonical(body).encode()).hexdigest()})
    with pytest.raises(BadLine):
        read(whole)


def test_a_gap_that_an_older_build_left_is_told_and_no_problem() -> None:
    text, head = write(CHAIN, AuditHead(), [Note(BEGAN, "chain.gap", {"from_event": 1, "to_event": 7}, {})])
    report = verify(CHAIN, [Part(part_name(1, head), text)], head)
    assert report.sound
    assert report.notes == ("line 1: a build without an audit log wrote the events 1 to 7",)


PARTS, HEAD = chain(2, 3, 1, 2)
WHOLE = [(part.name, part.text.encode()) for part in PARTS]


def stored(objects: list[tuple[str, bytes]]) -> list[Part]:
    return [Part(name, data.decode("utf-8", "replace")) for name, data in objects]


def found(parts: list[Part]) -> None:
    """Both ways to read a chain find the damage."""
    assert trouble(parts, HEAD) is not None
    walk = Walk(CHAIN)
    sound = all(walk.take(part) for part in sorted(parts, key=lambda part: part.name))
    assert not sound or walk.report(HEAD).problem is not None


@given(st.integers(0, len(PARTS) - 1), st.data())
def test_any_single_change_of_a_byte_is_found(index: int, data: st.DataObject) -> None:
    objects = list(WHOLE)
    name, content = objects[index]
    place = data.draw(st.integers(0, len(content) - 1))
    how = data.draw(st.sampled_from(["replace", "remove", "insert"]))
    byte = bytes([data.draw(st.integers(0, 255).filter(lambda value: value != content[place]))])
    rest = place if how == "insert" else place + 1
    objects[index] = (name, content[:place] + (b"" if how == "remove" else byte) + content[rest:])
    found(stored(objects))


@given(st.data())
def test_any_single_change_of_lines_is_found(data: st.DataObject) -> None:
    lines = [text.splitlines(keepends=True) for _, text in WHOLE]
    places = [(part, place) for part, held in enumerate(lines) for place in range(len(held))]
    part, place = data.draw(st.sampled_from(places))
    other, there = data.draw(st.sampled_from(places).filter(lambda found: found != (part, place)))
    match data.draw(st.sampled_from(["remove", "repeat", "swap"])):
        case "remove":
            del lines[part][place]
        case "repeat":
            lines[other].insert(there, lines[part][place])
        case _:
            lines[part][place], lines[other][there] = lines[other][there], lines[part][place]
    changed = [(name, b"".join(held)) for (name, _), held in zip(WHOLE, lines, strict=True) if held]
    found(stored(changed))


@given(st.data())
def test_any_single_change_of_parts_is_found(data: st.DataObject) -> None:
    objects = list(WHOLE)
    how = data.draw(st.sampled_from(["remove", "rename", "copy", "swap"]))
    at = data.draw(st.integers(0, len(objects) - 1))
    other = data.draw(st.from_regex(r"[0-9]{16}-[0-9a-f]{32}\.jsonl", fullmatch=True))
    if how == "remove":
        del objects[at]
    elif how == "rename":
        objects[at] = (other, objects[at][1])
    elif how == "copy":
        objects.append((other, objects[at][1]))
    else:
        to = data.draw(st.integers(0, len(objects) - 1).filter(lambda value: value != at))
        objects[at], objects[to] = (objects[at][0], objects[to][1]), (objects[to][0], objects[at][1])
    found(stored(objects))
