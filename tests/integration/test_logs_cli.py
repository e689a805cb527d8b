"""`hibernaut logs` as a process of its own, against a real workflow, gateway and store; the shell pretends."""

import asyncio
import json
import os
import pty
import signal
import sys
from pathlib import Path

import pytest

from hibernaut import AgentSpec
from tests.integration.command_line import Shell
from tests.integration.gateway_world import World
from tests.support.pretended_shell import EARLY, LATE, LIVE, PretendedShell, pattern

FIRST = "b0-s0-c0-i0"


@pytest.fixture(autouse=True)
def shell(world: World) -> PretendedShell:
    world.script.on_exec = shell = PretendedShell(world.store)
    return shell


@pytest.fixture
def cli(world: World, tmp_path: Path) -> Shell:
    return Shell(world, tmp_path)


async def test_the_newest_commands_and_how_they_ended(cli: Shell) -> None:
    agent = await cli.world.agents.start(cli.name, AgentSpec(model="scripted"))
    await agent.send("run print one && print two oops")
    done = await cli("logs", cli.name)
    assert (done.code, done.err) == (0, "oops\n")
    assert done.out.splitlines() == [
        *(f"{FIRST} $ print one", "one", "exit 0 in 12 ms"),
        *("b0-s0-c0-i1 $ print two oops", "two", "exit 3 in 12 ms"),
    ]
    assert (await cli("logs", cli.name, "--tail", "1")).out.splitlines() == done.out.splitlines()[3:]
    assert (await cli("logs", cli.name, "--tail", "0")).out == ""
    lines = [json.loads(line) for line in (await cli("logs", cli.name, "-o", "json")).out.splitlines()]
    assert [line["type"] for line in lines] == ["command", "output", "end", "command", "output", "output", "end"]
    assert lines[1] == {"type": "output", "exec_id": FIRST, "stream": "stdout", "offset": 0, "text": "one\n"}
    assert lines[6]["outcome"]["exit_code"] == 3


async def test_one_command_goes_into_a_pipe_byte_for_byte(cli: Shell) -> None:
    agent = await cli.world.agents.start(cli.name, AgentSpec(model="scripted"))
    await agent.send("run bytes 2000001 && print two oops")
    done = await cli("logs", cli.name, "--exec", FIRST)
    assert (done.code, done.stdout == pattern(2_000_001), done.stderr) == (0, True, b"")
    other = await cli("logs", cli.name, "--exec", "b0-s0-c0-i1", "--follow")
    assert (other.code, other.stdout, other.stderr) == (0, b"two\n", b"oops\n")


async def test_what_is_not_there_ends_with_3(cli: Shell) -> None:
    nobody = await cli("logs", "nobody")
    assert (nobody.code, nobody.out) == (3, "")
    assert nobody.err.startswith("error: There is no agent 'nobody'.")
    await cli.world.agents.start(cli.name, AgentSpec(model="scripted"))
    none = await cli("logs", cli.name)
    assert (none.code, none.out, none.err) == (0, "", "No commands to show.\n")
    nothing = await cli("logs", cli.name, "--exec", FIRST, "-o", "json")
    assert (nothing.code, nothing.out, json.loads(nothing.err)["code"]) == (3, "", "output_not_found")


async def test_a_command_is_followed_to_its_end(cli: Shell, shell: PretendedShell) -> None:
    agent = await cli.world.agents.start(cli.name, AgentSpec(model="scripted"))
    await agent.post("run slow")
    async with asyncio.timeout(60):
        while (await agent.status()).exec_prefix is None:
            await asyncio.sleep(0.05)
        process = await cli.begin("logs", cli.name, "--exec", FIRST, "--follow")
        assert process.stdout is not None
        # What only a heartbeat has told is shown before the command ends.
        assert await process.stdout.readexactly(len(EARLY + LIVE)) == EARLY + LIVE
        shell.gate.set()
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, LATE, b"")


async def test_following_an_agent_goes_on_until_it_is_interrupted(cli: Shell) -> None:
    agent = await cli.world.agents.start(cli.name, AgentSpec(model="scripted"))
    process = await cli.begin("logs", cli.name, "--follow")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        for number in range(2):
            await agent.send(f"run print {number}")
            lines = [await process.stdout.readline() for _ in range(3)]
            assert lines == [f"b0-s{2 * number}-c0-i0 $ print {number}\n".encode(), b"%d\n" % number, lines[2]]
            assert lines[2].startswith(b"exit 0")
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert b"Interrupted." in err


async def test_nothing_hostile_reaches_a_terminal(cli: Shell) -> None:
    agent = await cli.world.agents.start(cli.name, AgentSpec(model="scripted"))
    await agent.send("run bytes 3000")
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hibernaut", "logs", cli.name),
        cwd=cli.folder,
        env=cli.env | {"TERM": "xterm"},
        stdout=slave,
    )
    os.close(slave)
    shown = await asyncio.to_thread(_drain, master)
    assert await process.wait() == 0
    text = shown.decode()
    for ours in ("\x1b[2m", "\x1b[0m", "\r\n"):
        text = text.replace(ours, "")
    assert text.replace("\t", "").isprintable()
    assert "abcdefghijklmnopqrstuvwxyz" in text
    assert text.endswith("exit 0 in 12 ms")


def _drain(terminal: int) -> bytes:
    """All that is written to a terminal until nobody holds its other end."""
    shown = b""
    try:
        while data := os.read(terminal, 65536):
            shown += data
    except OSError:
        pass
    finally:
        os.close(terminal)
    return shown
