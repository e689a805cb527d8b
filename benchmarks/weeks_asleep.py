"""What an agent costs that sleeps for a week: in Temporal, in the object store, and by the upkeep that runs meanwhile.

On the real engine some agents work for a moment and hibernate. Nobody waits for a week: a sleeping run has no timer and
issues nothing, which is looked at again after the upkeep; upkeep is run a few times with no agent and with all of them
asleep, and counted as often as its schedule starts it in a week. What is so extrapolated is named so.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass
from statistics import mean, median
from typing import Any
from uuid import uuid4

from benchmarks.weeks_engine import RUN, Engine
from benchmarks.weeks_plan import Asleep
from benchmarks.weeks_results import tell
from hibernaut.agent import AgentHandle
from hibernaut.contracts import COLLECTION_WORKFLOW, HOUSEKEEPING_WORKFLOW, TASK_QUEUE, CollectionRequest, StoreKeys
from tests.support.histories import chain, size
from workers.settings import Settings

AT_ONCE = 4
FILE_BYTES = 100_000
WEEK_MINUTES = 7 * 24 * 60


@dataclass(frozen=True, slots=True)
class Sleeper:
    """What is there of an agent that sleeps."""

    run_events: int
    run_bytes: int
    """Of the open run's history."""
    ended_runs: int
    ended_bytes: int
    """Of the histories of its earlier runs, which the server deletes when their retention is over."""
    objects: tuple[tuple[str, int], ...]
    """Keys and bytes."""

    @property
    def stored(self) -> int:
        """Bytes in the store."""
        return sum(length for _, length in self.objects)


async def measure(plan: Asleep, world: Engine) -> dict[str, Any]:
    """Run everything, on an engine that has no agent yet."""
    empty = await _upkeep(world, plan)
    before = _database(world)
    slots = asyncio.Semaphore(AT_ONCE)
    agents = await asyncio.gather(*(_asleep(world, plan, slots) for _ in range(plan.agents)))
    grown = _database(world) - before
    tell(f"{len(agents)} agents sleep")
    sleepers = [await _look(world, agent) for agent in agents]
    full = await _upkeep(world, plan)
    later = [await _look(world, agent) for agent in agents]
    for sleeper, again in zip(sleepers, later, strict=True):
        if (again.run_events, again.run_bytes) != (sleeper.run_events, sleeper.run_bytes):
            raise RuntimeError(f"a sleeping run grew: {sleeper} became {again}")
    for agent in agents:
        await agent.close()
    return _figures(plan, sleepers, later, {"empty": empty, "full": full}, grown)


async def _asleep(world: Engine, plan: Asleep, slots: asyncio.Semaphore) -> AgentHandle:
    """An agent that has worked, and hibernates."""
    async with slots:
        agent = await world.agents.start(f"asleep-{uuid4().hex[:8]}", world.spec)
        write = f"for n in $(seq {plan.files}); do head -c {FILE_BYTES} /dev/urandom > file-$n; done"
        await agent.send(f"{RUN}{write}", timeout=300)
        for number in range(1, plan.messages):
            await agent.send(f"{RUN}echo {number} > note", timeout=300)
        await agent.hibernate(timeout=300)
        await _at_rest(world, agent)
        return agent


async def _at_rest(world: Engine, agent: AgentHandle) -> None:
    """Wait until nothing is under way: an agent that hibernates may have a run to end yet."""
    while True:
        found = (await world.temporal.get_workflow_handle(agent.id).describe()).raw_description
        if not found.pending_activities and not found.HasField("pending_workflow_task"):
            return
        await asyncio.sleep(0.1)


async def _look(world: Engine, agent: AgentHandle) -> Sleeper:
    """Histories first: a query would wake nobody, but is answered by a worker."""
    *ended, run = await chain(world.temporal, agent.id)
    uid = (await agent.status()).agent_uid
    objects = [(info.key, info.size) async for info in world.store.list(StoreKeys.agent(uid))]
    return Sleeper(
        run_events=len(run.events),
        run_bytes=size(run),
        ended_runs=len(ended),
        ended_bytes=sum(size(one) for one in ended),
        objects=tuple((key.removeprefix(StoreKeys.agent(uid)), length) for key, length in objects),
    )


