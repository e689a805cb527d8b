"""The sweep removes what certainly nobody holds, and says so first; everything else stays."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from temporalio.testing import ActivityEnvironment

from activities.adapters.local_store import LocalStore
from activities.errors import PreconditionFailed, SandboxUnavailable, StoreUnavailable
from activities.ports.agents import Standing
from activities.ports.sandbox import Owned
from activities.sweep import HostActivities, HostRecord, SweepActivities, reason_to_remove
from hibernaut.contracts import HostsRequest, StoreKeys, SweepRequest, SweepResult
from workers.agents import Held
from workers.registration import registered

HOST = "host-a"
AUDIT = StoreKeys.audit("1970-01-01", f"s1-{HOST}")
OPEN = Standing("open", "uid-a", 5)


def box(name: str = "c1", *, agent: str = "a", uid: str = "uid-a", generation: int = 5, age: float = 3600) -> Owned:
    created = datetime.now(UTC) - timedelta(seconds=age)
    return Owned(name, agent, uid, generation, running=True, paused=False, created_at=created)


@dataclass
class Host:
    """A host's containers, what Temporal knows of their agents, and what was done."""

    store: LocalStore
    containers: list[Owned] = field(default_factory=list[Owned])
    standings: dict[str, Standing | None] = field(default_factory=dict[str, Standing | None])
    asked: list[str] = field(default_factory=list[str])
    removed: list[str] = field(default_factory=list[str])
    forgotten: list[str] = field(default_factory=list[str])
    stuck: set[str] = field(default_factory=set[str])
    """Containers that cannot be removed at the moment."""
    audit_at_removal: list[list[str]] = field(default_factory=list[list[str]])
    """The containers that the audit log spoke of at each removal."""

    async def owned(self) -> list[Owned]:
        return list(self.containers)

    async def remove(self, sandbox_id: str) -> None:
        self.audit_at_removal.append([str(line["sandbox_id"]) for line in await self.lines()])
        if sandbox_id in self.stuck:
            raise SandboxUnavailable("busy")
        self.removed.append(sandbox_id)
        self.containers = [one for one in self.containers if one.sandbox_id != sandbox_id]

    async def forget(self, container_id: str) -> None:
        self.forgotten.append(container_id)

    async def standing(self, agent_id: str) -> Standing | None:
        self.asked.append(agent_id)
        return self.standings[agent_id]

    async def sweep(self) -> SweepResult:
        fake = cast("Any", self)
        activities = SweepActivities(HOST, fake, fake, self.store, self)
        return await ActivityEnvironment().run(activities.sweep, SweepRequest(host_id=HOST, sweep_id="s1"))

    async def lines(self) -> list[dict[str, object]]:
        found = await self.store.head(AUDIT)
        return [json.loads(line) for line in (await self.store.get(AUDIT)).splitlines()] if found else []


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def host(store: LocalStore) -> Host:
    return Host(store)


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (Standing("missing"), "agent gone"),
        (Standing("closed"), "agent closed"),
        (Standing("open", "uid-of-another", 9), "agent gone"),
        (Standing("open", "uid-of-another", 1), "agent gone"),
        (Standing("open", "uid-a", 6), "generation superseded"),
        (Standing("open", "uid-a", 5), None),
        (Standing("open", "uid-a", 4), None),
        (Standing("open", "uid-a", 5, asleep=True), "agent hibernated"),
        (Standing("open", "uid-a", 4, asleep=True), None),
        (Standing("open", "uid-a", 6, asleep=True), "generation superseded"),
        (Standing("open", "uid-of-another", 5, asleep=True), "agent gone"),
        (None, None),
    ],
)
def test_why_a_container_is_removed(standing: Standing | None, reason: str | None) -> None:
    assert reason_to_remove(box(generation=5), standing) == reason


@pytest.mark.parametrize(
    ("said", "asleep"),
    [
        ({"recovering": False, "lease": None, "acquiring": None}, True),
        ({"recovering": False, "lease": None, "acquiring": {"generation": 6, "host_id": "b"}}, False),
        ({"recovering": False, "lease": {"generation": 5, "host_id": "b"}, "acquiring": None}, False),
        ({"recovering": True, "lease": None, "acquiring": None}, False),
        ({"recovering": False, "lease": None}, False),
        ({"lease": None, "acquiring": None}, False),
    ],
)
def test_an_agent_sleeps_when_it_says_all_of_it(said: dict[str, object], *, asleep: bool) -> None:
    assert Held.model_validate({"agent_uid": "uid-a", "generation": 5, **said}).asleep is asleep


