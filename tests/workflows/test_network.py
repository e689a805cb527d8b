"""Rules of an allowlist changed while the agent lives: carried, put in force, told to the model; connections told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from hibernaut import contracts as c
from hibernaut.contracts import limits
from hibernaut.models import AgentState, Event, EventKind, EventsPage
from hibernaut.models.network_change import NetworkChange, NetworkDecision, NetworkReport, NetworkStatus
from tests.workflows.branch_rig import BranchRig, branch_rig
from tests.workflows.conftest import Rig
from tests.workflows.world import GHOST, gone, say, shell

Agent = WorkflowHandle[Any, Any]
OPEN = {"network": {"mode": "allowlist", "allow": ["example.com"]}}


@pytest.fixture
async def branches(skipping: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[BranchRig]:
    async with branch_rig(skipping, tmp_path) as rig:
        yield rig


async def change(rig: Rig, agent: Agent, **fields: object) -> NetworkStatus:
    handle = rig.client.get_workflow_handle(agent.id)
    return await handle.execute_update("set_network", NetworkChange.model_validate(fields), result_type=NetworkStatus)


async def refusal(rig: Rig, agent: Agent, **fields: object) -> str:
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await change(rig, agent, **fields)
    cause = caught.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == "InvalidRequest"
    return cause.message


async def network(rig: Rig, agent: Agent) -> NetworkStatus:
    return await rig.query(agent, "network", result_type=NetworkStatus)


async def told(rig: Rig, agent: Agent, kind: EventKind) -> list[Event]:
    page = await rig.query(agent, "events", 0, result_type=EventsPage)
    return [event for event in page.events if event.kind is kind]


def notes(request: c.ModelRequest) -> list[str]:
    return [item.text for item in request.new_items if item.kind == "note"]


async def test_rules_reach_the_sandbox_at_once_and_the_model_with_its_next_request(rig: Rig) -> None:
    rig.world.script = [shell("1"), say("one"), say("two"), say("three")]
    agent = await rig.start(sandbox=OPEN)
    await rig.ask(agent, "go")
    assert (await rig.status(agent)).network is None
    status = await change(rig, agent, allow=["*.example.org", "example.com:443"], deny=["nobody.example"], by="ann")
    assert (status.allow, status.of_spec) == (("example.com", "*.example.org"), ("example.com",))
    assert (status.in_force, status.added, status.removed) == (True, ("*.example.org",), ())
    [order] = rig.world.applied
    assert (order.lease.sandbox_id, order.lease.generation, order.number) == ("container-1", 1, 1)
    assert order.network.allow == ("example.com", "*.example.org")
    [event] = await told(rig, agent, EventKind.NETWORK_CHANGED)
    assert event.data == {"allowed": ["*.example.org"], "denied": [], "rules": 2, "by": "ann"}
    assert event.summary == "network rules changed by ann: +*.example.org"
    # The same again is no change.
    assert await change(rig, agent, allow=["*.EXAMPLE.org."]) == status
    assert len(rig.world.applied) == 1
    await change(rig, agent, deny=["example.com"])
    await rig.ask(agent, "more")
    [note] = notes(rig.world.requests[-1])
    assert note == (
        "[hibernaut] The network rules of your computer were changed; it may now reach: *.example.org; "
        "it may no longer reach: example.com."
    )
    await rig.ask(agent, "and more")
    assert notes(rig.world.requests[-1]) == []
    known = (await rig.status(agent)).network
    assert known is not None
    assert known == await network(rig, agent)
    assert (known.added, known.removed) == (("*.example.org",), ("example.com",))


async def test_a_sleeping_agent_has_them_when_it_wakes_and_they_need_no_order_then(rig: Rig) -> None:
    rig.world.script = [shell("1"), say("one"), shell("2"), say("two")]
    agent = await rig.start(sandbox=OPEN)
    await rig.ask(agent, "go")
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    assert (await change(rig, agent, allow=["late.example"])).in_force
    await rig.ask(agent, "wake")
    assert rig.world.acquired[-1].spec.network.allow == ("example.com", "late.example")
    assert rig.world.applied == []
    assert len([note for note in notes(rig.world.requests[2]) if "late.example" in note]) == 1


async def test_they_outlive_runs_and_lost_containers(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.world.script = [shell("1"), say("one"), shell("2"), say("two")]
    agent = await rig.start(sandbox=OPEN)
    await rig.ask(agent, "go")
    await change(rig, agent, allow=["one.example"])
    monkeypatch.setattr(limits, "RUN_EVENTS", 10)
    rig.world.live.clear()
    await rig.ask(agent, "go on")
    assert rig.world.acquired[-1].generation == 2
    assert rig.world.acquired[-1].spec.network.allow == ("example.com", "one.example")
    status = await network(rig, agent)
    assert (status.allow, status.of_spec) == (("example.com", "one.example"), ("example.com",))
    first = await rig.client.get_workflow_handle(agent.id).describe()
    assert first.run_id != agent.first_execution_run_id
    monkeypatch.setattr(limits, "RUN_EVENTS", 4_000)
    await change(rig, agent, deny=["one.example"])
    assert (rig.world.applied[-1].lease.generation, rig.world.applied[-1].number) == (2, 2)


async def test_an_order_that_the_host_did_not_take_is_carried_out_before_the_next_command(rig: Rig) -> None:
    rig.world.script = [shell("1"), say("one"), shell("2"), say("two")]
    agent = await rig.start(sandbox=OPEN)
    await rig.ask(agent, "go")
    rig.world.apply_errors = [ApplicationError("no proxy", type="SandboxRefused", non_retryable=True)]
    status = await change(rig, agent, allow=["one.example"])
    assert (status.in_force, status.failure) == (False, "no proxy")
    rig.world.rules_asked.clear()
    rig.world.block_rules = True
    ticket = await rig.send(agent, "go on")
    await rig.world.rules_asked.wait()
    await _happens(lambda: len(rig.world.requests) == 3)
    assert len(rig.world.execs) == 1, "a command ran under the rules of before"
    rig.world.block_rules = False
    assert (await rig.answer(agent, ticket.message_id)).text == "two"
    assert (len(rig.world.execs), [one.number for one in rig.world.applied]) == (2, [1])
    assert (await network(rig, agent)).in_force


async def test_a_sandbox_that_is_lost_over_them_is_replaced_by_one_that_has_them(rig: Rig) -> None:
    rig.world.script = [shell("1"), say("one"), shell("2"), say("told"), shell("3"), say("three")]
    agent = await rig.start(sandbox=OPEN)
    await rig.ask(agent, "go")
    rig.world.live.clear()
    rig.world.apply_errors = [gone(), gone()]
    status = await change(rig, agent, allow=["one.example"])
    assert (status.in_force, status.failure) == (False, "the container is gone")
    assert (await rig.ask(agent, "go on")).text == "told"
    assert rig.world.acquired[-1].spec.network.allow == ("example.com", "one.example")
    assert rig.world.applied == []
    assert (await network(rig, agent)).in_force
    await rig.ask(agent, "and on")
    assert rig.world.execs[-1].lease.generation == 2


@pytest.mark.parametrize("taken", [True, False])
async def test_nothing_is_replayed_under_the_rules_of_before(rig: Rig, *, taken: bool) -> None:
    """Rules that are changed while the next container is made are not those that it is made with."""
    rig.world.script = [shell("make"), say("told"), say("end")]
    rig.world.snapshot_errors, rig.world.block_acquire = [gone()], 2
    agent = await rig.start(sandbox=OPEN, recovery="replay", retry_safe=["make"])
    ticket = await rig.send(agent, "go")
    await rig.world.acquire_asked.wait()
    await change(rig, agent, deny=["example.com"])
    rig.world.block_rules, rig.world.block_acquire = True, 0
    await rig.world.rules_asked.wait()
    if not taken:
        rig.world.apply_errors = [ApplicationError("no proxy", type="SandboxRefused", non_retryable=True)]
    # Time for what must not be.
    await asyncio.sleep(0.5)
    assert len(rig.world.execs) == 1, "a command ran under the rules of before"
    rig.world.block_rules = False
    assert (await rig.answer(agent, ticket.message_id)).text == "end"
    assert [one.exec_prefix.startswith("replay-") for one in rig.world.execs] == [False, *([True] if taken else [])]
    report = (await rig.status(agent)).last_recovery
    assert report is not None
    assert [done.command for done in report.replayed] == (["make"] if taken else [])
    assert report.lost_commands == ("make",)


@pytest.mark.slow
async def test_a_host_that_is_gone_loses_no_order(rig: Rig) -> None:
    rig.world.script = [shell("1"), say("one"), shell("2"), say("told")]
    rig.world.ghostly = {1}
    rig.world.place = GHOST
    async with Worker(rig.client, task_queue=c.host_queue(GHOST), activities=list(rig.world.activities())):
        agent = await rig.start(sandbox=OPEN)
        await rig.ask(agent, "go")
    rig.world.place = "test-host"
    asked = asyncio.create_task(change(rig, agent, allow=["one.example"]))
    for _ in range(60):
        await rig.skip(seconds=10)
        if asked.done():
            break
    assert not (await asked).in_force
    ticket = await rig.send(agent, "go on")
    for _ in range(60):
        await rig.skip(seconds=10)
        if len(rig.world.requests) == 4:
            break
    assert (await rig.answer(agent, ticket.message_id)).text == "told"
    assert rig.world.acquired[-1].spec.network.allow == ("example.com", "one.example")
    assert (await network(rig, agent)).in_force


async def test_what_cannot_be_changed_is_refused_with_what_helps(rig: Rig) -> None:
    closed = await rig.start()
    why = await refusal(rig, closed, allow=["example.com"])
    assert "has the mode none" in why
    assert "`--allow HOST`" in why
    everything = await rig.start(sandbox={"network": {"mode": "open"}})
    assert "has the mode open" in await refusal(rig, everything, deny=["example.com"])
    agent = await rig.start(sandbox={"network": {"mode": "allowlist", "allow": ["*.example.org"]}})
    assert "would still be reached by the rule *.example.org" in await refusal(rig, agent, deny=["a.example.org"])
    many = [f"host{number}.example" for number in range(200)]
    assert "it would have 201 rules" in await refusal(rig, agent, allow=many)
    assert (await network(rig, agent)).allow == ("*.example.org",)
    assert await told(rig, agent, EventKind.NETWORK_CHANGED) == []


async def test_a_fork_has_the_rules_of_its_source(branches: BranchRig) -> None:
    branches.branches.script = [shell("1"), say("one"), shell("2"), say("forked")]
    agent = await branches.start(sandbox=OPEN)
    await branches.ask(agent, "go")
    await change(branches, agent, allow=["one.example"])
    new_id = f"fork-of-{agent.id}"
    await branches.fork(agent, new_id)
    fork = branches.client.get_workflow_handle(new_id)
    await branches.until(fork, state=AgentState.HIBERNATED)
    await branches.ask(fork, "what if")
    assert branches.branches.acquired[-1].spec.network.allow == ("example.com", "one.example")
    assert (await network(branches, fork)).added == ()


async def test_a_branch_that_forgets_is_told_again(branches: BranchRig) -> None:
    branches.branches.script = [shell("1"), say("one"), say("two"), say("three")]
    agent = await branches.start(sandbox=OPEN)
    await branches.ask(agent, "go")
    await change(branches, agent, allow=["one.example"])
    await branches.ask(agent, "hear of it")
    await branches.rewind(agent, 0)
    await branches.ask(agent, "hear of it again")
    assert "it may now reach: one.example" in notes(branches.branches.requests[-1])[-1]
    assert (await network(branches, agent)).allow == ("example.com", "one.example")


async def test_connections_of_a_call_are_events_and_are_told_once(rig: Rig) -> None:
    rig.world.script = [shell("1"), shell("2"), say("done")]
    why = "blocked by policy: evil.example (not in the allowlist)"
    refused = NetworkDecision(host="evil.example", port=443, allowed=False, reason=why, count=3)
    allowed = NetworkDecision(host="example.com", port=443, allowed=True)
    rig.world.reports = [NetworkReport(decisions=(refused, allowed), more=7, mark="a:11")]
    agent = await rig.start(sandbox=OPEN)
    await rig.ask(agent, "go")
    first, second, rest = await told(rig, agent, EventKind.NETWORK)
    assert first.data == {"call_id": "call_1", **refused.model_dump(mode="json")}
    assert first.summary == f"refused evil.example:443 (3 times): {why}"
    assert (second.summary, second.data["count"]) == ("allowed example.com:443", 1)
    assert (rest.summary, rest.data) == ("and 7 connections more", {"call_id": "call_1", "more": 7})
    assert [request.network_mark for request in rig.world.execs] == ["", "a:11"]


async def _happens(condition: Any) -> None:  # noqa: ANN401  # a function
    for _ in range(600):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never happens")