async def _upkeep(world: Engine, plan: Asleep) -> dict[str, dict[str, float]]:
    """Histories and new objects of one run of each kind, on average."""
    kinds: dict[str, tuple[int, list[Any]]] = {
        HOUSEKEEPING_WORKFLOW: (plan.housekeepings, []),
        COLLECTION_WORKFLOW: (plan.collections, [CollectionRequest()]),
    }
    found: dict[str, dict[str, float]] = {}
    for kind, (times, arguments) in kinds.items():
        before, lengths = await _stored(world), list[int]()
        for _ in range(times):
            name = f"bench-{uuid4().hex[:8]}"
            await world.temporal.execute_workflow(kind, args=arguments, id=name, task_queue=TASK_QUEUE)
            lengths.append(sum(size(run) for run in await chain(world.temporal, name)))
        added = sum((await _stored(world)).values()) - sum(before.values())
        spread = max(lengths) - min(lengths)
        found[kind] = {"history_bytes": mean(lengths), "spread": spread, "store_bytes": added / times}
    return found


async def _stored(world: Engine) -> dict[str, int]:
    return {info.key: info.size async for info in world.store.list("")}


def _database(world: Engine) -> int:
    """Bytes of the server's files."""
    return sum(path.stat().st_size for path in world.database.iterdir() if path.is_file())


def _figures(
    plan: Asleep,
    sleepers: list[Sleeper],
    later: list[Sleeper],
    upkeep: dict[str, dict[str, dict[str, float]]],
    grown: int,
) -> dict[str, Any]:
    kinds: Counter[str] = Counter()
    for key, length in itertools.chain.from_iterable(one.objects for one in sleepers):
        kinds[key.partition("/")[0]] += length
    runs_a_week = {
        HOUSEKEEPING_WORKFLOW: WEEK_MINUTES // _default("housekeeping_minutes"),
        COLLECTION_WORKFLOW: WEEK_MINUTES // (60 * _default("collection_hours")),
    }
    by_kind = {kind: _of_one(kind, upkeep, runs_a_week[kind], plan.agents) for kind in runs_a_week}
    histories = sum(one["week_bytes_per_agent"] for one in by_kind.values())
    return {
        "agents": plan.agents,
        "open_run": {
            "events": max(one.run_events for one in sleepers),
            "bytes": round(median(one.run_bytes for one in sleepers)),
        },
        "ended_runs": {
            "runs": round(median(one.ended_runs for one in sleepers)),
            "bytes": round(median(one.ended_bytes for one in sleepers)),
        },
        "database_bytes_per_agent": round(grown / plan.agents),
        "store": {
            "objects": round(median(len(one.objects) for one in sleepers)),
            "bytes": round(median(one.stored for one in sleepers)),
            "written_files_bytes": plan.files * FILE_BYTES,
            "by_kind": {kind: round(length / plan.agents) for kind, length in kinds.most_common()},
            "after_upkeep_bytes": round(median(one.stored for one in later)),
        },
        "upkeep": by_kind,
        "week": {
            "temporal_bytes": round(median(one.run_bytes for one in sleepers) + histories),
            "of_it_upkeep": round(histories),
            "store_bytes": round(median(one.stored for one in later)),
            "extrapolated": "upkeep alone: a run of each kind, times the runs of a week",
        },
    }


def _of_one(
    kind: str, upkeep: dict[str, dict[str, dict[str, float]]], runs: int, agents: int
) -> dict[str, float | int]:
    """What one kind of upkeep costs, and what each sleeping agent adds to it."""
    empty, full = upkeep["empty"][kind], upkeep["full"][kind]
    grown = full["history_bytes"] - empty["history_bytes"]
    # Times and ids take a byte more or less from run to run, which is nothing that agents add.
    added = grown / agents if grown > max(empty["spread"], full["spread"]) else 0.0
    return {
        "history_bytes_without_agents": round(empty["history_bytes"]),
        "history_bytes_with_agents": round(full["history_bytes"]),
        "history_bytes_spread": round(max(empty["spread"], full["spread"])),
        "history_bytes_per_agent": round(added, 1),
        "store_bytes_with_agents": round(full["store_bytes"]),
        "runs_a_week": runs,
        "week_bytes_per_agent": round(added * runs, 1),
        "week_bytes_of_all": round(full["history_bytes"] * runs),
    }


def _default(field: str) -> int:
    return int(Settings.model_fields[field].default)
