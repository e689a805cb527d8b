"""Snapshots as the command line and the SDK show them: real workflow, engine, store, gateway and processes."""

from __future__ import annotations

import asyncio
import json
import os
import pty
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.snapshots import layout
from hibernaut import errors
from hibernaut.agent import AgentHandle
from hibernaut.models import AgentSpec
from tests.integration.command_line import Shell
from tests.integration.gateway_world import World, gateway_world
from tests.integration.snapshot_lives import Life, RealFiles
from tests.support.scripted_agents import working


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path / "store")


@pytest.fixture
async def world(agents_server: WorkflowEnvironment, life: Life, tmp_path: Path) -> AsyncIterator[World]:
    client = agents_server.client
    async with working(client, life), gateway_world(client, life, tmp_path / "store") as one:
        files = RealFiles(life.engine)
        one.snapshots.list_files, one.snapshots.open_file = files.list_files, files.open_file
        yield one


@pytest.fixture
def cli(world: World, tmp_path: Path) -> Shell:
    return Shell(world, tmp_path)


async def lived(cli: Shell, *turns: str) -> AgentHandle:
    """An agent after so many turns, a snapshot after each."""
    agent = await cli.world.agents.start(cli.name, AgentSpec(model="scripted"))
    for number, turn in enumerate(turns, 1):
        await agent.send(f"run {turn}", timeout=30)
        while (taken := (await agent.status()).snapshot) is None or taken.number < number:
            await asyncio.sleep(0.05)
    return agent


async def test_snapshots_are_listed_shown_and_compared(cli: Shell, life: Life) -> None:
    agent = await lived(cli, "a=1 && b=22", "a=333 && rm b", "caf\xe9\x1b[2J\nx=4")
    name = agent.id
    listed = await cli("snapshots", name)
    assert listed.code == 0, listed.err
    rows = [line.split() for line in listed.out.splitlines()]
    assert rows[0][:5] == ["NO", "AGE", "PARENT", "KIND", "BY"]
    assert [row[0] for row in rows[1:]] == ["3*", "2", "1"]
    assert "+2 ~0 -0" in listed.out.splitlines()[3]
    assert max(len(line) for line in listed.out.splitlines()) <= 80
    assert (await cli("snapshots", "ls", name, "-n", "1")).out.count("\n") == 2
    page = json.loads((await cli("snapshots", name, "--limit", "2", "-o", "json")).out)
    assert ([one["number"] for one in page["snapshots"]], page["total"], page["before"]) == ([3, 2], 3, 2)
    every = json.loads((await cli("snapshots", "--all", name, "-o", "json")).out)
    assert [one["number"] for one in every["snapshots"]] == [3, 2, 1]

    uid = (await agent.status()).agent_uid
    await life.store.put(layout.names_prefix(uid) + "first", layout.manifest_key(uid, 1).encode())
    shown = await cli("snapshots", "show", name, "first", "--files")
    assert "snapshot   1, named first\n" in shown.out
    assert shown.out.rstrip().endswith("/b")
    detail = json.loads((await cli("snapshots", "show", name, "-o", "json", "--files")).out)
    assert (detail["snapshot"]["number"], len(detail["chain"]), len(detail["paths"])) == (3, 2, 4)

    compared = await cli("snapshots", "diff", name, "1", "latest")
    odd = r"/caf\xe9\x1b[2J\nx"
    assert compared.out.splitlines() == ["~ /a  1 B -> 3 B", "- /b  2 B", f"+ {odd}  1 B"]
    assert compared.err == "1 added, 1 changed, 1 deleted\n"
    assert (await cli("snapshots", "diff", name, "3")).out == f"+ {odd}  1 B\n"
    assert (await cli("snapshots", "diff", name, "image", "first")).out == "+ /a  1 B\n+ /b  2 B\n"
    told = [
        json.loads(line) for line in (await cli("snapshots", "diff", name, "2", "1", "-o", "json")).out.splitlines()
    ]
    assert [(one["path"], one["change"], one["what"]) for one in told] == [
        ("/a", "changed", ["content"]),
        ("/b", "added", []),
    ]

    # The SDK says the same, of a closed agent too.
    await agent.close(timeout=20)
    assert [one.number async for one in agent.snapshots.list()] == [3, 2, 1]
    assert (await agent.snapshots.show(2)).snapshot.number == 2
    ref = layout.manifest_key(uid, 2)
    assert (await agent.snapshots.show(ref)).snapshot.ref == ref
    paths = [one.path async for one in agent.snapshots.paths("latest")]
    assert paths == ["/", "/a", "/b", "/caf\udce9\x1b[2J\nx"]
    assert [one.path async for one in agent.snapshots.diff(None, 3)] == ["/caf\udce9\x1b[2J\nx"]


