"""A host's audit chain: every fact of its spool and every line of its egress log is in the store once."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import JsonValue

from activities.adapters import audit_spool
from activities.adapters.audit_spool import AuditSpool
from activities.adapters.egress_tail import EgressTail
from activities.egress.journal import EgressLog
from activities.errors import StoreUnavailable
from activities.host_chain import BATCH, HostChain
from hibernaut._audit_chain import host_chain
from hibernaut._audit_verify import verify
from tests.support.audited_host import HOST, World, event


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    one = World(tmp_path)
    yield one
    await one.store.close()


async def test_facts_and_decisions_become_lines(world: World) -> None:
    world.spool.note("sandbox.created", sandbox_id="b" * 64, generation=1)
    log = EgressLog(world.log)
    log(event(1))
    await world.ship()
    created, decided = await world.lines()
    assert (created.kind, created.facts["generation"]) == ("sandbox.created", 1)
    assert (decided.kind, decided.facts["host"], decided.facts["allowed"]) == ("egress.decided", "example.org", False)
    assert decided.facts["tenant"] == {
        "agent_id": "weekly", "agent_uid": "a" * 32, "generation": 1, "sandbox_id": "b" * 64,
    }  # fmt: skip
    assert await world.chain.ship() is None, "nothing is written twice"
    log.close()


async def test_no_decision_is_lost_or_told_twice_when_the_log_is_rotated(world: World) -> None:
    log = EgressLog(world.log, max_bytes=900)
    for number in range(40):
        log(event(number))
        if number % 7 == 0:
            await world.ship()
    await world.ship()
    assert [line.facts["connection"] for line in await world.lines()] == list(range(40))
    log.close()


async def test_decisions_that_were_rotated_away_unread_are_told_as_lost(world: World) -> None:
    log = EgressLog(world.log, max_bytes=300)
    log(event(0))
    await world.ship()
    for number in range(1, 60):
        log(event(number))
    await world.ship()
    kinds = Counter(line.kind for line in await world.lines())
    assert kinds["egress.lost"] == 1
    assert 2 <= kinds["egress.decided"] < 60
    log.close()


@pytest.mark.parametrize("hostile", [b"", b"[]", b"[" * 5_000, b"\xff\xfe", b'{"kind":"closed"}', b"x" * 200_000])
async def test_what_is_no_decision_is_told_as_damage(world: World, hostile: bytes) -> None:
    (world.log / "egress.jsonl").write_bytes(hostile + b"\n")
    await world.ship()
    assert {line.kind for line in await world.lines()} == {"egress.damaged"}


async def test_a_link_in_the_proxys_folder_leads_nowhere(world: World, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"kind":"decided","host":"secret"}\n')
    (world.log / "egress.jsonl").symlink_to(tmp_path / "secret")
    await world.ship()
    assert await world.lines() == []


async def test_a_line_that_was_cut_by_a_crash_is_told_as_damage(world: World) -> None:
    world.spool.note("one")
    with (world.home / "notes-00000001.jsonl").open("ab") as file:
        file.write(b'{"at":"2026-01-')
    await world.ship()
    assert [line.kind for line in await world.lines()] == ["one"], "what has no end may get one"
    world.spool.note("two")
    await world.ship()
    assert [line.kind for line in await world.lines()] == ["one", "spool.damaged", "two"]


async def test_files_of_the_spool_go_when_they_are_shipped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_spool, "MAX_BYTES", 500)
    for number in range(30):
        world.spool.note("fact", number=number)
    assert len(list(world.home.glob("notes-*"))) > 3
    await world.ship()
    await world.ship()
    assert len(list(world.home.glob("notes-*"))) == 1
    assert [line.facts["number"] for line in await world.lines()] == list(range(30))


async def test_a_part_has_a_bounded_number_of_lines(world: World) -> None:
    for number in range(BATCH + 3):
        world.spool.note("fact", number=number)
    await world.ship()
    assert [part.text.count("\n") for part in await world.parts()] == [BATCH, 3]


async def test_facts_that_cannot_be_kept_are_refused(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("a file where the folder is to be")
    with pytest.raises(OSError, match="audit"):
        AuditSpool(tmp_path / "audit").note("fact")
    many: list[JsonValue] = ["\u00e4" * 512] * 100
    with pytest.raises(OSError, match="longer"):
        AuditSpool(tmp_path / "spool").note("fact", texts=many)


async def test_many_writers_at_once_lose_nothing(world: World) -> None:
    def write(writer: int) -> None:
        for number in range(20):
            AuditSpool(world.home).note("fact", writer=writer, number=number)

    await asyncio.gather(*(asyncio.to_thread(write, writer) for writer in range(4)))
    await world.ship()
    told = Counter((line.facts["writer"], line.facts["number"]) for line in await world.lines())
    assert set(told.values()) == {1}
    assert len(told) == 80


async def test_one_process_ships_at_a_time(world: World) -> None:
    other = HostChain(HOST, world.store, world.spool, EgressTail(world.log))
    assert world.chain.take()
    assert not other.take()
    world.chain.leave()
    assert other.take()
    other.leave()


async def test_a_host_that_lost_its_disk_goes_on_where_the_store_ends(world: World) -> None:
    world.spool.note("before")
    head = await world.ship()
    shutil.rmtree(world.home)
    world.begin()
    world.spool.note("after")
    await world.ship(head)
    assert [line.kind for line in await world.lines()] == ["before", "chain.resumed", "after"]


async def test_a_host_whose_disk_is_an_older_one_goes_on_where_the_chain_ends(world: World, tmp_path: Path) -> None:
    world.spool.note("before")
    await world.ship()
    shutil.copytree(world.home, tmp_path / "backup")
    world.spool.note("after the backup")
    head = await world.ship()
    world.chain.leave()
    shutil.rmtree(world.home)
    (tmp_path / "backup").rename(world.home)
    world.begin()
    world.spool.note("restored")
    await world.ship(head)
    lines = await world.lines()
    assert [line.kind for line in lines] == ["before", "after the backup", "chain.resumed", "restored"]
    assert lines[2].facts == {"reason": "the host's own record is older than its chain", "anchored": 2, "found": 2}


async def test_a_resumed_chain_says_so_though_the_first_try_to_write_it_failed(world: World) -> None:
    world.spool.note("before")
    head = await world.ship()
    shutil.rmtree(world.home)
    world.begin()
    world.spool.note("after")
    for _ in range(2):
        world.store.fault = "down"
        with pytest.raises(StoreUnavailable):
            await world.ship(head)
    await world.ship(head)
    assert [line.kind for line in await world.lines()] == ["before", "chain.resumed", "after"]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "now", None, [1]])
async def test_no_time_that_a_proxy_tells_keeps_the_chain_from_going_on(world: World, at: object) -> None:
    line = json.dumps({"at": at, "kind": "decided", "host": "\ud800\0\n", "port": 10**4000, "share": float("nan")})
    (world.log / "egress.jsonl").write_text(line + "\n", encoding="ascii")
    await world.ship()
    world.spool.note("after")
    await world.ship()
    assert [line.kind for line in await world.lines()] == ["egress.decided", "after"]


async def test_a_fact_with_too_much_to_tell_is_cut_and_told(world: World) -> None:
    world.spool.note("sandbox.destroyed", remnants=[f"files: /tmp/{number:0500d}" for number in range(1_000)])
    await world.ship()
    (line,) = await world.lines()
    assert isinstance(line.facts["remnants"], list)
    assert len(line.facts["remnants"]) == 100


async def test_a_chain_whose_end_was_cut_is_not_begun_anew(world: World) -> None:
    world.spool.note("one")
    head = await world.ship()
    await world.store.delete([info.key async for info in world.store.list("audit/")])
    shutil.rmtree(world.home)
    world.begin()
    after = await world.ship(head)
    report = verify(host_chain(HOST), await world.parts(), after)
    assert report.problem is not None
    assert (report.problem.trouble, report.problem.seq) == ("gap", 1), "the cut shows for ever"


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["note", "decide", "ship", "down", "lost", "restart"]), max_size=25))
async def test_whatever_fails_each_fact_is_told_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    world = World(tmp_path_factory.mktemp("host"))
    log, told = EgressLog(world.log, max_bytes=600), 0
    for number, step in enumerate(steps):
        match step:
            case "note":
                world.spool.note("fact", number=number)
                told += 1
            case "decide":
                log(event(number))
                told += 1
            case "restart":
                world.begin()
            case _:
                world.store.fault = None if step == "ship" else step
                try:
                    await world.ship()
                except StoreUnavailable:
                    continue
    world.store.fault = None
    await world.ship()
    lines = await world.lines()
    numbers = [line.facts.get("number", line.facts.get("connection")) for line in lines]
    assert len(numbers) == len(set(map(json.dumps, numbers))) == told
    log.close()
    await world.store.close()
