"""One session a server: opened when needed, kept, opened again, and never a call sent twice."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from activities import mcp_pool
from activities.mcp_errors import McpCallUnknown, McpRejected, McpUnavailable
from activities.mcp_pool import McpPool
from activities.mcp_settings import Server, ServerSettings
from activities.ports.mcp import ListedTool, ToolAnswer
from hibernaut.contracts import McpCallRequest, McpCallResult, McpOffer

OFFER = (McpOffer(server="s"),)


@dataclass
class Fake:
    """A session that does what it is told."""

    names: tuple[str, ...] = ("a",)
    errors: list[Exception] = field(default_factory=list[Exception])
    listing_errors: list[Exception] = field(default_factory=list[Exception])
    alive: bool = True
    changes: int = 0
    listed: int = 0
    called: list[str] = field(default_factory=list[str])
    closed: bool = False

    async def tools(self) -> tuple[ListedTool, ...]:
        self.listed += 1
        if self.listing_errors:
            raise self.listing_errors.pop(0)
        return tuple(ListedTool(name, "d", {"type": "object"}) for name in self.names)

    async def call(self, name: str, arguments: Mapping[str, Any], timeout_s: float) -> ToolAnswer:
        del arguments, timeout_s
        self.called.append(name)
        if self.errors:
            raise self.errors.pop(0)
        return ToolAnswer(({"type": "text", "text": f"{name} done"},), None, is_error=False)

    async def close(self) -> None:
        self.alive, self.closed = False, True


class Fakes:
    """Opens one session after the other."""

    def __init__(self, *sessions: Fake | Exception) -> None:
        self.left = list(sessions)
        self.opened: list[Fake] = []

    async def __call__(self, server: Server) -> Fake:
        del server
        await asyncio.sleep(0)
        found = self.left.pop(0)
        if isinstance(found, Exception):
            raise found
        self.opened.append(found)
        return found

    def pool(self, refresh_s: float = 300) -> McpPool:
        settings = ServerSettings(command=("x",), refresh_s=refresh_s)
        return McpPool({"s": Server(name="s", settings=settings)}, self)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_pool, "AGAIN_S", 0.0)


async def call(pool: McpPool, tool: str = "s__a", server: str = "s") -> McpCallResult:
    return await pool.call(McpCallRequest(server=server, tool=tool, arguments={}, timeout=timedelta(seconds=1)))


def away(*, session_gone: bool = False) -> McpUnavailable:
    return McpUnavailable("it is away", session_gone=session_gone)


async def test_a_session_is_opened_once_and_its_tools_listed_once() -> None:
    fakes = Fakes(Fake())
    pool = fakes.pool()
    offered = await asyncio.gather(*(pool.offered(OFFER) for _ in range(5)))
    assert {one.tools.names for one in offered} == {("s__a",)}
    assert (await call(pool)).output == "a done"
    assert fakes.opened[0].listed == 1
    await pool.close()
    assert fakes.opened[0].closed


async def test_tools_are_listed_again_when_they_changed_and_when_they_are_old() -> None:
    fake = Fake()
    pool = Fakes(fake).pool()
    await pool.offered(OFFER)
    fake.names, fake.changes = ("b",), 1
    assert (await pool.offered(OFFER)).tools.names == ("s__b",)
    old = Fakes(Fake()).pool(refresh_s=0.000_001)
    await old.offered(OFFER)
    assert old._connections["s"]._session is not None
    await old.offered(OFFER)
    assert fake.listed == 2


async def test_a_server_that_never_answered_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = Fakes(away(), away(), Fake())
    pool = fakes.pool()
    assert (await pool.offered(OFFER)).absent == ("s",)
    # For a while it is not tried again.
    assert (await pool.offered(OFFER)).absent == ("s",)
    assert len(fakes.left) == 1
    monkeypatch.setattr(pool._connections["s"], "_paused_until", 0.0)
    assert (await pool.offered(OFFER)).present == ("s",)


async def test_the_last_known_tools_are_offered_while_the_server_is_away() -> None:
    fake = Fake()
    fakes = Fakes(fake, away(), away())
    pool = fakes.pool(refresh_s=0.000_001)
    await pool.offered(OFFER)
    fake.alive = False
    assert (await pool.offered(OFFER)).tools.names == ("s__a",)
    assert fake.closed
    assert fakes.left == []


async def test_a_session_that_was_forgotten_is_opened_anew_for_the_listing() -> None:
    fakes = Fakes(Fake(listing_errors=[away(session_gone=True)]), Fake(names=("b",)))
    assert (await fakes.pool().offered(OFFER)).tools.names == ("s__b",)
    assert fakes.opened[0].closed


async def test_a_call_that_was_not_sent_is_sent_in_a_new_session() -> None:
    fakes = Fakes(Fake(errors=[away(session_gone=True)]), Fake())
    pool = fakes.pool()
    assert (await call(pool)).output == "a done"
    assert [one.called for one in fakes.opened] == [["a"], ["a"]]


async def test_a_call_that_may_have_been_sent_is_not_sent_again() -> None:
    fakes = Fakes(Fake(errors=[McpCallUnknown("cut")]), Fake())
    pool = fakes.pool()
    with pytest.raises(McpCallUnknown):
        await call(pool)
    assert [one.called for one in fakes.opened] == [["a"]]


async def test_a_call_to_a_server_that_stays_away_says_why() -> None:
    fakes = Fakes(*(away() for _ in range(4)))
    with pytest.raises(McpUnavailable, match="it is away"):
        await call(fakes.pool())


async def test_a_tool_that_is_gone_is_told_and_one_that_is_new_is_found() -> None:
    fake = Fake()
    pool = Fakes(fake).pool()
    assert "no such tool" in ((await call(pool, "s__b")).error or "")
    fake.names = ("b",)
    assert (await call(pool, "s__b")).output == "b done"


async def test_a_server_nobody_configured_is_named() -> None:
    pool = Fakes().pool()
    for asked in (pool.offered([McpOffer(server="t")]), call(pool, server="t")):
        with pytest.raises(McpRejected, match="no MCP server 't' on this worker; it knows s"):
            await asked
    with pytest.raises(McpRejected, match="HIBERNAUT_MCP_SERVERS"):
        await McpPool().offered(OFFER)
    assert (await McpPool().offered(())).tools.names == ()


async def test_what_an_agent_is_offered_is_worked_out_once_a_listing() -> None:
    fake = Fake()
    pool = Fakes(fake).pool()
    first = (await pool.offered(OFFER)).tools
    fake.changes = 1
    assert (await pool.offered(OFFER)).tools is first
    fake.names, fake.changes = ("a", "b"), 2
    assert (await pool.offered(OFFER)).tools.names == ("s__a", "s__b")
    assert (await pool.offered([McpOffer(server="s", tools=("b",))])).tools.names == ("s__b",)


async def test_a_refused_call_leaves_those_of_others_alone() -> None:
    """The session is shared: 429 for one is no reason to cut the others off."""
    fake = Fake(errors=[away()])
    fakes = Fakes(fake)
    assert (await call(fakes.pool())).output == "a done"
    assert fake.called == ["a", "a"]
    assert not fake.closed


class Slow(Fake):
    """Answers when it is told to, unless it has forgotten the session."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def call(self, name: str, arguments: Mapping[str, Any], timeout_s: float) -> ToolAnswer:
        if not self.asked.is_set():
            self.asked.set()
            await self.go.wait()
        return await super().call(name, arguments, timeout_s)


