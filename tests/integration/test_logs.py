"""Command output through the gateway and the SDK: real HTTP, real workflow, real store; the shell pretends."""

import asyncio

import httpx2
import pytest

from activities.records import ExecutedCommand
from hibernaut import errors
from hibernaut.agent import AgentHandle
from hibernaut.contracts import StoreKeys
from hibernaut.models import LogChunk, LogEnd, LogEntry, LogStart, OutcomeKind
from tests.integration.gateway_world import World, body
from tests.support.pretended_shell import EARLY, LATE, LIVE, PretendedShell, pattern

FIRST = "b0-s0-c0-i0"


@pytest.fixture(autouse=True)
def shell(world: World) -> PretendedShell:
    world.script.on_exec = shell = PretendedShell(world.store)
    return shell


async def output(world: World, agent: AgentHandle, rest: str) -> httpx2.Response:
    return await world.http.get(f"/v1/agents/{agent.id}/exec/{rest}")


def written(entries: list[LogEntry], stream: str = "stdout") -> bytes:
    chunks = [entry for entry in entries if isinstance(entry, LogChunk) and entry.stream == stream]
    at = 0
    for chunk in chunks:
        assert chunk.offset == at
        at += len(chunk.data)
    data = b"".join(chunk.data for chunk in chunks)
    assert "".join(chunk.text for chunk in chunks) == data.decode("utf-8", "replace")
    return data


async def test_chunks_are_served_as_one_stream(world: World, agent: AgentHandle) -> None:
    await agent.send("run bytes 1000003")
    whole = pattern(1_000_003)
    answer = await output(world, agent, f"{FIRST}/stdout")
    assert (answer.status_code, answer.content == whole) == (200, True)
    assert answer.headers["x-hibernaut-complete"] == "true"
    assert answer.headers["content-length"] == "1000003"
    for start in (1, 99_999, 100_000, 100_001, 1_000_002, 1_000_003, 5_000_000):
        part = await output(world, agent, f"{FIRST}/stdout?from={start}")
        assert part.content == whole[start:], start
        assert part.headers["x-hibernaut-size"] == "1000003"
    assert (await output(world, agent, f"{FIRST}/stderr")).content == b""


async def test_output_that_was_shown_whole_comes_from_the_record(world: World, agent: AgentHandle) -> None:
    await agent.send("run print 'ä b' oops")
    assert (await output(world, agent, f"{FIRST}/stdout")).text == "ä b\n"
    assert (await output(world, agent, f"{FIRST}/stdout?from=2")).text == " b\n"
    assert (await output(world, agent, f"{FIRST}/stderr")).text == "oops\n"
    command = body(await output(world, agent, FIRST), 200)
    assert (command["command"], command["outcome"]["exit_code"]) == ("print 'ä b' oops", 3)
    assert body(await output(world, agent, "b0-s0-c0"), 200)["format"] == "hibernaut-exec/1"


@pytest.mark.parametrize(
    ("rest", "status", "code"),
    [
        ("b0-s0-c0-i7/stdout", 404, "output_not_found"),
        ("b0-s9-c0-i0/stdout", 404, "output_not_found"),
        ("b0-s9-c0-i0", 404, "output_not_found"),
        ("b0-s9-c0", 404, "output_not_found"),
        ("b0-s0-c0/stdout", 404, "output_not_found"),
        (f"{FIRST}/other", 422, "invalid_request"),
        (f"{FIRST}/stdout?from=-1", 422, "invalid_request"),
        (f"{FIRST}/stdout?from=x", 422, "invalid_request"),
        (".../stdout", 422, "invalid_request"),
        ("..%2f..%2fx/stdout", 404, "no_route"),
    ],
)
async def test_what_cannot_be_read_is_a_problem(
    world: World, agent: AgentHandle, rest: str, status: int, code: str
) -> None:
    await agent.send("run print x")
    assert body(await output(world, agent, rest), status)["code"] == code


async def test_pieces_that_overlap_are_told_once(world: World, agent: AgentHandle, shell: PretendedShell) -> None:
    uid = (await agent.status()).agent_uid
    done = ExecutedCommand(exec_id="b0-s5-c0-i0", command="c", kind=OutcomeKind.EXIT, exit_code=0, stdout_bytes=9)
    await shell.record(uid, "b0-s5-c0", [done])
    for at, content in ((0, b"abcd"), (2, b"cde"), (3, b"d"), (5, b"fghi")):
        await shell.chunks(uid, done.exec_id, "stdout", content, at=at)
    for start in range(10):
        assert (await output(world, agent, f"{done.exec_id}/stdout?from={start}")).content == b"abcdefghi"[start:]


