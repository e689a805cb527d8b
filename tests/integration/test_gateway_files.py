"""Files through the gateway: real HTTP, real workflow, real store; the computer itself is a dictionary."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hibernaut import errors
from hibernaut.agent import AgentHandle
from tests.integration.gateway_world import LIMIT, World, body, pieces


async def test_a_file_comes_from_the_container_while_it_runs(world: World, agent: AgentHandle) -> None:
    content = bytes(range(256)) * 4096
    world.computer.files["/data/big file ä.bin"] = content
    await agent.wake(timeout=20)
    assert await agent.files.read("/data/big file ä.bin") == content
    answer = await world.http.get(f"/v1/agents/{agent.id}/files/content", params={"path": "/data/big file ä.bin"})
    assert answer.headers["x-hibernaut-source"] == "container"
    assert [one.path for one in await agent.files.list("/data")] == ["/data/big file ä.bin"]


async def test_a_file_comes_from_the_snapshot_while_the_agent_sleeps_and_when_it_is_closed(
    world: World, agent: AgentHandle
) -> None:
    world.snapshots.files["/data/report.md"] = b"kept"
    await agent.wake(timeout=20)
    await agent.hibernate(timeout=20)
    assert await agent.files.read("/data/report.md") == b"kept"
    assert [one.path for one in await agent.files.list("/data")] == ["/data/report.md"]
    await agent.close(timeout=20)
    assert await agent.files.read_text("/data/report.md") == "kept"


async def test_a_container_that_is_gone_is_read_from_the_snapshot(world: World, agent: AgentHandle) -> None:
    await agent.wake(timeout=20)
    await agent.files.write("/first", "a snapshot")
    world.computer.gone = True
    world.snapshots.files["/data"] = b"kept"
    assert await agent.files.read("/data") == b"kept"
    assert len(await agent.files.list("/data")) == 1


async def test_a_file_of_the_image_alone_needs_the_agent_awake(world: World, agent: AgentHandle) -> None:
    world.snapshots.deleted.add("/gone")
    await agent.wake(timeout=20)
    await agent.hibernate(timeout=20)
    with pytest.raises(errors.SandboxAsleep, match="Wake the agent"):
        await agent.files.read("/etc/hostname")
    with pytest.raises(errors.FileMissing):
        await agent.files.read("/gone")


async def test_an_agent_that_has_no_snapshot_yet_says_so(agent: AgentHandle) -> None:
    with pytest.raises(errors.SandboxAsleep, match="no snapshot"):
        await agent.files.read("/etc/hostname")


async def test_a_name_that_is_not_utf8_is_listed_and_read(world: World, agent: AgentHandle) -> None:
    world.computer.files["/data/caf\udce9"] = b"latin"
    await agent.wake(timeout=20)
    listed = await agent.files.list("/data")
    assert [one.path for one in listed] == ["/data/caf\udce9"]
    assert await agent.files.read(listed[0].path) == b"latin"


async def test_missing_and_unsuitable_files(world: World, agent: AgentHandle) -> None:
    world.computer.files["/data/fifo"] = b"x"
    await agent.wake(timeout=20)
    with pytest.raises(errors.FileMissing, match="/nothing"):
        await agent.files.read("/nothing")
    with pytest.raises(errors.FileMissing):
        await agent.files.list("/nothing")
    with pytest.raises(errors.FileUnsuitable, match="not a regular file"):
        await agent.files.read("/data/fifo")


async def test_a_read_that_breaks_is_no_short_file(world: World, agent: AgentHandle, tmp_path: Path) -> None:
    world.computer.files["/broken"] = b"x" * 300_000
    await agent.wake(timeout=20)
    with pytest.raises(errors.GatewayUnreachable, match="broke"):
        await agent.files.read("/broken")
    with pytest.raises(errors.GatewayUnreachable):
        await agent.files.download("/broken", tmp_path / "local")
    assert list(tmp_path.glob("*local*")) == []


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 422, "invalid_request"),
        ("path=", 422, "invalid_request"),
        ("path=relative", 422, "invalid_path"),
        ("path=/a%00b", 422, "invalid_path"),
        (f"path=/{'x' * 5000}", 422, "invalid_path"),
        ("path=/../../nothing", 404, "file_not_found"),
    ],
)
async def test_paths_are_checked(agent: AgentHandle, world: World, query: str, status: int, code: str) -> None:
    await agent.wake(timeout=20)
    answer = await world.http.get(f"/v1/agents/{agent.id}/files/content?{query}")
    assert body(answer, status)["code"] == code


async def test_a_path_is_normalised(agent: AgentHandle, world: World) -> None:
    world.computer.files["/data/x"] = b"found"
    await agent.wake(timeout=20)
    for path in ("//data/x", "/data/./x", "/data/y/../x", "/../data/x"):
        assert await agent.files.read(path) == b"found"


async def test_a_write_wakes_a_sleeping_agent_and_leaves_no_upload(world: World, agent: AgentHandle) -> None:
    content = b"0123456789" * 100_000
    assert await agent.files.write("/data/in.csv", pieces(content), mode=0o600) == len(content)
    assert world.computer.files["/data/in.csv"] == content
    assert [(put.path, put.mode) for put in world.script.puts] == [("/data/in.csv", 0o600)]
    status = await agent.status()
    assert status.lease is not None
    assert await world.uploads(status.agent_uid) == []


async def test_local_files_go_up_and_come_down(world: World, agent: AgentHandle, tmp_path: Path) -> None:
    local = tmp_path / "tool.sh"
    local.write_bytes(b"#!/bin/sh\n")
    local.chmod(0o755)
    assert await agent.files.upload(local, "/bin/tool") == 10
    assert world.script.puts[0].mode == 0o755
    assert await agent.files.download("/bin/tool", tmp_path / "copy") == 10
    assert (tmp_path / "copy").read_bytes() == b"#!/bin/sh\n"
    with pytest.raises(errors.FileMissing):
        await agent.files.upload(tmp_path / "none", "/x")
    with pytest.raises(errors.FileUnsuitable):
        await agent.files.upload(tmp_path, "/x")


async def test_a_write_that_the_computer_refuses(world: World, agent: AgentHandle) -> None:
    with pytest.raises(errors.FileUnsuitable, match="read-only"):
        await agent.files.write("/proc/x", b"x")
    assert await world.uploads((await agent.status()).agent_uid) == []
    assert await agent.files.write("/x", b"usable still") == 12


async def test_too_large_a_file_is_refused_however_it_is_sent(world: World, agent: AgentHandle) -> None:
    with pytest.raises(errors.FileTooLarge, match="3,000,000"):
        await agent.files.write("/x", b"x" * (LIMIT + 1))
    with pytest.raises((errors.FileTooLarge, errors.GatewayUnreachable)):
        # Without a length, the gateway may hang up before all was sent.
        await agent.files.write("/x", pieces(b"x" * (LIMIT + 1)))
    assert world.script.puts == []
    assert await world.uploads((await agent.status()).agent_uid) == []


async def test_an_upload_that_breaks_off_writes_nothing(world: World, agent: AgentHandle) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await agent.files.write("/x", breaking())
    assert world.script.puts == []
    assert await world.uploads((await agent.status()).agent_uid) == []


@pytest.mark.parametrize("query", ["path=/x&mode=999", "path=/x&mode=-1", "path=/", "path=/x%ff"])
async def test_a_write_is_checked(world: World, agent: AgentHandle, query: str) -> None:
    answer = await world.http.put(f"/v1/agents/{agent.id}/files/content?{query}", content=b"x")
    assert body(answer, 422)["code"] == "invalid_request"


async def test_a_closed_agent_takes_no_files(agent: AgentHandle) -> None:
    await agent.close(timeout=20)
    with pytest.raises(errors.AgentClosed):
        await agent.files.write("/x", b"x")
