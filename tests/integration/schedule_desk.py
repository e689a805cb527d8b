"""Schedules on a real server, for agents whose activities pretend: what the tests of schedules share."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

from temporalio.client import Client

from activities.scheduling import ScheduleActivities
from hibernaut import AgentClient, AgentSpec
from hibernaut.agent import AgentHandle
from hibernaut.errors import GatewayFailed
from hibernaut.models import AgentStatus, Event, EventKind, EventsPage
from hibernaut.models.schedules import Firing, FiringState, ScheduleStatus
from hibernaut.schedules import ScheduleHandle
from tests.support.scripted_agents import Script, working

NEVER = "0 0 1 1 * 2099"
"""A cron expression that is not due while anybody tests."""
HOURS = datetime(2026, 1, 5, tzinfo=UTC)
"""A time of the past from which hourly schedules are backfilled."""
T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T | None]], seconds: float = 30) -> T:
    """What is seen at last."""
    async with asyncio.timeout(seconds):
        while not (found := await look()):
            await asyncio.sleep(0.05)
        return found


@dataclass
class Desk:
    """A client, what the agents pretend, and the schedules that were made."""

    client: AgentClient
    script: Script
    made: list[ScheduleHandle] = field(default_factory=list[ScheduleHandle])
    damaged: bool = False
    """Whether what the store has of the event log can be read no more."""

    async def agent(self) -> AgentHandle:
        return await self.client.start(f"agent-{uuid4().hex[:8]}", AgentSpec(model="scripted"))

    async def schedule(self, **options: object) -> ScheduleHandle:
        create: Any = self.client.schedules.create
        made: ScheduleHandle = await create(f"plan-{uuid4().hex[:8]}", **{"cron": NEVER, "message": "hello", **options})
        self.made.append(made)
        return made

    async def shown(self, schedule: ScheduleHandle, *states: FiringState, seconds: float = 30) -> list[Firing]:
        """Its firings, once they have these states, the newest first."""
        seen: list[Firing] = []

        async def look() -> bool:
            seen[:] = (await schedule.describe()).recent
            return [one.state for one in seen] == list(states)

        try:
            await until(look, seconds)
        except TimeoutError:
            raise AssertionError(f"never {states}: {seen}") from None
        return seen

    async def settled(self, schedule: ScheduleHandle, firings: int) -> ScheduleStatus:
        """The schedule, once so many were started and the newest ten of them are over."""
        status = await self.over(schedule, firings)
        assert status.firings == firings
        return status

    async def over(self, schedule: ScheduleHandle, firings: int = 1) -> ScheduleStatus:
        """The schedule, once so many were started at least, and none of the newest ten runs or waits."""

        async def look() -> ScheduleStatus | None:
            status = await schedule.describe()
            busy = {FiringState.RUNNING, FiringState.BUFFERED} & {one.state for one in status.recent}
            return status if status.firings >= firings and not busy else None

        return await until(look, 60)

    async def messages(self, agent: AgentHandle) -> list[str]:
        """Ids of the messages that the agent took, in order."""
        taken = [event for event in await self.events(await agent.status()) if event.kind is EventKind.MESSAGE]
        return [str(event.data["message_id"]) for event in taken]

    async def events(self, status: AgentStatus) -> list[Event]:
        """All that happened to an agent."""
        events = list(self.script.events.get(status.agent_uid, []))
        handle = self.client.temporal.get_workflow_handle(status.agent_id)
        since = events[-1].seq if events else 0
        return [*events, *(await handle.query("events", since, result_type=EventsPage)).events]

    async def turn_end(self, status: AgentStatus, message_id: str) -> Event | None:
        """What the worker finds in the store."""
        if self.damaged:
            raise GatewayFailed("The event log is damaged.")
        ends = {EventKind.TURN_FINISHED, EventKind.INTERRUPTED}
        found = [event for event in await self.events(status) if event.data.get("message_id") == message_id]
        return next((event for event in found if event.kind in ends), None)

    async def next_second(self) -> None:
        """Two firings by hand within a second are one."""
        now = datetime.now(UTC)
        await asyncio.sleep((now.replace(microsecond=0) + timedelta(seconds=1.01) - now).total_seconds())


@asynccontextmanager
async def open_desk(client: Client) -> AsyncGenerator[Desk]:
    """A worker with the real activities of schedules; its schedules are deleted with the block."""
    script, agents = Script(), AgentClient.over(client)
    desk = Desk(agents, script)
    scheduling = ScheduleActivities(agents, desk.turn_end)
    script.more = [scheduling.send, scheduling.wait, scheduling.stop, scheduling.finish]
    async with working(client, script):
        try:
            yield desk
        finally:
            script.gate.set()
            for schedule in desk.made:
                await schedule.delete()
