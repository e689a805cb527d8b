"""`hibernaut snapshots verify|prune|collect|name` as a process of its own; the store of snapshots pretends."""

import asyncio
import json
import os
import pty
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.adapters.local_store import LocalStore
from activities.errors import SnapshotSealed, StoreUnavailable
from activities.ports.upkeep import Damage, Retention
from hibernaut import AgentSpec
from hibernaut.agent import AgentHandle
from tests.integration.command_line import Shell
from tests.integration.gateway_world import World, gateway_world
from tests.support.pretended_upkeep import NOTHING, PretendedUpkeep, ref, upkeep_activities
from tests.support.scripted_agents import Script, working


@pytest.fixture
def upkeep() -> PretendedUpkeep:
    return PretendedUpkeep()


@pytest.fixture
async def world(agents_server: WorkflowEnvironment, tmp_path: Path, upkeep: PretendedUpkeep) -> AsyncIterator[World]:
    script, client = Script(), agents_server.client
    (tmp_path / "upkeep").mkdir()
    store = LocalStore(tmp_path / "upkeep")
    script.more = upkeep_activities(upkeep, store, Retention(last=2))
    async with working(client, script), gateway_world(client, script, tmp_path / "store") as one:
        yield one


@pytest.fixture
def cli(world: World, tmp_path: Path) -> Shell:
    return Shell(world, tmp_path)


async def born(cli: Shell, upkeep: PretendedUpkeep, *numbers: int) -> tuple[AgentHandle, str]:
    """An agent with snapshots, and its uid."""
    agent = await cli.world.agents.start(cli.name, AgentSpec(model="scripted"))
    uid = (await agent.status()).agent_uid
    upkeep.snapshots[uid] = list(numbers)
    return agent, uid


async def test_what_is_sound_ends_with_0(cli: Shell, upkeep: PretendedUpkeep) -> None:
    agent, _ = await born(cli, upkeep, 1, 2)
    done = await cli("snapshots", "verify", cli.name)
    assert (done.code, done.err) == (0, "1 agent, 2 snapshots, 200 B read\n")
    head, row = (line.split() for line in done.out.splitlines())
    assert head == ["AGENT", "SNAPSHOTS", "PACKS", "READ", "RESULT"]
    assert row == [cli.name, "2", "2", "200", "B", "sound"]
    await agent.close()
    assert (await cli("snapshots", "verify", cli.name)).code == 0, "a closed agent has its snapshots"


async def test_damage_ends_with_1_and_names_what_is_affected(cli: Shell, upkeep: PretendedUpkeep) -> None:
    _, uid = await born(cli, upkeep, 1, 2, 3)
    upkeep.damage[uid] = (Damage(key="packs/x", kind="missing", detail="Gone.", snapshots=(ref(uid, 2), ref(uid, 3))),)
    done = await cli("snapshots", "verify", cli.name)
    assert done.code == 1
    assert "damaged: 2 of 3 snapshots lost" in done.out
    assert f"{cli.name}: snapshots that cannot be restored: 2-3\n" in done.out
    assert "  missing: packs/x (snapshots 2-3): Gone.\n" in done.out
    told = await cli("snapshots", "verify", "--all", "-o", "json")
    body = json.loads(told.out)
    assert (told.code, body["sound"], body["damaged"], body["losses"]) == (1, False, 1, 2)
    (one,) = [one for one in body["agents"] if one["agent_uid"] == uid]
    assert (one["agent_id"], one["lost"]) == (cli.name, [2, 3]), "the agent itself was asked for its name"
    assert body["images"]["images"] == 0


async def test_what_cannot_be_verified_is_an_error(cli: Shell, upkeep: PretendedUpkeep) -> None:
    _, uid = await born(cli, upkeep, 1)
    upkeep.failures[uid] = [SnapshotSealed("The key k1 is not known here.")]
    done = await cli("snapshots", "verify", cli.name, "-o", "json")
    assert (done.code, done.out) == (1, "")
    assert json.loads(done.err)["message"] == "The key k1 is not known here."


@pytest.mark.parametrize("verb", ["verify", "prune", "unname"])
async def test_an_agent_that_is_not_there_ends_with_3(cli: Shell, upkeep: PretendedUpkeep, verb: str) -> None:
    more = {"prune": ["--yes"], "unname": ["x"]}.get(verb, [])
    done = await cli("snapshots", verb, "nobody", *more)
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("error: There is no agent 'nobody'.")
    agent, _ = await born(cli, upkeep, 1)
    await agent.delete()


async def test_verify_wants_to_know_whom(cli: Shell) -> None:
    assert (await cli("snapshots", "verify")).code == 2
    assert (await cli("snapshots", "verify", "bob", "--all")).code == 2


