"""`hibernaut audit show|verify|export` as a process of its own, on a real workflow; the store is damaged each way."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hibernaut import AgentSpec
from hibernaut._audit_chain import Note, agent_chain, part_name, write
from hibernaut.agent import AgentHandle
from hibernaut.contracts import StoreKeys
from hibernaut.models.audit import AuditHead
from tests.integration.command_line import Shell
from tests.integration.gateway_world import World, on_record
from tests.support.pretended_shell import PretendedShell

WORDS = "words-of-an-agent"


@pytest.fixture
def cli(world: World, tmp_path: Path) -> Shell:
    world.script.on_exec = PretendedShell(world.store)
    return Shell(world, tmp_path)


async def lived(cli: Shell) -> tuple[AgentHandle, str]:
    """An agent with a part of its chain for each of two turns, and its uid."""
    agent = await cli.world.agents.start(cli.name, AgentSpec(model="scripted"))
    for turn in range(2):
        await agent.send(f"run print {WORDS} && print {turn} oops")
        await agent.hibernate()
        await on_record(agent)
    return agent, (await agent.status()).agent_uid


async def objects(cli: Shell, uid: str) -> dict[str, bytes]:
    """The parts of a chain by their keys."""
    keys = [info.key async for info in cli.world.store.list(StoreKeys.agent_audit(uid))]
    return {key: await cli.world.store.get(key) for key in keys}


async def test_what_an_agent_did_is_shown_and_exported_without_its_words(cli: Shell, tmp_path: Path) -> None:
    _, uid = await lived(cli)
    told = await cli("audit", "show", cli.name, "-o", "json", "-n", "1000")
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert told.code == 0
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert (lines[0]["kind"], lines[0]["facts"]["agent_id"]) == ("agent.started", cli.name)
    assert {"message.accepted", "exec", "sandbox.acquired", "agent.hibernated"} <= {line["kind"] for line in lines}
    stored = b"".join((await objects(cli, uid)).values())
    assert WORDS.encode() not in stored
    only = await cli("audit", "show", cli.name, "--kind", "exec", "-n", "1")
    assert (only.code, len(only.out.splitlines()), " exec " in only.out) == (0, 1, True)
    later = await cli("audit", "show", cli.name, "--since", str(len(lines)), "-o", "json")
    assert len(later.out.splitlines()) == 1
    file = tmp_path / "chain.jsonl"
    assert (await cli("audit", "export", cli.name, "-o", str(file))).code == 0
    assert file.read_bytes() == stored
    again = await cli("audit", "export", cli.name, "-o", str(file))
    assert (again.code, "exists already" in again.err) == (2, True)


async def test_a_sound_chain_ends_with_0(cli: Shell) -> None:
    agent, uid = await lived(cli)
    done = await cli("audit", "verify", cli.name)
    assert done.code == 0, done.out
    assert done.out.startswith(f"agent:{uid} ({cli.name}): sound, ")
    assert "its end is anchored" in done.out
    await agent.close()
    body = json.loads((await cli("audit", "verify", uid, "-o", "json")).out)
    assert (body["sound"], body["anchored"], body["chain"]) == (True, True, f"agent:{uid}"), "a closed agent answers"


async def _gap(cli: Shell, keys: list[str]) -> None:
    await cli.world.store.delete([keys[0]])


async def _edit(cli: Shell, keys: list[str]) -> None:
    data = await cli.world.store.get(keys[0])
    assert b'"exit_code":3' in data
    await cli.world.store.put(keys[0], data.replace(b'"exit_code":3', b'"exit_code":0', 1))


async def _reorder(cli: Shell, keys: list[str]) -> None:
    lines = (await cli.world.store.get(keys[0])).splitlines(keepends=True)
    lines[1], lines[2] = lines[2], lines[1]
    await cli.world.store.put(keys[0], b"".join(lines))


async def _cut(cli: Shell, keys: list[str]) -> None:
    await cli.world.store.delete([keys[-1]])


async def _forge(cli: Shell, keys: list[str]) -> None:
    folder = keys[0].rpartition("/")[0]
    chain = json.loads((await cli.world.store.get(keys[0])).splitlines()[0])["chain"]
    text, head = write(chain, AuditHead(), [Note(datetime.now(UTC), "approval.decided", {"by": "nobody"}, {})])
    await cli.world.store.put(f"{folder}/{part_name(1, head)}", text.encode())


async def _repeat(cli: Shell, keys: list[str]) -> None:
    folder = keys[0].rpartition("/")[0]
    await cli.world.store.put(f"{folder}/{9_999:016d}-{'0' * 32}.jsonl", await cli.world.store.get(keys[0]))


DAMAGE: dict[str, Callable[[Shell, list[str]], Awaitable[None]]] = {
    "gap": _gap,
    "edited": _edit,
    "reordered": _reorder,
    "truncated": _cut,
    "foreign": _forge,
    "duplicate": _repeat,
}


async def test_each_damage_is_named_and_ends_with_1(cli: Shell) -> None:
    _, uid = await lived(cli)
    whole = await objects(cli, uid)
    for trouble, damage in DAMAGE.items():
        await damage(cli, list(whole))
        done = await cli("audit", "verify", cli.name, "-o", "json")
        body = json.loads(done.out)
        assert (done.code, body["sound"], body["problem"]["trouble"]) == (1, False, trouble)
        await cli.world.store.delete((await objects(cli, uid)).keys() - whole.keys())
        for key, data in whole.items():
            await cli.world.store.put(key, data)
    assert (await cli("audit", "verify", cli.name)).code == 0, "what was damaged was the store"
    await cli.world.store.delete(whole)
    told = json.loads((await cli("audit", "verify", "--all", "-o", "json")).out)
    (one,) = [one for one in told["chains"] if one["chain"] == f"agent:{uid}"]
    assert one["problem"]["trouble"] == "truncated", "no object of it is left, and its workflow knows that there were"


async def test_a_live_agents_chain_is_not_forged_by_telling_another_name_in_it(cli: Shell) -> None:
    agent, uid = await lived(cli)
    await cli.world.store.delete(await objects(cli, uid))
    notes = [
        Note(datetime.now(UTC), "agent.started", {"agent_id": "nobody"}, {}),
        Note(datetime.now(UTC), "agent.closed", {}, {}),
    ]
    text, head = write(agent_chain(uid), AuditHead(), notes)
    await cli.world.store.put(StoreKeys.agent_audit(uid) + part_name(1, head), text.encode())
    body = json.loads((await cli("audit", "verify", uid, "-o", "json")).out)
    assert (body["anchored"], body["problem"]["trouble"]) == (True, "truncated")
    await agent.close()


async def test_what_there_is_not_is_said(cli: Shell) -> None:
    unknown = await cli("audit", "verify", "0" * 32)
    assert (unknown.code, "no audit log" in unknown.err) == (3, True)
    missing = await cli("audit", "show", "nobody")
    assert (missing.code, "goes by its uid" in missing.err) == (3, True)
    for since in ("9" * 5_000, "yesterday"):
        wrong = await cli("audit", "show", "nobody", "--since", since)
        assert (wrong.code, "neither a number nor a time" in wrong.err) == (2, True)
    neither = await cli("audit", "verify")
    assert (neither.code, "--host ID" in neither.err) == (2, True)