async def test_orphans_go_with_a_line_each_and_the_living_stay(host: Host) -> None:
    host.containers = [
        box("live"),
        box("old", generation=4),
        box("closed", agent="b", uid="uid-b", generation=1),
        box("gone", agent="c", uid="uid-c", generation=2),
        box("unknown", agent="d", uid="uid-d"),
    ]
    host.standings = {"a": OPEN, "b": Standing("closed"), "c": Standing("missing"), "d": None}
    result = await host.sweep()
    assert sorted(host.removed) == ["closed", "gone", "old"]
    assert host.forgotten == host.removed
    assert sorted(host.asked) == ["a", "b", "c", "d"], "each agent once"
    assert (result.kept, result.audit_ref) == (2, AUDIT)
    assert {(one.sandbox_id, one.reason) for one in result.removed} == {
        ("old", "generation superseded"),
        ("closed", "agent closed"),
        ("gone", "agent gone"),
    }
    lines = {str(line["sandbox_id"]): line for line in await host.lines()}
    assert set(lines) == {"old", "closed", "gone"}
    line = lines["gone"]
    assert datetime.fromisoformat(str(line.pop("at"))).tzinfo is not None
    assert line == {
        "actor": "housekeeping",
        "host_id": HOST,
        "action": "sandbox.remove",
        "sandbox_id": "gone",
        "agent_id": "c",
        "agent_uid": "uid-c",
        "generation": 2,
        "reason": "agent gone",
    }


async def test_a_line_comes_before_its_removal(host: Host) -> None:
    host.containers = [box("one"), box("two")]
    host.standings = {"a": Standing("missing")}
    await host.sweep()
    assert host.audit_at_removal == [["one", "two"], ["one", "two"]]


async def test_a_container_being_acquired_is_not_even_asked_for(host: Host) -> None:
    host.containers = [box("young", age=100), box("from a clock ahead", age=-500)]
    result = await host.sweep()
    assert (host.asked, host.removed, result.kept, result.audit_ref) == ([], [], 2, None)
    assert await host.lines() == []


async def test_without_an_audit_line_nothing_is_removed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.containers = [box()]
    host.standings = {"a": Standing("missing")}

    async def away(key: str, data: bytes, *, if_match: str | None) -> str:
        del key, data, if_match
        raise StoreUnavailable("away")

    monkeypatch.setattr(host.store, "replace", away)
    with pytest.raises(StoreUnavailable):
        await host.sweep()
    assert host.removed == []


async def test_a_retry_keeps_the_lines_and_the_removals_of_the_attempt_before(host: Host) -> None:
    host.containers = [box("one"), box("two"), box("live", agent="b", uid="uid-b")]
    host.standings = {"a": Standing("missing"), "b": Standing("open", "uid-b", 5)}
    host.stuck = {"one"}
    with pytest.raises(SandboxUnavailable):
        await host.sweep()
    assert host.removed == ["two"], "one that cannot be removed holds no other up"
    host.stuck = set()
    host.containers.append(box("three"))
    result = await host.sweep()
    assert [line["sandbox_id"] for line in await host.lines()] == ["one", "two", "three"]
    assert [one.sandbox_id for one in result.removed] == ["one", "two", "three"]
    assert result.kept == 1


async def test_a_line_whose_container_stayed_is_not_reported_as_a_removal(host: Host) -> None:
    host.containers = [box("one")]
    host.standings = {"a": Standing("missing")}
    host.stuck = {"one"}
    with pytest.raises(SandboxUnavailable):
        await host.sweep()
    host.standings = {"a": None}
    result = await host.sweep()
    assert (result.removed, result.kept, len(await host.lines())) == ((), 1, 1)


async def test_two_attempts_at_once_lose_no_line(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.containers = [box("one")]
    host.standings = {"a": Standing("missing")}
    other = Host(host.store, [box("two")], {"a": Standing("missing")})
    replace = host.store.replace
    races = 0

    async def raced(key: str, data: bytes, *, if_match: str | None) -> str:
        nonlocal races
        if races == 0:
            races += 1
            await other.sweep()
            with pytest.raises(PreconditionFailed):
                await replace(key, data, if_match=if_match)
            raise PreconditionFailed("another was first")
        return await replace(key, data, if_match=if_match)

    monkeypatch.setattr(host.store, "replace", raced)
    await host.sweep()
    assert sorted(str(line["sandbox_id"]) for line in await host.lines()) == ["one", "two"]


async def test_hosts_are_those_seen_lately(store: LocalStore) -> None:
    async def put(host_id: str, days: float, key: str | None = None) -> None:
        record = HostRecord(host_id=host_id, seen_at=datetime.now(UTC) - timedelta(days=days), version="1")
        await store.put(key or StoreKeys.host(host_id), record.model_dump_json().encode())

    await put("recent", 29)
    await put("now.example", 0)
    await put("long-gone", 31)
    await put("under-another-name", 0, StoreKeys.host("thief"))
    await store.put(StoreKeys.host("broken"), b"{")
    result = await ActivityEnvironment().run(HostActivities(store).list, HostsRequest())
    assert result.hosts == ("now.example", "recent")


async def test_a_worker_registers_its_host_again_and_again(store: LocalStore) -> None:
    key = StoreKeys.host("h1")
    async with registered(store, "h1", interval_s=0.01):
        first = HostRecord.model_validate_json(await store.get(key))
        while HostRecord.model_validate_json(await store.get(key)).seen_at == first.seen_at:
            await asyncio.sleep(0.01)
    assert (first.format, first.host_id) == ("hibernaut-host/1", "h1")


async def test_a_store_that_is_away_stops_no_worker(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(key: str, data: bytes, *, if_none_match: bool = False) -> None:
        del key, data, if_none_match
        raise StoreUnavailable("away")

    monkeypatch.setattr(store, "put", away)
    async with registered(store, "h1"):
        pass
    assert "h1 could not be registered: away" in caplog.text