async def test_a_plan_is_shown_and_nothing_done(cli: Shell, upkeep: PretendedUpkeep) -> None:
    _, uid = await born(cli, upkeep, 1, 2, 3, 4)
    done = await cli("snapshots", "prune", cli.name, "--keep-last", "1", "--dry-run")
    assert done.code == 0
    rows = [" ".join(line.split()) for line in done.out.splitlines()[1:]]
    assert rows == ["1-3 would be removed no rule keeps it", "4 kept among the last"]
    assert done.err == "3 snapshots would be removed, 1 kept; rules: last=1\n"
    refused = await cli("snapshots", "prune", cli.name)
    assert (refused.code, refused.err.startswith("error: Pruning cannot be undone")) == (2, True)
    assert upkeep.snapshots[uid] == [1, 2, 3, 4]


async def test_without_rules_the_workers_hold(cli: Shell, upkeep: PretendedUpkeep) -> None:
    _, uid = await born(cli, upkeep, 1, 2, 3, 4)
    done = await cli("snapshots", "prune", cli.name, "--yes", "-o", "json")
    body = json.loads(done.out)
    assert (done.code, body["removed"], body["keep"], body["dry_run"]) == (0, [1, 2], "last=2", False)
    assert body["audit_ref"].startswith("audit/")
    assert upkeep.snapshots[uid] == [3, 4]


async def test_on_a_terminal_it_asks(cli: Shell, upkeep: PretendedUpkeep) -> None:
    _, uid = await born(cli, upkeep, 1, 2, 3)
    for answer, code, left in ((b"n\n", 1, [1, 2, 3]), (b"y\n", 0, [2, 3])):
        master, slave = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hibernaut", "snapshots", "prune", cli.name),
            cwd=cli.folder,
            env=cli.env,
            stdin=slave,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        os.close(slave)
        os.write(master, answer)
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        os.close(master)
        assert f"Remove 1 snapshot of {cli.name}?" in err.decode()
        assert b"would be removed" in err
        assert (process.returncode, upkeep.snapshots[uid]) == (code, left)
        assert (b"removed" in out) == (code == 0)


async def test_a_collection_tells_what_it_gave_back(cli: Shell, upkeep: PretendedUpkeep) -> None:
    _, uid = await born(cli, upkeep, 1, 2, 3)
    upkeep.passes = [NOTHING.model_copy(update={"swept": 3, "bytes_swept": 2_000_000, "condemned": 1, "waiting": 1})]
    done = await cli("snapshots", "collect")
    assert done.code == 0
    assert done.out.splitlines()[0] == "deleted    3 packs, 2.0 MB"
    assert upkeep.snapshots[uid] == [1, 2, 3]
    body = json.loads((await cli("snapshots", "collect", "--prune", "-o", "json")).out)
    assert (body["removed"], body["agents"], body["collected"]["passes"]) == (1, 1, 1)
    assert upkeep.snapshots[uid] == [2, 3]


@pytest.mark.slow
async def test_a_snapshot_is_named(cli: Shell, upkeep: PretendedUpkeep) -> None:
    _, uid = await born(cli, upkeep, 1, 2)
    done = await cli("snapshots", "name", cli.name, "2", "good")
    assert (done.code, done.out) == (0, f"Snapshot 2 of {cli.name} is named good.\n")
    assert upkeep.names == {(uid, "good"): 2}
    for arguments, code in (
        (("1", "good"), 1),
        (("7", "other"), 3),
        (("1", "../x"), 2),
        (("1", "latest"), 2),
        (("1", "17"), 2),
        (("newest", "other"), 2),
        (("latest", "other"), 3),
    ):
        refused = await cli("snapshots", "name", cli.name, *arguments)
        assert (refused.code, refused.out) == (code, ""), (arguments, refused.err)
    assert "--move" in (await cli("snapshots", "name", cli.name, "1", "good")).err
    assert (await cli("snapshots", "name", cli.name, "1", "good", "--move")).code == 0
    assert (await cli("snapshots", "unname", cli.name, "good")).out.startswith("The name good is no longer used")
    assert (await cli("snapshots", "unname", cli.name, "good")).out.startswith("The name good was not used")


@pytest.mark.slow
async def test_how_far_it_is_and_what_holds_it_up_is_told(cli: Shell, upkeep: PretendedUpkeep) -> None:
    _, uid = await born(cli, upkeep, 1, 2, 3, 4, 5)
    upkeep.slowness = 1.5
    done = await cli("snapshots", "verify", cli.name)
    assert done.code == 0
    assert done.err.startswith("pack "), done.err
    upkeep.failures[uid] = [StoreUnavailable("the store is away") for _ in range(3)]
    upkeep.slowness = 0.01
    held = await cli("snapshots", "verify", cli.name)
    assert held.code == 0
    assert "held up: snapshots.verify, attempt" in held.err
    assert "the store is away" in held.err
