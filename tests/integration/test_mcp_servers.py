"""Real MCP servers, as processes of the worker's and over HTTP: listed, called, killed and back."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import JsonValue, SecretStr

from activities import mcp_pool
from activities.adapters import mcp_session
from activities.mcp_errors import McpCallUnknown, McpUnavailable
from activities.mcp_pool import McpPool
from activities.mcp_settings import Server, ServerSettings
from hibernaut.contracts import McpCallRequest, McpCallResult, McpOffer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SECRET = "s3cr3t-of-the-server"
NONSENSE = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"jsonrpc": "2.0", "id": json.loads(line).get("id"), "result": {"tools": 7}}), flush=True)
"""
PROGRAM = (sys.executable, "-m", "tests.support.mcp_server")


@dataclass
class Link:
    """A pool with one server, and what that server has seen."""

    pool: McpPool
    noted: Path

    async def call(self, tool: str, timeout: float = 20, **arguments: JsonValue) -> McpCallResult:
        request = McpCallRequest(
            server="test", tool=f"test__{tool}", arguments=arguments, timeout=timedelta(seconds=timeout)
        )
        return await self.pool.call(request)

    async def names(self) -> tuple[str, ...]:
        return (await self.pool.offered((McpOffer(server="test"),))).tools.names

    def seen(self) -> list[str]:
        return self.noted.read_text().splitlines() if self.noted.exists() else []

    def pid(self) -> int:
        return int([line for line in self.seen() if line.startswith("started")][-1].split()[1])

    async def until(self, line: str) -> None:
        for _ in range(500):
            if line in self.seen():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"never saw {line!r}: {self.seen()}")


@contextlib.asynccontextmanager
async def linked(noted: Path, settings: ServerSettings) -> AsyncGenerator[Link]:
    env = {"MCP_TEST_CALLS": SecretStr(str(noted)), "TOKEN": SecretStr(SECRET)} if settings.command else {}
    headers = {"Authorization": SecretStr(f"Bearer {SECRET}")} if settings.url else {}
    secrets = (SecretStr(SECRET),)
    pool = McpPool({"test": Server(name="test", settings=settings, env=env, headers=headers, secrets=secrets)})
    try:
        yield Link(pool, noted)
    finally:
        await pool.close()


@pytest.fixture
async def stdio(tmp_path: Path) -> AsyncIterator[Link]:
    async with linked(tmp_path / "noted", ServerSettings(command=(*PROGRAM, "stdio"), cwd=ROOT)) as link:
        yield link