@pytest.mark.parametrize(
    ("offsets", "told"),
    [
        ([0, 200], "the bytes from 100 to 200 are missing"),
        ([0, 100], "the bytes from 200 to 300 are missing"),
        ([100, 200], "the bytes from 0 to 100 are missing"),
        ([], "of its 300 bytes the store has only what the model was shown"),
    ],
)
async def test_output_that_is_not_whole_is_a_problem(
    world: World, agent: AgentHandle, shell: PretendedShell, offsets: list[int], told: str
) -> None:
    uid = (await agent.status()).agent_uid
    done = ExecutedCommand(exec_id="b0-s5-c0-i0", command="c", kind=OutcomeKind.EXIT, exit_code=0, stdout_bytes=300)
    await shell.record(uid, "b0-s5-c0", [done])
    for at in offsets:
        await shell.chunks(uid, done.exec_id, "stdout", b"x" * 100, at=at)
    problem = body(await output(world, agent, f"{done.exec_id}/stdout"), 404)
    assert problem["code"] == "output_not_found"
    assert told in problem["message"]
    with pytest.raises(errors.OutputMissing, match="not whole"):
        _ = [entry async for entry in agent.logs(done.exec_id)]


async def test_the_newest_commands_are_listed(world: World, agent: AgentHandle) -> None:
    empty = body(await world.http.get(f"/v1/agents/{agent.id}/exec"), 200)
    assert empty["commands"] == []
    for number in range(12):
        await agent.send(f"run print {number} && print again{number}")
        if number % 5 == 4:
            # Going to sleep writes the events to the store and keeps the tail alone.
            await agent.hibernate(timeout=20)
    await agent.close(timeout=20)
    for limit in (1, 5, 24, 100):
        listed = body(await world.http.get(f"/v1/agents/{agent.id}/exec?limit={limit}"), 200)
        every = [word for number in range(12) for word in (f"print {number}", f"print again{number}")]
        assert [one["command"] for one in listed["commands"]] == every[-limit:]
    assert listed["last_event"] == (await agent.status()).last_event
    assert body(await world.http.get(f"/v1/agents/{agent.id}/exec?limit=1001"), 422)["code"] == "invalid_request"
    for tail in (3, None):
        entries = [entry async for entry in agent.logs(tail=tail)]
        commands = every[-tail:] if tail else every
        assert [entry.command for entry in entries if isinstance(entry, LogStart)] == commands
        assert [entry.outcome.command for entry in entries if isinstance(entry, LogEnd)] == commands


async def test_one_command_is_followed_while_it_runs(world: World, agent: AgentHandle, shell: PretendedShell) -> None:
    ticket = await agent.post("run slow")
    async with asyncio.timeout(30):
        while (await agent.status()).exec_prefix is None:
            await asyncio.sleep(0.05)
        entries: list[LogEntry] = []
        async for entry in agent.logs(FIRST, follow=True):
            entries.append(entry)  # seen as they come
            if written(entries) == EARLY + LIVE and not shell.gate.is_set():
                early = await output(world, agent, f"{FIRST}/stdout")
                assert (early.content, early.headers["x-hibernaut-complete"]) == (EARLY, "false")
                nothing = await output(world, agent, f"{FIRST}/stderr")
                assert (nothing.content, nothing.headers["x-hibernaut-complete"]) == (b"", "false")
                listed = body(await world.http.get(f"/v1/agents/{agent.id}/exec"), 200)["commands"]
                assert [(one["exec_id"], one["outcome"]) for one in listed] == [(FIRST, None)]
                so_far = [one async for one in agent.logs(FIRST)]
                assert written(so_far) == EARLY + LIVE
                assert not any(isinstance(one, LogEnd) for one in so_far)
                shell.gate.set()
    assert isinstance(entries[0], LogStart)
    assert isinstance(entries[-1], LogEnd)
    assert written(entries) == EARLY + LIVE + LATE
    await agent.wait(ticket.message_id, timeout=20)


async def test_an_agent_is_followed_until_it_is_closed(agent: AgentHandle, shell: PretendedShell) -> None:
    await agent.send("run print one")
    entries: list[LogEntry] = []

    async def follow() -> None:
        async for entry in agent.logs(follow=True, tail=0):
            entries.append(entry)  # noqa: PERF401  # seen as they come

    following = asyncio.create_task(follow())
    async with asyncio.timeout(40):
        await agent.post("run print two err && slow")
        while not any(isinstance(entry, LogChunk) and b"live" in entry.data for entry in entries):
            await asyncio.sleep(0.05)
        shell.gate.set()
        await agent.send("run print three && bytes 300000")
        await agent.close(timeout=20)
        await following
    told = [entry.exec_id for entry in entries if isinstance(entry, LogEnd)]
    assert told == ["b0-s2-c0-i0", "b0-s2-c0-i1", "b0-s4-c0-i0", "b0-s4-c0-i1"]
    assert written([entry for entry in entries if entry.exec_id == "b0-s2-c0-i1"]) == EARLY + LIVE + LATE
    assert written([entry for entry in entries if entry.exec_id == "b0-s2-c0-i0"], "stderr") == b"err\n"
    assert written([entry for entry in entries if entry.exec_id == "b0-s4-c0-i1"]) == pattern(300_000)


async def test_a_command_whose_output_is_not_whole_spoils_no_listing(world: World, agent: AgentHandle) -> None:
    await agent.send("run bytes 300000 && print fine")
    uid = (await agent.status()).agent_uid
    await world.store.delete([StoreKeys.exec_chunk(uid, FIRST, "stdout", 100_000)])
    ends = [entry async for entry in agent.logs() if isinstance(entry, LogEnd)]
    assert ["100,000 to 200,000" in end.missing for end in ends] == [True, False]