async def test_older_snapshots_of_a_running_agent_are_read(cli: Shell) -> None:
    agent = await lived(cli, "a=old && caf\xe9=odd", "a=new")
    assert (await agent.status()).lease is not None
    assert "6 B, captured on the host" in " ".join((await cli("status", agent.id)).out.split())
    assert [await agent.files.read("/a", snapshot=one) for one in (1, 2, "latest")] == [b"old", b"new", b"new"]
    listed = await cli("files", "ls", agent.id, "--snapshot", "1")
    assert [line.split()[-1] for line in listed.out.splitlines()] == ["/a", r"/caf\xe9"]
    assert await agent.files.read("/caf\udce9", snapshot=1) == b"odd"
    assert (await cli("files", "cat", agent.id, os.fsdecode(b"/caf\xe9"), "--snapshot", "1")).stdout == b"odd"
    assert (await cli("files", "get", agent.id, "/a", "local", "--snapshot", "1")).code == 0
    assert (cli.folder / "local").read_text() == "old"
    missing = await cli("files", "cat", agent.id, "/a", "--snapshot", "9")
    assert (missing.code, missing.stdout) == (3, b"")
    assert missing.err.startswith("error: There is no snapshot ")
    with pytest.raises(errors.SnapshotMissing):
        await agent.files.list("/", snapshot="9")
    image = await cli("files", "cat", agent.id, "/etc/hostname", "--snapshot", "1")
    assert (image.code, "Wake" in image.err) == (1, False)
    with pytest.raises(errors.InvalidRequest):
        await agent.files.list("/", snapshot="image")


async def test_a_damaged_snapshot_spoils_no_list(cli: Shell, life: Life) -> None:
    agent = await lived(cli, "a=1", "a=2", "a=3")
    ref = layout.manifest_key((await agent.status()).agent_uid, 2)
    await life.store.put(ref, (await life.store.get(ref))[:100])
    listed = await cli("snapshots", agent.id)
    assert [line.split()[0] for line in listed.out.splitlines()] == ["NO", "3*", "2", "1"]
    assert "unreadable" in listed.out.splitlines()[2]
    assert "snapshot 2: The manifest" in listed.err
    shown = await cli("snapshots", "show", agent.id)
    assert "damaged    The manifest" in shown.out
    assert (await cli("snapshots", "show", agent.id, "2")).code == 1
    assert (await cli("snapshots", "diff", agent.id, "1", "3")).code == 1


async def test_snapshots_that_are_not_there(cli: Shell) -> None:
    agent = await lived(cli)
    listed = await cli("snapshots", agent.id)
    assert (listed.code, listed.out, listed.err) == (0, "", "No snapshots.\n")
    for arguments in (("show", agent.id), ("show", agent.id, "7"), ("show", agent.id, "../x"), ("diff", agent.id, "7")):
        missing = await cli("snapshots", *arguments, "-o", "json")
        assert (missing.code, json.loads(missing.err)["code"]) == (3, "snapshot_not_found")
    assert (await cli("snapshots", "nobody")).code == 3


async def test_an_agent_named_like_a_command_is_reached_by_ls(cli: Shell) -> None:
    cli.name = "show"
    agent = await lived(cli, "a=1")
    assert (await cli("snapshots", "ls", "show")).out.splitlines()[1].startswith("1*")
    assert (await cli("snapshots", "show", "show")).out.startswith("snapshot   1")
    assert (await cli("snapshots", "show")).code == 2
    await agent.delete()


async def asleep_with_a_slow_store(cli: Shell, life: Life) -> AgentHandle:
    agent = await lived(cli, "a=1")
    await agent.hibernate(timeout=20)
    life.store.gate.clear()
    return agent


@pytest.mark.slow
async def test_follow_tells_how_far_a_restore_has_come(cli: Shell, life: Life) -> None:
    agent = await asleep_with_a_slow_store(cli, life)
    since = str((await agent.status()).last_event)
    lines = await cli.begin("follow", agent.id, "--since", since)
    records = await cli.begin("follow", agent.id, "--since", since, "-o", "json", "--progress")
    silent = await cli.begin("follow", agent.id, "--since", since, "-o", "json")
    assert lines.stderr is not None
    assert records.stdout is not None
    async with asyncio.timeout(40):
        await agent.wake(wait=False)
        await life.store.waiting.wait()
        assert (await lines.stderr.readline()).startswith(b"restoring")
        while (told := json.loads(await records.stdout.readline())).get("type") != "progress":
            assert "seq" in told
        assert told["what"] == "restore"
        progress = await agent.progress()
        assert progress is not None
        assert progress.what == "restore"
        life.store.gate.set()
        await agent.close(timeout=20)
        out, err = await silent.communicate()
        assert await lines.wait() == await records.wait() == 0
    assert err == b""
    assert all("seq" in json.loads(line) for line in out.splitlines())
    assert await agent.progress() is None


async def test_on_a_terminal_one_line_is_written_over(cli: Shell, life: Life) -> None:
    agent = await asleep_with_a_slow_store(cli, life)
    ours, theirs = pty.openpty()
    since = str((await agent.status()).last_event)
    command = [*cli.command, "follow", agent.id, "--since", since]
    env = cli.env | {"TERM": "xterm", "COLUMNS": "60"}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cli.folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = bytearray()
    asyncio.get_running_loop().add_reader(ours, lambda: seen.extend(os.read(ours, 4096)))
    async with asyncio.timeout(40):
        await agent.wake(wait=False)
        while b"restoring" not in seen:
            await asyncio.sleep(0.05)
        life.store.gate.set()
        while b"restored" not in seen:
            await asyncio.sleep(0.05)
        process.terminate()
        await process.wait()
    asyncio.get_running_loop().remove_reader(ours)
    os.close(ours)
    begin = seen.index(b"restoring")
    # The line is emptied before anything else is shown.
    assert b"\n" not in seen[begin : seen.index(b"\r\x1b[K", begin)]
