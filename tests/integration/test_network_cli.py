"""The network on the command line, as processes of their own, against a real workflow; the agent sleeps."""

import json
from pathlib import Path

import pytest

from tests.integration.command_line import Shell
from tests.integration.gateway_world import World


@pytest.fixture
def cli(world: World, tmp_path: Path) -> Shell:
    return Shell(world, tmp_path)


async def test_rules_are_added_shown_and_taken_away(cli: Shell) -> None:
    begun = await cli("start", cli.name, "--model", "scripted", "--allow", "*.example.org", "--allow", "old.example")
    assert begun.code == 0
    assert (await cli("network", "allow", cli.name, "new.example:8443", "--by", "ann")).code == 0
    denied = await cli("network", "deny", cli.name, "old.example", "-o", "json")
    shown = json.loads(denied.out)
    assert (shown["allow"], shown["in_force"]) == (["*.example.org", "new.example:8443"], True)
    assert (shown["added"], shown["removed"]) == (["new.example:8443"], ["old.example"])
    still = await cli("network", "deny", cli.name, "a.example.org")
    assert (still.code, "deny *.example.org" in still.err) == (1, True)
    assert "+new.example:8443 -old.example" in (await cli("status", cli.name)).out
    told = (await cli("follow", cli.name, "--no-follow")).out
    assert "@ network rules changed by ann: +new.example:8443" in told


async def test_an_agent_without_an_allowlist_says_what_helps(cli: Shell) -> None:
    assert (await cli("start", cli.name, "--model", "scripted")).code == 0
    refused = await cli("network", "allow", cli.name, "example.com")
    assert refused.code == 1
    assert "has the mode none" in refused.err
    assert "`--allow HOST`" in refused.err
    assert "mode none" in (await cli("network", "show", cli.name)).out
    assert (await cli("network", "show", "nobody")).code == 3
