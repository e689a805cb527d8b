"""Weeks of an agent: what steps leave in the history, what sleep costs, how long a wake takes, a day's schedule.

`make bench-weeks`; ARGS="--part life" measures one part and leaves the results of the others as they are; ARGS=--quick
does little of everything and writes nothing.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from benchmarks import weeks_asleep, weeks_life, weeks_schedule, weeks_wake
from benchmarks.weeks_engine import engine
from benchmarks.weeks_plan import Plan, plan_of
from benchmarks.weeks_results import measured, report, tell


async def measure(plan: Plan) -> dict[str, dict[str, Any]]:
    """Measure the parts of the plan, one after the other, and report each."""
    found: dict[str, dict[str, Any]] = {}

    async def part(name: str, figures: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> None:
        if name in plan.parts:
            tell(name)
            found[name] = {**await figures(), "measured": await asyncio.to_thread(measured)}
            # At once: what a later part runs into does not cost what this one found.
            await asyncio.to_thread(report, {name: found[name]}, keep=plan.keep)

    await part("life", lambda: weeks_life.measure(plan.life))
    if {"asleep", "wake"} & set(plan.parts):
        async with engine() as world:
            await part("asleep", lambda: weeks_asleep.measure(plan.asleep, world))
            await part("wake", lambda: weeks_wake.measure(plan.wake, world))
    await part("schedule", lambda: weeks_schedule.measure(plan.schedule))
    tell("done")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    plan = plan_of(arguments)
    # Containers and servers are not left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asyncio.run(measure(plan))


if __name__ == "__main__":
    main()
