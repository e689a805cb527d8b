"""The command line as a process of its own, against a real workflow and a real gateway."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from hibernaut import AgentState
from hibernaut.contracts import StoreKeys
from hibernaut.models.deletion import Amount, Borrower, Certificate, Inspection, Retained, RetainedPack, sealed
from tests.integration.command_line import Shell
from tests.integration.gateway_world import World, gateway_world
from tests.support.scripted_agents import Script, working


@pytest.fixture(scope="module")
async def world(agents_server: WorkflowEnvironment, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    client, script = agents_server.client, Script()
    async with working(client, script), gateway_world(client, script, tmp_path_factory.mktemp("store")) as one:
        yield one


@pytest.fixture
def cli(world: World, tmp_path: Path) -> Shell:
    return Shell(world, tmp_path)


async def test_a_whole_life(cli: Shell) -> None:
    name = cli.name
    done = await cli("run", name, "hello", "--model", "scripted")
    assert (done.code, done.out, done.err) == (0, "you said hello\n", "")
    # There it is already: the same command sends to it.
    assert (await cli("run", name, "-", "--model", "scripted", stdin=b"from stdin")).out == "you said from stdin\n"
    told = json.loads((await cli("send", name, "again", "-o", "json")).out)
    assert (told["text"], told["turn"]) == ("you said again", 3)
    status = json.loads((await cli("status", name, "-o", "json")).out)
    assert (status["state"], status["turn"]) == ("idle", 3)
    assert "you said again" not in (await cli("status", name)).out
    assert (await cli("hibernate", name)).out == f"Agent {name} is hibernated.\n"
    assert (await cli("wake", name)).out == f"Agent {name} is idle.\n"
    assert (await cli("pause", name, "--reason", "for a test")).out == f"Agent {name} is paused (for a test).\n"
    paused = await cli("send", name, "waits")
    assert (paused.code, "is paused: for a test" in paused.err) == (1, True)
    assert (await cli("resume", name)).code == 0
    assert (await cli("close", name)).out == f"Agent {name} is closed.\n"
    assert (await cli("send", name, "late")).code == 1
    lines = (await cli("follow", name, "-o", "json")).out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert (await cli("delete", name)).code == 2
    deleted = (await cli("delete", name, "--yes")).out
    assert deleted.startswith(f"Deleted agent {name}.\nCertificate: certificates/")


async def test_a_certificate_that_cannot_be_written_is_told_before_anything_is_deleted(cli: Shell) -> None:
    await cli("start", cli.name, "--model", "scripted")
    for place, why in (("nowhere/c.json", "folder does not exist"), (".", "is a folder")):
        refused = await cli("delete", cli.name, "--yes", "--certificate", place)
        assert (refused.code, refused.out, why in refused.err) == (2, "", True), refused.err
    assert (await cli("status", cli.name)).code == 0


async def test_that_an_agent_is_deleted_is_said_even_if_its_certificate_cannot_be_had(cli: Shell) -> None:
    await cli("start", cli.name, "--model", "scripted")
    # The pretended deletion writes none; a gateway that is away is as good.
    kept = cli.folder / "c.json"
    kept.write_text("of another")
    done = await cli("delete", cli.name, "--yes", "--certificate", "c.json")
    assert (done.code, done.out.startswith(f"Deleted agent {cli.name}.\n")) == (3, True)
    assert kept.read_text() == "of another"


async def test_a_certificate_is_shown_by_uid_and_by_agent(cli: Shell) -> None:
    asked = datetime(2026, 11, 1, tzinfo=UTC)
    needs = Borrower(agent_uid="f1", chunks=3, bytes=2_000, fork=True)
    made = Certificate(
        agent_id=cli.name,
        agent_uid="u1",
        asked_by="ann",
        asked_at=asked,
        begun_at=asked,
        written_at=asked,
        removed={"transcript": Amount(objects=3, bytes=100)},
        runs={"agent": 2},
        checked=(Inspection(what="agents/u1/", found=0),),
        retained=Retained(packs=(RetainedPack(pack="ab" * 32, bytes=5_000, needed_by=(needs,)),)),
        remnants=("h1: volumes: v1",),
    )
    store = cli.world.store
    await store.put(StoreKeys.certificate("u1"), sealed(made).model_dump_json().encode())
    await store.put(f"{StoreKeys.certificates_of(cli.name)}u1", b"1\n")
    await store.put(f"{StoreKeys.certificates_of(cli.name)}under-way", b"1\n")
    shown = await cli("certificate", "show", "u1", "--file", "kept.json")
    assert shown.code == 0, shown.err
    for told in ("ann", "transcript: 3", "runs, agent: 2", "agents/u1/: none left", "fork f1 needs 3", "v1", "intact"):
        assert told in shown.out
    assert Certificate.model_validate_json((cli.folder / "kept.json").read_text()) == sealed(made)
    by_id = json.loads((await cli("certificate", "show", cli.name, "-o", "json")).out)
    assert (by_id["ref"], by_id["intact"]) == ("certificates/u1.json", True)
    forged = sealed(made).model_copy(update={"asked_by": "bob"})
    await store.put(StoreKeys.certificate("u1"), forged.model_dump_json().encode())
    assert "WRONG" in (await cli("certificate", "show", "u1")).out
    assert (await cli("certificate", "show", "nobody")).code == 3


async def test_start_with_a_spec_file_and_a_message(cli: Shell) -> None:
    (cli.folder / "spec.yaml").write_text("model: scripted\nsandbox: {image: i}\n")
    started = await cli("start", cli.name, "-f", "spec.yaml", "--image", "j", "-m", "first", "-o", "json")
    assert started.code == 0, started.err
    message_id = json.loads(started.out)["message_id"]
    agent = cli.world.agents.get(cli.name)
    assert (await agent.wait(message_id)).text == "you said first"
    assert (await agent.status()).spec.sandbox.image == "j"
    again = await cli("start", cli.name, "--model", "m")
    assert (again.code, f"There is an agent '{cli.name}' already." in again.err) == (1, True)


async def test_events_may_be_shown_beside_the_answer(cli: Shell) -> None:
    done = await cli("run", cli.name, "hello", "--model", "scripted", "--events")
    assert done.out == "you said hello\n"
    assert "turn 1" in done.err


async def test_a_ticket_instead_of_an_answer(cli: Shell) -> None:
    await cli("start", cli.name, "--model", "scripted")
    done = await cli("send", cli.name, "hello", "--no-wait", "--message-id", "mine")
    assert done.out == "mine\n"
    assert (await cli("send", cli.name, "hello", "--message-id", "mine")).out == "you said hello\n"


async def test_listing(cli: Shell) -> None:
    await cli("start", cli.name, "--model", "scripted")
    async with asyncio.timeout(30):
        while cli.name not in (listed := await cli("ls")).out:
            await asyncio.sleep(0.1)
    assert listed.out.splitlines()[0].split() == ["NAME", "STATE", "MODEL", "SINCE"]
    every = json.loads((await cli("ls", "-o", "json")).out)
    assert AgentState.IDLE in {one["state"] for one in every if one["agent_id"] == cli.name}
    assert (await cli("ls", "--state", "recovering")).out == ""


async def test_files_go_both_ways(cli: Shell) -> None:
    await cli("start", cli.name, "--model", "scripted")
    (cli.folder / "data.bin").write_bytes(bytes(range(256)))
    assert (await cli("files", "put", cli.name, "data.bin", "/in/")).out == "/in/data.bin: 256 B\n"
    assert (await cli("files", "get", cli.name, "/in/data.bin", "copy.bin")).out == "copy.bin: 256 B\n"
    assert (cli.folder / "copy.bin").read_bytes() == bytes(range(256))
    assert (await cli("files", "put", cli.name, "-", "/in/text", stdin=b"piped\n")).code == 0
    assert (await cli("files", "cat", cli.name, "/in/text")).out == "piped\n"
    listed = json.loads((await cli("files", "ls", cli.name, "/in", "-o", "json")).out)
    assert {"/in/data.bin", "/in/text"} <= {one["path"] for one in listed}
    assert "-rw-r--r--" in (await cli("files", "ls", cli.name, "/in")).out


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "nobody"),
        ("send", "nobody", "x"),
        ("follow", "nobody"),
        ("hibernate", "nobody"),
        ("delete", "nobody", "--yes"),
        ("files", "cat", "nobody", "/x"),
        ("files", "ls", "nobody"),
    ],
)
async def test_an_unknown_agent_ends_with_3(cli: Shell, arguments: tuple[str, ...]) -> None:
    done = await cli(*arguments)
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("error: There is no agent 'nobody'.")


async def test_a_missing_file_ends_with_3(cli: Shell) -> None:
    await cli("start", cli.name, "--model", "scripted")
    await cli("wake", cli.name)
    done = await cli("files", "get", cli.name, "/none")
    assert (done.code, "/none" in done.err) == (3, True)
    assert not (cli.folder / "none").exists()


async def test_a_wrong_token_is_told(cli: Shell) -> None:
    await cli("start", cli.name, "--model", "scripted")
    done = await cli("files", "ls", cli.name, env={"HIBERNAUT_GATEWAY_TOKEN": "wrong"})
    assert (done.code, "HIBERNAUT_GATEWAY_TOKEN" in done.err) == (1, True)


async def test_an_oversized_message_names_both_sizes(cli: Shell) -> None:
    await cli("start", cli.name, "--model", "scripted")
    done = await cli("send", cli.name, "-", stdin=b"x" * 1_000_001)
    assert done.code == 2
    assert "1,000,001" in done.err
    assert "1,000,000" in done.err
    assert (await cli("send", cli.name, "usable still")).out == "you said usable still\n"


async def test_a_reader_that_goes_away_is_no_error_to_see(cli: Shell) -> None:
    await cli("run", cli.name, "hello", "--model", "scripted")
    process = await asyncio.create_subprocess_shell(
        f"{sys.executable} -m hibernaut follow {cli.name} --no-follow | head -n 1",
        cwd=cli.folder,
        env=cli.env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert len(out.splitlines()) == 1
    assert err == b""