@dataclass
class Web:
    """A server over HTTP that can be killed and started again."""

    port: int
    noted: Path
    process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self.process = subprocess.Popen(  # noqa: ASYNC220  # a moment
            [*PROGRAM, "http", str(self.port)],
            cwd=ROOT,
            env={**os.environ, "MCP_TEST_CALLS": str(self.noted)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(600):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            await asyncio.sleep(0.05)
        raise AssertionError("the server never listened")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    found = Web(port, tmp_path / "noted")
    yield found
    found.kill()


async def _gone(pid: int) -> None:
    """A zombie is gone as well: who takes it in is a matter of the machine."""
    for _ in range(500):
        try:
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return
        except OSError:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"process {pid} is still there")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_program_is_called_killed_and_started_again(stdio: Link) -> None:
    assert {"test__add", "test__draw"} <= set(await stdio.names())
    assert (await stdio.call("add", numbers=[1, 2])).output == {"total": 3, "of": [1, 2]}
    assert (await stdio.call("greet", name="ada")).output == "hello ada"
    assert "I refuse: no" in ((await stdio.call("refuse", why="no")).error or "")
    drawn = (await stdio.call("draw")).output
    assert drawn == {"text": "here it is", "left_out": ["image image/png 3000 bytes"]}
    cut = (await stdio.call("greet", name="x" * 1_000, times=500)).output
    assert isinstance(cut, dict)
    assert "only its beginning" in str(cut["cut"])
    # Not in what a tool takes by default, either.
    offered = (await stdio.pool.offered((McpOffer(server="test", tools=("environment",)),))).tools
    assert "[redacted]" in str(offered.declarations())
    assert SECRET not in str(offered.declarations())
    # What the worker knows is not what its servers know, and what they know is told to nobody.
    assert (await stdio.call("environment", name="PYTEST_CURRENT_TEST")).output == "not set"
    assert (await stdio.call("environment", name="TOKEN")).output == "[redacted]"
    with pytest.raises(McpCallUnknown, match="timed out"):
        await stdio.call("wait", timeout=0.5, seconds=60)
    await stdio.until("cancelled")
    # Gone in the midst of a call: nobody knows what it did. Gone between two: nobody notices.
    with pytest.raises(McpCallUnknown):
        await stdio.call("crash")
    assert (await stdio.call("greet", name="again")).output == "hello again"
    os.kill(stdio.pid(), signal.SIGKILL)
    for _ in range(500):
        if not _alive(stdio.pid()):
            break
        await asyncio.sleep(0.01)
    assert (await stdio.call("greet", name="once more")).output == "hello once more"
    seen = stdio.seen()
    assert [seen.count(line) for line in ("crash", "greet again", "greet once more")] == [1, 1, 1]
    assert len([line for line in seen if line.startswith("started")]) == 3
    assert _processes(str(stdio.noted))
    await stdio.pool.close()
    assert not _processes(str(stdio.noted))


async def test_what_a_program_started_ends_with_it(stdio: Link) -> None:
    first = (await stdio.call("spawn")).output
    assert isinstance(first, int)
    # It has ended, and its child keeps the pipes open.
    with pytest.raises(McpCallUnknown, match="closed"):
        await stdio.call("crash")
    second = (await stdio.call("spawn")).output
    assert isinstance(second, int)
    await _gone(first)
    await stdio.pool.close()
    await _gone(second)


async def test_an_answer_beyond_all_bounds_costs_one_call_and_not_the_session(stdio: Link) -> None:
    running = asyncio.create_task(stdio.call("wait", seconds=3))
    await stdio.until("wait")
    with pytest.raises(McpCallUnknown, match="the limit is"):
        await stdio.call("shout", megabytes=20, timeout=60)
    assert "only its beginning" in str((await stdio.call("shout", megabytes=10, timeout=60)).output)
    assert (await running).output == "waited"
    assert len([line for line in stdio.seen() if line.startswith("started")]) == 1


async def test_a_program_that_reads_nothing_holds_a_call_no_longer_than_it_may(
    stdio: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_session, "WRITING_S", 0.1)
    frozen = asyncio.create_task(stdio.call("freeze", seconds=30, timeout=0.1))
    await stdio.until("freeze")
    # The first fills the pipe, the second waits behind it.
    for why in ("timed out", "in time"):
        with pytest.raises(McpCallUnknown, match=why):
            await stdio.call("greet", name="x" * 1_000_000, timeout=0.1)
    with pytest.raises(McpCallUnknown):
        await frozen
    assert stdio.seen().count("freeze") == 1


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_tools_that_are_new_are_offered(stdio: Link, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(mcp_session, "MODE", mode)
    before = await stdio.names()
    assert (await stdio.call("learn", name="juggle")).output == "learnt"
    for _ in range(500):
        if await stdio.names() != before:
            break
        await asyncio.sleep(0.01)
    assert set(await stdio.names()) - set(before) == {"test__juggle"}
    assert (await stdio.call("juggle")).output == "I learnt juggle"


async def test_a_server_over_http_goes_and_comes_back(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_pool, "PAUSE_S", 0.0)
    async with linked(web.noted, ServerSettings(url=f"http://127.0.0.1:{web.port}/mcp")) as link:
        assert await link.names() == ()
        with pytest.raises(McpUnavailable, match="does not answer"):
            await link.call("add", numbers=[1])
        await web.start()
        assert (await link.call("add", numbers=[1, 2])).output == {"total": 3, "of": [1, 2]}
        assert (await link.call("header", name="authorization")).output == "Bearer [redacted]"
        # A call that is given up is given up by the server as well; others in the same session go on.
        given_up, kept = (asyncio.create_task(link.call("wait", seconds=s)) for s in (60, 1))
        await link.until("wait")
        await asyncio.sleep(0.2)
        given_up.cancel()
        await link.until("cancelled")
        assert (await kept).output == "waited"
        cut = asyncio.create_task(link.call("wait", seconds=60))
        while link.seen().count("wait") < 3:
            await asyncio.sleep(0.02)
        web.kill()
        with pytest.raises(McpCallUnknown):
            await cut
        with pytest.raises(McpUnavailable):
            await link.call("greet", name="nobody")
        assert "test__add" in await link.names()
        await web.start()
        assert (await link.call("greet", name="ada")).output == "hello ada"
        assert link.seen().count("wait") == 3
        assert link.seen().count("greet ada") == 1


async def test_a_session_that_its_server_forgot_is_opened_anew(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_session, "MODE", "legacy")
    async with linked(web.noted, ServerSettings(url=f"http://127.0.0.1:{web.port}/mcp")) as link:
        await web.start()
        assert (await link.call("greet", name="ada")).output == "hello ada"
        web.kill()
        await web.start()
        assert (await link.call("greet", name="bob")).output == "hello bob"
        assert link.seen().count("greet bob") == 1


@pytest.mark.parametrize(("command", "why"), [
    (("/nowhere/server",), "No such file"),
    (("false",), "Connection closed"),
    (("yes",), "ready in time"),
    ((sys.executable, "-c", NONSENSE), "no MCP"),
])  # fmt: skip
async def test_a_program_that_is_no_server_is_unavailable(tmp_path: Path, command: tuple[str, ...], why: str) -> None:
    settings = ServerSettings(command=command, start_timeout_s=1)
    async with linked(tmp_path / "noted", settings) as link:
        with pytest.raises(McpUnavailable, match=why):
            await link.call("add", numbers=[1])
    assert not _processes(str(tmp_path))


def _processes(marker: str) -> list[str]:
    """Processes in whose environment a text stands."""
    found: list[str] = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and marker.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text())
    return found
