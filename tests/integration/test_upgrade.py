"""A new build of the worker, whose code cannot replay what the old one did: nobody notices."""

from collections.abc import AsyncIterator

import pytest
from temporalio.api.enums.v1 import EventType

from hibernaut.models import AgentState
from tests.support.builds import Builds, builds
from tests.support.next_build import NextAgentWorkflow
from tests.workflows.conftest import Rig
from tests.workflows.world import World, say, shell


@pytest.fixture
async def server() -> AsyncIterator[Builds]:
    async with builds() as one:
        yield one


async def _failed_tasks(rig: Rig, agent_id: str) -> int:
    """Workflow tasks of all runs that failed: a history that does not fit the code fails one after the other."""
    failed = 0
    async for run in rig.client.list_workflows(f"WorkflowId = '{agent_id}'"):
        handle = rig.client.get_workflow_handle(agent_id, run_id=run.run_id)
        async for event in handle.fetch_history_events():
            failed += event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    return failed


@pytest.mark.slow
async def test_an_agent_lives_across_an_upgrade_that_its_turns_could_not_replay(server: Builds) -> None:
    old, new = World(), World()
    rig = server.rig(old)
    async with server.build("1", old):
        await server.make_current("1")
        sleeper, awake, closed, chat = [await rig.start() for _ in range(4)]
        old.script = [say("closed soon"), shell("echo 1"), say("asleep soon"), say("a chat")]
        await rig.ask(closed, "go")
        await rig.order(closed, "close")
        await rig.client.get_workflow_handle(closed.id).result()
        await rig.ask(sleeper, "go")
        await rig.order(sleeper, "hibernate")
        await rig.until(sleeper, state=AgentState.HIBERNATED)
        await rig.ask(chat, "hello")
        old.block_model = True
        ticket = await rig.send(awake, "a long turn")
        await old.blocked.wait()
        async with server.build("2", new, NextAgentWorkflow):
            await server.make_current("2")
            new.script = [say("on the new build")]
            # Asleep: it wakes on the new build.
            assert (await rig.ask(sleeper, "wake")).text == "on the new build"
            assert len(new.requests) == 1
            assert len(new.kept) == 1
            # In the middle of a turn: it ends on the old one.
            old.script = [shell("echo 2"), say("to the end")]
            asked = len(old.requests)
            old.release()
            assert (await rig.answer(awake, ticket.message_id)).text == "to the end"
            assert len(old.requests) == asked + 1
            assert len(new.requests) == 1
            await server.pinned("1", 2)
            # Then it sleeps, and belongs to no build.
            await rig.order(awake, "hibernate")
            await rig.until(awake, state=AgentState.HIBERNATED)
            await rig.order(chat, "hibernate")
            await rig.until(chat, state=AgentState.HIBERNATED)
            await server.pinned("1", 0)
            await server.drained("1")
    async with server.build("2", new, NextAgentWorkflow):
        new.script = [say("new"), say("new too")]
        assert (await rig.ask(awake, "again")).text == "new"
        assert (await rig.ask(chat, "again")).text == "new too"
        assert (await rig.status(closed)).state is AgentState.CLOSED
        for agent in (sleeper, awake, closed, chat):
            assert await _failed_tasks(rig, agent.id) == 0


async def test_agents_of_an_unversioned_worker_go_over_to_the_first_build(server: Builds) -> None:
    before, after = World(), World()
    rig = server.rig(before)
    async with server.build(None, before):
        before.script = [shell("echo 1"), say("unversioned")]
        sleeper, awake = [await rig.start() for _ in range(2)]
        assert (await rig.ask(sleeper, "go")).text == "unversioned"
        await rig.order(sleeper, "hibernate")
        await rig.until(sleeper, state=AgentState.HIBERNATED)
        before.script = [shell("echo 2"), say("awake")]
        assert (await rig.ask(awake, "go")).text == "awake"
    async with server.build("1", after):
        await server.make_current("1")
        after.script = [say("of build 1"), say("of build 1 as well")]
        assert (await rig.ask(sleeper, "wake")).text == "of build 1"
        assert (await rig.ask(awake, "go on")).text == "of build 1 as well"
        await rig.order(awake, "hibernate")
        await rig.until(awake, state=AgentState.HIBERNATED)
    for agent in (sleeper, awake):
        assert await _failed_tasks(rig, agent.id) == 0


@pytest.mark.slow
async def test_what_is_new_is_taken_back(server: Builds) -> None:
    """An agent that slept under the new build wakes on the old one again."""
    old, new = World(), World()
    rig = server.rig(old)
    async with server.build("1", old), server.build("2", new, NextAgentWorkflow):
        await server.make_current("2")
        agent = await rig.start()
        new.script = [shell("echo 1"), say("new")]
        assert (await rig.ask(agent, "go")).text == "new"
        await rig.order(agent, "hibernate")
        await rig.until(agent, state=AgentState.HIBERNATED)
        await server.make_current("1")
        old.script = [say("old")]
        assert (await rig.ask(agent, "go")).text == "old"
        assert await _failed_tasks(rig, agent.id) == 0