async def test_a_session_that_one_call_cannot_use_is_closed_when_its_other_calls_have_ended() -> None:
    slow, new = Slow(), Fake()
    pool = Fakes(slow, new).pool()
    running = asyncio.create_task(call(pool))
    await slow.asked.wait()
    slow.errors = [away(session_gone=True)]
    assert (await call(pool)).output == "a done"
    assert (new.called, slow.closed) == (["a"], False)
    slow.go.set()
    assert (await running).output == "a done"
    assert slow.closed
    assert not new.closed


async def test_a_session_that_no_longer_answers_is_opened_anew_unless_it_is_in_use() -> None:
    silent, new = Fake(), Fake(names=("b",))
    pool = Fakes(silent, new).pool(refresh_s=0.000_001)
    await pool.offered(OFFER)
    silent.listing_errors = [away()]
    assert (await pool.offered(OFFER)).tools.names == ("s__a",)
    assert silent.closed
    pool._connections["s"]._paused_until = 0.0
    assert (await pool.offered(OFFER)).tools.names == ("s__b",)

    slow = Slow()
    busy = Fakes(slow).pool(refresh_s=0.000_001)
    running = asyncio.create_task(call(busy))
    await slow.asked.wait()
    slow.listing_errors = [away()]
    await busy.offered(OFFER)
    slow.go.set()
    assert (await running).output == "a done"
    assert not slow.closed


async def test_one_that_kept_its_callers_waiting_long_is_left_alone_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("activities.mcp_pool.time.monotonic", lambda: now)

    async def opens(server: Server) -> Fake:
        nonlocal now
        del server
        now += 30
        raise away()

    pool = McpPool({"s": Server(name="s", settings=ServerSettings(command=("x",)))}, opens)
    await pool.offered(OFFER)
    # Not tried twice, either.
    assert now == 1_030
    now += 119
    await pool.offered(OFFER)
    assert now == 1_149
    now += 2
    await pool.offered(OFFER)
    assert now == 1_181


async def test_tools_are_not_remembered_under_the_version_of_others() -> None:
    """A second server takes its time; meanwhile the first one's tools change."""
    fake, slow, go = Fake(), Fake(names=("x",)), asyncio.Event()

    async def opens(server: Server) -> Fake:
        if server.name == "t":
            await go.wait()
            return slow
        return fake

    servers = {name: Server(name=name, settings=ServerSettings(command=("x",))) for name in ("s", "t")}
    pool = McpPool(servers, opens)
    offers = (*OFFER, McpOffer(server="t"))
    first = asyncio.create_task(pool.offered(offers))
    while pool._connections["s"].tools is None:
        await asyncio.sleep(0.001)
    fake.names, fake.changes = ("b",), 1
    assert (await pool.offered(OFFER)).tools.names == ("s__b",)
    go.set()
    assert (await first).tools.names == ("s__b", "t__x")
    assert (await pool.offered(offers)).tools.names == ("s__b", "t__x")


async def test_a_tool_that_a_spec_names_and_its_server_lacks_is_said(caplog: pytest.LogCaptureFixture) -> None:
    fake = Fake()
    pool = Fakes(fake).pool()
    offered = await pool.offered([McpOffer(server="s", tools=("a", "z", "y"))])
    assert (offered.tools.names, offered.lacking) == (("s__a",), (("s", ("y", "z")),))
    assert "names tools that it does not offer: y, z" in caplog.text
