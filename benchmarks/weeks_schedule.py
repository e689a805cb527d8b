"""A day's schedule of 1,000 firings on the real server, made up for by backfills: none may be lost, none doubled.

The agents' activities pretend; server, schedule, firings and agents are real. The expected nominal times are computed
here, not asked of the server. A last backfill fires once more for times that were fired for: nothing may be sent.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.weeks_plan import Schedule
from benchmarks.weeks_results import tell
from hibernaut.contracts.names import AGENT_WORKFLOW, SCHEDULED_MESSAGE_WORKFLOW
from hibernaut.contracts.schedules import firing_agent_id, firing_message_id, schedule_id
from hibernaut.schedules import ScheduleHandle
from tests.integration.schedule_desk import Desk, open_desk
from tests.support.scripted_agents import temporal_server

FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)
AT_ONCE = 500
"""Firings of one backfill: the server buffers 999, an inbox holds 500."""
FRESH_AT_ONCE = 50
"""The same where each brings an agent of its own, with runs and timers of its own."""
AGAIN = 50
"""Of so many times there is a second backfill."""
LONGEST = 3_600.0
"""Seconds after which what is missing does not come."""


def nominal_times(every: int, count: int) -> list[datetime]:
    """The first times of the day: an interval counts from the epoch."""
    first = -(-int(FIRST_DAY.timestamp()) // every) * every
    return [datetime.fromtimestamp(first + number * every, UTC) for number in range(count)]


async def measure(plan: Schedule) -> dict[str, Any]:
    """One schedule that goes on with an agent, another with a fresh agent for each firing."""
    async with temporal_server() as server, open_desk(server.client) as desk:
        return {"agent": await _one_agent(desk, plan), "fresh": await _fresh_agents(desk, plan)}


async def _one_agent(desk: Desk, plan: Schedule) -> dict[str, Any]:
    agent = await desk.agent()
    schedule = await desk.schedule(agent=agent.id, cron=f"@every {plan.every}s", paused=True, message="report")
    times = nominal_times(plan.every, plan.firings)
    seconds, calls = await _backfill(desk, schedule, times, AT_ONCE)
    again = times[-AGAIN:]
    await schedule.backfill(again[0], again[-1], overlap="allow_all")
    await _ended(desk, schedule, len(times) + len(again))
    figures = count_messages(
        [firing_message_id(schedule.name, at) for at in times], await desk.messages(agent), "schedule, one agent"
    )
    if (turns := (await agent.status()).turn) != len(times):
        raise RuntimeError(f"{len(times)} firings led to {turns} turns")
    return {
        "every_s": plan.every,
        "span_hours": round((times[-1] - times[0]).total_seconds() / 3600, 2),
        "backfills": calls,
        **figures,
        "fired_again": len(again),
        "seconds": round(seconds),
    }


async def _fresh_agents(desk: Desk, plan: Schedule) -> dict[str, Any]:
    schedule = await desk.schedule(
        spec={"model": "scripted"}, cron=f"@every {plan.every}s", paused=True, message="report", keep=None
    )
    times = nominal_times(plan.every, plan.fresh)
    seconds, calls = await _backfill(desk, schedule, times, FRESH_AT_ONCE)
    sent: list[str] = []
    for at in times:
        agent = desk.client.get(firing_agent_id(schedule.name, at))
        sent += await desk.messages(agent)
    figures = count_messages([firing_message_id(schedule.name, at) for at in times], sent, "schedule, fresh agents")
    started = f"WorkflowType = '{AGENT_WORKFLOW}' AND WorkflowId STARTS_WITH '{schedule.name}-'"
    born = {run.id async for run in desk.client.temporal.list_workflows(started)}
    if strange := born - {firing_agent_id(schedule.name, at) for at in times}:
        raise RuntimeError(f"{len(strange)} agents were started that were never due, {min(strange)} among them")
    return {"backfills": calls, **figures, "seconds": round(seconds)}


async def _backfill(desk: Desk, schedule: ScheduleHandle, times: Sequence[datetime], at_once: int) -> tuple[float, int]:
    """Fire for all times, a part at once; the seconds it took, and the number of parts."""
    began, calls = time.monotonic(), 0
    for first in range(0, len(times), at_once):
        part = times[first : first + at_once]
        count = await schedule.backfill(part[0], part[-1], overlap="allow_all")
        if count != len(part):
            raise RuntimeError(f"{count} firings were due instead of {len(part)}")
        await _ended(desk, schedule, first + count)
        calls += 1
        tell(f"{schedule.name}: {first + count} firings in {time.monotonic() - began:.0f} s")
    return time.monotonic() - began, calls


async def _ended(desk: Desk, schedule: ScheduleHandle, wanted: int) -> None:
    """Wait until so many firings have ended well.

    Raises:
        TimeoutError: They have not.
    """
    ours = f"WorkflowType = '{SCHEDULED_MESSAGE_WORKFLOW}' AND TemporalScheduledById = '{schedule_id(schedule.name)}'"
    client = desk.client.temporal
    async with asyncio.timeout(LONGEST):
        while (await client.count_workflows(f"{ours} AND ExecutionStatus = 'Completed'")).count < wanted:
            ended = (await client.count_workflows(f"{ours} AND ExecutionStatus = 'Failed'")).count
            if ended:
                raise RuntimeError(f"{ended} firings failed")
            await asyncio.sleep(0.5)


def count_messages(expected: Sequence[str], sent: Sequence[str], what: str) -> dict[str, int]:
    """Compare ids of messages.

    Raises:
        RuntimeError: One that nobody expected was sent.
    """
    counts = Counter(sent)
    if strange := set(counts) - set(expected):
        raise RuntimeError(f"{what}: {sorted(strange)[:3]} were sent, and never due")
    return {
        "firings": len(expected),
        "lost": sum(1 for one in expected if one not in counts),
        "doubled": sum(1 for count in counts.values() if count > 1),
    }
