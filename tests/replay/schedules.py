"""Scenarios of schedules; recorded by `tests.replay.record`."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WorkflowHandle

from activities.scheduling import ScheduleActivities
from hibernaut import AgentClient
from hibernaut.models import AgentStatus, Answer, Event
from hibernaut.models.schedules import Firing, FiringState
from hibernaut.schedules import ScheduleHandle
from tests.workflows.conftest import Rig
from tests.workflows.world import say

NEVER = "0 0 1 1 * 2099"
Firings = WorkflowHandle[Any, Any]


def scheduling(client: Client) -> list[Callable[..., Any]]:
    """The activities of schedules."""

    async def never(_: AgentStatus, message_id: str) -> Event | None:
        raise AssertionError(f"{message_id} is forgotten")

    real = ScheduleActivities(AgentClient.over(client), never)
    return [real.send, real.wait, real.stop, real.finish]


async def scheduled(rig: Rig) -> Firings:
    """A firing that continues an agent, which waits for a person first."""
    rig.world.script = [say("done")]
    agent = await rig.start()
    await rig.order(agent, "pause", "lunch")
    schedule = await _schedule(rig, agent=agent.id)
    await schedule.trigger()
    await _firing(schedule, FiringState.RUNNING)
    await asyncio.sleep(2)
    await rig.order(agent, "resume")
    return await _ended(rig, schedule, FiringState.DONE)


async def scheduled_fresh(rig: Rig) -> Firings:
    """A firing with an agent of its own."""
    rig.world.script = [say("done")]
    schedule = await _schedule(rig, spec={"model": "scripted"}, keep=1)
    await schedule.trigger()
    return await _ended(rig, schedule, FiringState.DONE)


async def scheduled_stopped(rig: Rig) -> Firings:
    """A firing that is cancelled while its turn runs."""
    rig.world.block_model = True
    agent = await rig.start()
    schedule = await _schedule(rig, agent=agent.id)
    await schedule.trigger()
    await rig.world.blocked.wait()
    firing = await _firing(schedule, FiringState.RUNNING)
    await rig.client.get_workflow_handle(str(firing.workflow_id)).cancel()
    return await _ended(rig, schedule, FiringState.CANCELLED)


async def scheduled_limited(rig: Rig) -> Firings:
    """A firing with a run timeout that is not used up."""
    rig.world.script = [say("done")]
    agent = await rig.start()
    schedule = await _schedule(rig, agent=agent.id, run_timeout=timedelta(minutes=10))
    await schedule.trigger()
    return await _ended(rig, schedule, FiringState.DONE)


async def scheduled_late(rig: Rig) -> Firings:
    """A firing whose time is up before its turn has begun."""
    agent = await rig.start()
    await rig.order(agent, "pause", "lunch")
    schedule = await _schedule(rig, agent=agent.id, run_timeout=timedelta(seconds=2))
    await schedule.trigger()
    return await _ended(rig, schedule, FiringState.FAILED)


async def withdrawn(rig: Rig) -> Firings:
    """An agent from which messages are taken back: one that waits, one that has not come, the one of its turn."""
    rig.world.block_model = True
    agent = await rig.start()
    await rig.send(agent, "go", "m1")
    await rig.world.blocked.wait()
    await rig.send(agent, "wait", "m2")
    handle = rig.client.get_workflow_handle(agent.id)
    for message_id in ("m2", "m3", "m1"):
        await handle.execute_update("withdraw", message_id, result_type=Answer)
    await rig.answer(agent, "m1")
    rig.world.release()
    rig.world.script = [say("done")]
    await rig.ask(agent, "and now?")
    await rig.order(agent, "interrupt", "m1")
    return agent


async def _schedule(rig: Rig, **options: object) -> ScheduleHandle:
    create: Any = AgentClient.over(rig.client).schedules.create
    made: ScheduleHandle = await create("weekly", **{"cron": NEVER, "message": "go", **options})
    return made


async def _firing(schedule: ScheduleHandle, state: FiringState) -> Firing:
    for _ in range(600):
        recent = (await schedule.describe()).recent
        if recent and recent[0].state is state:
            return recent[0]
        await asyncio.sleep(0.05)
    raise AssertionError(f"never {state}")


async def _ended(rig: Rig, schedule: ScheduleHandle, state: FiringState) -> Firings:
    firing = await _firing(schedule, state)
    await schedule.delete()
    return rig.client.get_workflow_handle(str(firing.workflow_id))


SCHEDULING: tuple[Callable[[Rig], Awaitable[Firings]], ...] = (
    *(scheduled, scheduled_fresh, scheduled_stopped, scheduled_limited, scheduled_late),
    withdrawn,
)
