"""`hibernaut schedule` as a process of its own: what it prints, as text and as JSON, and its exit codes."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.testing import WorkflowEnvironment

from hibernaut.cli.console import NOT_FOUND, USAGE
from tests.integration.command_line import Shell
from tests.integration.gateway_world import gateway_world
from tests.integration.schedule_desk import Desk, open_desk, until


@pytest.fixture
async def desk(agents_server: WorkflowEnvironment) -> AsyncIterator[Desk]:
    async with open_desk(agents_server.client) as desk:
        yield desk


@pytest.fixture
async def cli(desk: Desk, tmp_path: Path) -> AsyncIterator[Shell]:
    async with gateway_world(desk.client.temporal, desk.script, tmp_path / "store") as world:
        yield Shell(world, tmp_path)


@pytest.mark.slow
async def test_a_schedule_from_its_making_to_its_end(desk: Desk, cli: Shell) -> None:
    agent, name = await desk.agent(), f"monday-{uuid4().hex[:8]}"
    asked = ("--cron", "0 9 * * MON", "--timezone", "Europe/Berlin", "--agent", agent.id)
    made = await cli("schedule", "create", name, *asked, "--message", "-", "--jitter", "5m", stdin=b"report")
    assert (made.code, made.err) == (0, "")
    assert made.out.startswith(f"Created schedule {name}: first Mon ")
    again = await cli("schedule", "create", name, *asked, "-m", "x", "-o", "json")
    assert again.code == 1
    assert json.loads(again.err)["code"] == "schedule_already_exists"

    assert (await cli("schedule", "trigger", name)).out == f"Schedule {name} was triggered.\n"

    async def done() -> bool:
        return "done" in (await cli("schedule", "show", name)).out

    await until(done)
    shown = await cli("schedule", "show", name)
    assert shown.code == 0
    assert "0 9 * * MON Europe/Berlin" in shown.out
    assert "buffer_one on overlap, catch-up window 1d, jitter 5m" in shown.out
    assert shown.out.splitlines()[-1].split()[-6:] == ["in", "time", "done", "you", "said", "report"]
    status = json.loads((await cli("schedule", "show", name, "-o", "json")).out)
    assert [one["state"] for one in status["recent"]] == ["done"]
    assert (status["agent_id"], len(status["next"]), status["firings"]) == (agent.id, 10, 1)

    assert (await cli("schedule", "pause", name, "--note", "holidays")).out == f"Schedule {name} is paused.\n"
    assert "paused: holidays" in (await cli("schedule", "show", name)).out
    back = await cli("schedule", "backfill", name, "--from", "2026-01-05T09:00", "--to", "2026-01-18", "-o", "json")
    assert json.loads(back.out) == {"name": name, "firings": 2}
    resumed = await cli("schedule", "resume", name, "-o", "json")
    assert json.loads(resumed.out) == {"name": name, "paused": False}

    async def listed() -> bool:
        return name in (await cli("schedule", "ls")).out

    await until(listed)
    lines = json.loads((await cli("schedule", "ls", "-o", "json")).out)
    assert [one["agent_id"] for one in lines if one["name"] == name] == [agent.id]

    assert (await cli("schedule", "delete", name)).code == USAGE
    assert (await cli("schedule", "delete", name, "--yes")).out == f"Schedule {name} is deleted.\n"
    gone = await cli("schedule", "show", name)
    assert (gone.code, gone.out) == (NOT_FOUND, "")
    assert f"There is no schedule '{name}'." in gone.err


async def test_a_schedule_with_a_fresh_agent_each_time(desk: Desk, cli: Shell) -> None:
    name = f"fresh-{uuid4().hex[:8]}"
    spec = cli.folder / "spec.yaml"
    await asyncio.to_thread(spec.write_text, "model: scripted\ninstructions: be brief\n")
    made = await cli(
        *("schedule", "create", name, "--cron", "@daily", "-f", str(spec), "-m", "go"),
        *("--keep", "3", "--run-timeout", "1h30m", "--paused", "-o", "json"),
    )
    assert made.code == 0, made.err
    desk.made.append(desk.client.schedules.get(name))
    status = json.loads(made.out)
    assert (status["agent_id"], status["keep"], status["paused"]) == (None, 3, True)
    assert status["spec"] == {"model": "scripted", "instructions": "be brief"}
    assert (await cli("schedule", "trigger", name)).code == 0

    async def answered() -> bool:
        return f"{name}-" in (out := (await cli("schedule", "show", name)).out) and "you said go" in out

    await until(answered)
    assert "a fresh agent each time (scripted), 3 kept" in (await cli("schedule", "show", name)).out


@pytest.mark.slow
async def test_a_schedule_is_changed(desk: Desk, cli: Shell) -> None:
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id, cron="0 9 * * MON", run_timeout=timedelta(hours=1), paused=True)
    changed = await cli("schedule", "update", schedule.name, "--cron", "@daily", "-m", "-", stdin=b"report")
    assert (changed.code, changed.err) == (0, "")
    assert "@daily UTC" in changed.out
    assert "run timeout 1h" in changed.out
    options = ("--run-timeout", "none", "--overlap", "skip", "--jitter", "5m", "--note", "by hand", "-o", "json")
    status = json.loads((await cli("schedule", "update", schedule.name, *options)).out)
    assert (status["message"], status["run_timeout"], status["overlap"]) == ("report", None, "skip")
    assert (status["jitter"], status["note"], status["paused"]) == ("PT5M", "by hand", True)
    spec = cli.folder / "spec.yaml"
    await asyncio.to_thread(spec.write_text, "model: scripted\n")
    given = ("schedule", "update", schedule.name)
    fresh = await cli(*given, "-f", str(spec), "--model", "other", "--keep", "3", "-o", "json")
    assert json.loads(fresh.out)["spec"] == {"model": "other"}
    assert json.loads((await cli(*given, "--keep-all", "-o", "json")).out)["keep"] is None
    for wrong in ((), ("--model", "other"), ("--keep", "1", "--keep-all"), ("--jitter", "soon")):
        refused = await cli(*given, *wrong)
        assert (refused.code, refused.out) == (USAGE, ""), wrong
    assert (await cli("schedule", "update", "nothing-there", "--note", "x")).code == NOT_FOUND


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--cron", "61 * * * *", "--agent", "AGENT"), "Minute is not in range [0-59]"),
        (("--cron", "0 9 * * *", "--agent", "AGENT", "--timezone", "Europe/Berlinn"), "Did you mean Europe/Berlin?"),
        (("--cron", "0 9 * * *", "--agent", "AGENT", "--catchup-window", "soon"), "'soon' is no length of time"),
        (("--cron", "0 9 * * *"), "Say --agent NAME or --spec FILE."),
    ],
)
async def test_what_cannot_be_is_a_sentence(desk: Desk, cli: Shell, arguments: tuple[str, ...], told: str) -> None:
    agent = await desk.agent()
    given = [agent.id if one == "AGENT" else one for one in arguments]
    done = await cli("schedule", "create", "wrong", "-m", "hello", *given)
    assert (done.code, done.out) == (USAGE, "")
    assert told in done.err
    assert (await cli("schedule", "show", "wrong")).code == NOT_FOUND
