"""Consent on the command line, as processes of their own, against a real workflow; the shell pretends."""

import json
from pathlib import Path

import pytest

from tests.integration.command_line import Shell
from tests.integration.gateway_world import World
from tests.support.pretended_shell import PretendedShell

SPEC = "model: scripted\napproval: {policy: always}\n"


@pytest.fixture
def cli(world: World, tmp_path: Path) -> Shell:
    world.script.on_exec = PretendedShell(world.store)
    (tmp_path / "spec.yaml").write_text(SPEC)
    return Shell(world, tmp_path)


async def test_a_call_waits_is_shown_and_is_approved(cli: Shell) -> None:
    asked = await cli("run", cli.name, "run print one", "--spec", "spec.yaml", "--message-id", "m1")
    assert asked.code == 4
    assert asked.out == ""
    assert f"Agent {cli.name} waits for consent to run: print one" in asked.err
    assert f"hibernaut approve {cli.name}" in asked.err
    status = await cli("status", cli.name)
    assert "waiting_approval" in status.out
    assert "for consent to run: print one (call " in status.out
    waiting = json.loads((await cli("status", cli.name, "-o", "json")).out)["waiting"]
    wrong = await cli("approve", cli.name, "--call", "another")
    assert (wrong.code, waiting["call_id"] in wrong.err) == (1, True)
    done = await cli("approve", cli.name, "--call", waiting["call_id"])
    assert (done.code, done.out) == (0, f"Approved for agent {cli.name}: print one\n")
    assert (await cli("send", cli.name, "run print one", "--message-id", "m1")).code == 0
    told = (await cli("follow", cli.name, "--no-follow")).out
    assert "? waits for consent: print one" in told
    assert "* approval approved by " in told


async def test_a_call_is_denied_as_json(cli: Shell) -> None:
    asked = await cli("run", cli.name, "run print one", "--spec", "spec.yaml", "-o", "json")
    assert (asked.code, json.loads(asked.err)["code"]) == (4, "needs_approval")
    denied = await cli("deny", cli.name, "--reason", "no", "-o", "json")
    assert denied.code == 0
    assert json.loads(denied.out)["agent_id"] == cli.name
    again = await cli("deny", cli.name)
    assert again.code == 1
    assert "no call that waits for consent" in again.err
    nobody = await cli("answer", "nobody", "yes")
    assert nobody.code == 3


async def test_steering_and_interrupting_exclude_each_other(cli: Shell) -> None:
    both = await cli("send", cli.name, "x", "--steer", "--interrupt")
    assert (both.code, "either" in both.err) == (2, True)
