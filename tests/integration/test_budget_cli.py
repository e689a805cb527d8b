"""The budget on the command line, as processes of their own, against a real workflow; the shell pretends."""

import json
from pathlib import Path

import pytest

from tests.integration.command_line import Shell
from tests.integration.gateway_world import World
from tests.support.pretended_shell import PretendedShell

SPEC = "model: scripted\nbudget: {turn: {steps: 1}, life: {wall_time: P1D}}\n"


@pytest.fixture
def cli(world: World, tmp_path: Path) -> Shell:
    world.script.on_exec = PretendedShell(world.store)
    (tmp_path / "spec.yaml").write_text(SPEC)
    return Shell(world, tmp_path)


async def test_a_limit_is_used_up_shown_and_raised(cli: Shell) -> None:
    asked = await cli("run", cli.name, "run print one", "--spec", "spec.yaml", "--message-id", "m1")
    assert asked.code == 1
    assert "the budget is used up: 1 step of 1 step of a turn" in asked.err
    order = f"hibernaut budget {cli.name} --set turn.steps=2"
    assert order in asked.err
    assert "hibernaut resume" not in asked.err
    shown = await cli("budget", cli.name)
    assert "1 of 1 (100 %)" in shown.out
    assert "Paused: the budget is used up" in shown.err
    # The command that was told, word for word.
    raised = await cli(*order.split()[1:], "--by", "ann")
    assert (raised.code, "of 2 (" in raised.out) == (0, True)
    assert (await cli("send", cli.name, "run print one", "--message-id", "m1")).code == 0
    told = (await cli("follow", cli.name, "--no-follow")).out
    assert "% 100 % of a limit: 1 step of 1 step of a turn" in told
    assert "% budget changed by ann: turn.steps from 1 step to 2 steps" in told
    assert "* resumed: the budget was changed" in told


async def test_programs_and_people_who_err(cli: Shell) -> None:
    assert (await cli("start", cli.name, "--spec", "spec.yaml")).code == 0
    shown = json.loads((await cli("budget", cli.name, "-o", "json")).out)
    assert shown["amounts"]["life"]["wall_time"] == {"spent": 0, "limit": 86_400_000}
    wrong = await cli("budget", cli.name, "--set", "life.tokens=lots", "-o", "json")
    assert (wrong.code, json.loads(wrong.err)["code"]) == (2, "invalid_request")
    assert (await cli("budget", "nobody")).code == 3
    cleared = json.loads((await cli("budget", cli.name, "--clear", "life.wall_time", "-o", "json")).out)
    assert cleared["amounts"]["life"]["wall_time"]["limit"] is None
    assert (await cli("close", cli.name)).code == 0
    late = await cli("budget", cli.name, "--set", "life.steps=5")
    assert (late.code, "takes no requests" in late.err or "is closed" in late.err) == (1, True)
    assert "life" in json.loads((await cli("budget", cli.name, "-o", "json")).out)["amounts"]
