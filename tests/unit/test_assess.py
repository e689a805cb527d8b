"""sandbox.assess and host.ping, on a pretended daemon: every state a container can be found in."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import cast

import pytest
from temporalio.testing import ActivityEnvironment

from activities import host
from activities.errors import SandboxError, SandboxLost, SandboxRefused, SandboxUnavailable
from activities.host import AssessActivities, PingActivities
from activities.ports.sandbox import ContainerState, Owned, Sandboxes
from hibernaut.contracts import AssessRequest, AssessResult, PingRequest
from hibernaut.models import LeaseStatus

BORN = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T01:00:00Z"
LEASE = LeaseStatus(
    generation=3, host_id="h", task_queue="q", sandbox_id="c" * 64, image_id="i", started_at=BORN, lease_seconds=7
)


@dataclass
class Pretended:
    """One container of a daemon, and the marks of a watchdog."""

    state: ContainerState | None = None
    refuses: list[SandboxError] = field(default_factory=list[SandboxError])
    """What the next starts are answered with."""
    ends_at_once: bool = False
    silent: bool = False
    superseded: bool = False
    marked: bool = False
    done: list[str] = field(default_factory=list[str])

    async def inspect(self, sandbox_id: str) -> ContainerState:
        assert sandbox_id == LEASE.sandbox_id
        if self.silent:
            raise SandboxUnavailable("no Docker daemon answers")
        if self.state is None:
            raise SandboxLost("no such container")
        return self.state

    async def start(self, sandbox_id: str) -> str:
        self.done.append("start")
        if self.refuses:
            raise self.refuses.pop(0)
        self.state = state(running=not self.ends_at_once, started_at=LATER)
        return (await self.inspect(sandbox_id)).started_at

    async def unpause(self, sandbox_id: str) -> None:
        assert sandbox_id == LEASE.sandbox_id
        assert not self.marked, "a mark set after this must stay"
        self.done.append("unpause")
        if self.state is None or not self.state.running:
            raise SandboxLost("no such container, or it does not run")
        self.state = replace(self.state, paused=False)

    async def owned(self) -> list[Owned]:
        if self.silent:
            raise SandboxUnavailable("no Docker daemon answers")
        return [Owned("c" * 64, "a", "u", 1, running=True, paused=False, created_at=datetime.now(UTC))]

    async def wanted(self, task_token: bytes) -> bool:
        assert task_token
        return not self.superseded

    def holds(self, container_id: str) -> bool:
        assert container_id == LEASE.sandbox_id
        return self.marked

    def release(self, container_id: str) -> None:
        assert container_id == LEASE.sandbox_id
        self.marked = False
        self.done.append("release")


def state(
    *,
    running: bool = True,
    paused: bool = False,
    started_at: str = BORN,
    exit_code: int | None = None,
    oom: bool = False,
    runtime: str = "runc",
) -> ContainerState:
    return ContainerState(
        running=running,
        paused=paused,
        started_at=started_at,
        exit_code=exit_code,
        oom_killed=oom,
        runtime=runtime,
        labels={},
    )


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "START_PAUSE_S", 0.0)


async def assess(daemon: Pretended, lease: LeaseStatus = LEASE) -> AssessResult:
    activities = AssessActivities(cast("Sandboxes", daemon), daemon, daemon.wanted, 20.0)
    return await ActivityEnvironment().run(activities.assess, AssessRequest(agent_uid="u", lease=lease))


async def test_one_that_runs_as_the_lease_says() -> None:
    result = await assess(Pretended(state()))
    assert (result.state, result.lease) == ("running", LEASE.model_copy(update={"lease_seconds": 20.0}))


async def test_a_lease_that_does_not_know_its_start_learns_it() -> None:
    result = await assess(Pretended(state()), LEASE.model_copy(update={"started_at": ""}))
    assert (result.state, result.lease.started_at) == ("running", BORN)


async def test_one_that_is_frozen_goes_on_once_its_mark_is_gone() -> None:
    daemon = Pretended(state(paused=True))
    result = await assess(daemon)
    assert (result.state, result.reason) == ("running", "it was frozen and goes on")
    assert daemon.done == ["release", "unpause"]


async def test_one_that_is_marked_is_thawed_before_anything_is_asked_about_it() -> None:
    daemon = Pretended(state(paused=True), marked=True)
    result = await assess(daemon)
    assert (result.state, result.reason) == ("running", "it was frozen and goes on")
    assert daemon.done == ["release", "unpause"]


async def test_one_that_ended_or_was_removed_while_it_was_marked() -> None:
    assert (await assess(Pretended(state(running=False, exit_code=1), marked=True))).state == "restarted"
    assert (await assess(Pretended(None, marked=True))).state == "gone"


async def test_one_that_is_marked_and_no_longer_asked_for_keeps_its_mark() -> None:
    daemon = Pretended(state(paused=True), marked=True, superseded=True)
    with pytest.raises(SandboxUnavailable, match="does not ask for it any more"):
        await assess(daemon)
    assert (daemon.done, daemon.marked) == ([], True)


async def test_one_that_was_restarted_is_told_apart_from_one_that_runs_on() -> None:
    result = await assess(Pretended(state(started_at=LATER)))
    assert (result.state, result.lease.started_at) == ("restarted", LATER)
    assert LATER in result.reason


async def test_one_that_stopped_is_started_where_it_is() -> None:
    daemon = Pretended(state(running=False, exit_code=137, oom=True))
    result = await assess(daemon)
    assert (result.state, result.lease.started_at) == ("restarted", LATER)
    assert "ran out of memory and ended with exit code 137" in result.reason


@pytest.mark.parametrize("runtime", ["runsc", "kata", "runsc-kvm"])
@pytest.mark.parametrize("found", [{"running": False, "exit_code": 2}, {"started_at": LATER}])
async def test_other_runtimes_lose_the_files_with_the_processes(runtime: str, found: dict[str, object]) -> None:
    daemon = Pretended(state(runtime=runtime, **found))  # pyright: ignore[reportArgumentType]
    result = await assess(daemon)
    assert (result.state, result.lease) == ("gone", LEASE)
    assert f"loses its files under {runtime}" in result.reason
    assert "start" not in daemon.done


async def test_one_that_was_removed() -> None:
    result = await assess(Pretended(None))
    assert (result.state, result.reason) == ("gone", "its container was removed")


@pytest.mark.parametrize("error", [SandboxRefused("bad mount"), SandboxLost("marked for removal")])
async def test_one_that_cannot_be_started_is_gone_with_the_reason(error: SandboxError) -> None:
    result = await assess(Pretended(state(running=False, exit_code=1), refuses=[error]))
    assert result.state == "gone"
    assert f"exit code 1, and it cannot be started again: {error}" in result.reason


async def test_a_daemon_that_fails_is_tried_again() -> None:
    daemon = Pretended(state(running=False, exit_code=1), refuses=[SandboxUnavailable("the daemon failed: busy")])
    assert (await assess(daemon)).state == "restarted"


async def test_one_that_never_starts_is_gone() -> None:
    daemon = Pretended(state(running=False, exit_code=1), refuses=[SandboxUnavailable("broken")] * 9)
    result = await assess(daemon)
    assert (result.state, daemon.done.count("start")) == ("gone", host.START_TRIES)
    assert "broken" in result.reason
    daemon = Pretended(state(running=False, exit_code=1), ends_at_once=True)
    assert "ended again at once" in (await assess(daemon)).reason


@pytest.mark.parametrize("found", [state(paused=True), state(running=False, exit_code=1)])
async def test_a_task_that_was_long_on_its_way_wakes_nothing(found: ContainerState) -> None:
    daemon = Pretended(found, superseded=True)
    with pytest.raises(SandboxUnavailable, match="does not ask for it any more"):
        await assess(daemon)
    assert daemon.done == []


async def test_a_daemon_that_is_away_says_nothing_about_the_sandbox() -> None:
    with pytest.raises(SandboxUnavailable):
        await assess(Pretended(state(), silent=True))


async def test_a_ping_is_answered_whatever_the_daemon_does() -> None:
    daemon = Pretended(state())
    activities = PingActivities("h", cast("Sandboxes", daemon))
    first = await ActivityEnvironment().run(activities.ping, PingRequest(host_id="h"))
    assert (first.host_id, first.sandboxes) == ("h", 1)
    daemon.silent = True
    assert await ActivityEnvironment().run(activities.ping, PingRequest(host_id="h")) == first
