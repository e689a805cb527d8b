"""Records the histories that `test_replay.py` replays: `python -m tests.replay.record SCENARIO ...`.

Record anew only for a new scenario, or a change that is versioned: an old history is a sleeping agent of an old
release.
"""

import asyncio
import contextlib
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.adapters.local_store import LocalStore
from activities.errors import SnapshotSealed, StoreUnavailable
from activities.ports.upkeep import Damage, Retention
from hibernaut import contracts as c
from hibernaut.models import AgentState, BudgetChange, BudgetStatus, OutcomeKind
from tests.replay.branches import BRANCHING
from tests.replay.children import PARENTAL
from tests.replay.networks import REACHING
from tests.replay.paying import PAYING
from tests.replay.people import ASKING
from tests.replay.releases import CURRENT
from tests.replay.schedules import SCHEDULING, scheduling
from tests.support.pretended_upkeep import NOTHING, PretendedUpkeep, ref, upkeep_activities
from tests.workflows.branch_world import BranchWorld
from tests.workflows.child_rig import FamilyWorld, child_activities
from tests.workflows.conftest import SEARCH_ATTRIBUTES, Rig
from tests.workflows.world import HOST, World, say, shell
from workers.interceptor import ErrorInterceptor
from workers.registry import WORKFLOWS, workflow_runner

TEMPORAL = Path(sys.executable).with_name("temporal")

Agent = WorkflowHandle[Any, Any]


async def plain(rig: Rig) -> Agent:
    """A turn with two commands, another without."""
    rig.world.script = [shell("echo 1", "echo 2"), say("done"), say("again")]
    agent = await rig.start(instructions="be brief")
    await rig.ask(agent, "go")
    await rig.ask(agent, "x" * 10_000)
    return agent


async def recovery(rig: Rig) -> Agent:
    """A container lost between turns, another under a command, a snapshot that fails once."""
    rig.world.script = [shell("1"), say("one"), shell("2"), shell("3"), say("two")]
    rig.world.snapshot_errors = [ApplicationError("disk full", type="CaptureError", non_retryable=True)]
    rig.world.lose_during_exec = 2
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await rig.until(agent, state=AgentState.PAUSED)
    await rig.order(agent, "resume")
    await rig.answer(agent, ticket.message_id)
    rig.world.live.clear()
    await rig.ask(agent, "go on")
    return agent


async def sleeping(rig: Rig) -> Agent:
    """Hibernated, woken by a message, hibernated by the idle timer, a file put, closed."""
    rig.world.script = [shell("1"), say("one"), shell("2"), say("two")]
    agent = await rig.start(idle_timeout=1)
    await rig.ask(agent, "go")
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    await rig.ask(agent, "wake")
    await rig.until(agent, state=AgentState.HIBERNATED)
    handle = rig.client.get_workflow_handle(agent.id)
    await handle.execute_update("put_file", c.PutFile(upload_ref="up", path="/x"), result_type=c.PutFileResult)
    await rig.order(agent, "close")
    await handle.result()
    return agent


async def steered(rig: Rig) -> Agent:
    """Paused, resumed, interrupted in a command and in a model call."""
    rig.world.script = [shell("sleep 1000"), say("later")]
    rig.world.block_exec = True
    agent = await rig.start()
    await rig.send(agent, "go", "m1")
    await rig.world.blocked.wait()
    await rig.order(agent, "interrupt")
    await rig.answer(agent, "m1")
    await rig.order(agent, "pause", "lunch")
    await rig.send(agent, "hello", "m2")
    rig.world.blocked.clear()
    rig.world.block_model = True
    await rig.order(agent, "resume")
    await rig.world.blocked.wait()
    await rig.order(agent, "interrupt")
    await rig.answer(agent, "m2")
    rig.world.block_model = False
    await rig.ask(agent, "and now?")
    return agent


async def climbed(rig: Rig) -> Agent:
    """A container restarted in place, one lost and its safe command replayed, a host that is gone, an image kept."""
    rig.world.script = [shell("1"), shell("make"), say("one"), shell("2"), say("two")]
    rig.world.images_kept = False
    rig.world.stop_during_exec = 0
    rig.world.journal = {"b0-s0-c0-i0": OutcomeKind.UNKNOWN}
    rig.world.lose_during_exec = 2
    agent = await rig.start(recovery="replay", retry_safe=["make"])
    await rig.ask(agent, "go")
    rig.world.ghostly = {3}
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    ticket = await rig.send(agent, "go on")
    for _ in range(30):
        with contextlib.suppress(AssertionError):
            await rig.answer(agent, ticket.message_id)
            break
    return agent


async def filled(rig: Rig) -> Agent:
    """Files too large for a snapshot: told, held back, deleted too little, paused, resumed, mended; then asleep."""
    rig.world.script = [
        *(shell("fill"), shell("held back"), shell("rm some"), say("done?"), say("done!")),
        *(shell("rm rest"), say("done")),
    ]
    sizes = [3, 2, 2]
    rig.world.snapshot_errors = [
        ApplicationError(f"{size} GB are too much", type=c.SNAPSHOT_TOO_LARGE, non_retryable=True) for size in sizes
    ]
    agent = await rig.start()
    ticket = await rig.send(agent, "go")
    await rig.until(agent, state=AgentState.PAUSED)
    await rig.order(agent, "resume")
    await rig.answer(agent, ticket.message_id)
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    return agent


async def compacted(rig: Rig) -> Agent:
    """Compacted for its size, after a refusal, not at all, in vain; asleep, and awake with what was carried."""
    first, second = (shell(name).model_copy(update={"compact": True}) for name in ("1", "2"))
    overflow = ApplicationError("too long", type=c.CONTEXT_OVERFLOW, non_retryable=True)
    rig.world.script = [first, say("one"), overflow, second, say("two"), overflow, overflow, say("three")]
    rig.world.compact_errors = [None, None, ApplicationError("declined", type="ModelRejected", non_retryable=True)]
    agent = await rig.start(instructions="be brief")
    await rig.ask(agent, "go")
    await rig.ask(agent, "go on")
    await rig.order(agent, "hibernate")
    await rig.until(agent, state=AgentState.HIBERNATED)
    ticket = await rig.send(agent, "and on")
    await rig.until(agent, state=AgentState.PAUSED)
    await rig.order(agent, "resume")
    await rig.answer(agent, ticket.message_id)
    return agent


async def budgeted(rig: Rig) -> Agent:
    """A limit told, used up and raised; one of a life that holds a turn from the next run on; one cleared."""
    rig.world.script = [shell("1"), shell("2"), say("one"), say("two")]
    agent = await rig.start(idle_timeout=1, budget={"turn": {"steps": 2}, "life": {"tokens": 45, "money": 1}})
    ticket = await rig.send(agent, "go")
    await rig.until(agent, state=AgentState.PAUSED)
    handle = rig.client.get_workflow_handle(agent.id)
    raised = BudgetChange.model_validate({"limits": {"turn": {"steps": 9}}, "clear": ["life.money"], "by": "ann"})
    await handle.execute_update("set_budget", raised, result_type=BudgetStatus)
    await rig.answer(agent, ticket.message_id)
    await rig.until(agent, state=AgentState.HIBERNATED)
    ticket = await rig.send(agent, "go on")
    await rig.until(agent, state=AgentState.PAUSED)
    cleared = BudgetChange(clear=("life.tokens",))
    await handle.execute_update("set_budget", cleared, result_type=BudgetStatus)
    await rig.answer(agent, ticket.message_id)
    return agent


async def verified(rig: Rig) -> Agent:
    """All agents verified, one of them damaged, one in trouble, and the base images."""
    request = c.VerifyRequest(images=True)
    handle = await rig.client.start_workflow(c.VERIFY_WORKFLOW, request, id="verified", task_queue=c.TASK_QUEUE)
    await handle.result()
    return handle


async def collected(rig: Rig) -> Agent:
    """All agents pruned, two passes of the collection."""
    request = c.CollectionRequest()
    handle = await rig.client.start_workflow(c.COLLECTION_WORKFLOW, request, id="collected", task_queue=c.TASK_QUEUE)
    await handle.result()
    return handle


SCENARIOS: tuple[Callable[[Rig], Awaitable[Agent]], ...] = (
    *(plain, recovery, sleeping, steered, climbed, filled, budgeted, compacted),
    *ASKING,
    *BRANCHING,
    *SCHEDULING,
    *PARENTAL,
    *PAYING,
    *REACHING,
    *(verified, collected),
)


def upkept(folder: Path) -> list[Callable[..., Any]]:
    """What upkeep works on."""
    upkeep = PretendedUpkeep(snapshots={f"u{number:03d}": [1, 2, 3] for number in range(6)})
    wrong = Damage(key="x", kind="missing", detail="It is gone.", snapshots=(ref("u001", 2),))
    upkeep.damage["u001"] = (wrong,)
    upkeep.failures = {"u002": [SnapshotSealed("no key")], "u003": [StoreUnavailable("away")]}
    upkeep.failures["collect"] = [StoreUnavailable("away")]
    upkeep.passes = [NOTHING.model_copy(update={"more": True}), NOTHING]
    return upkeep_activities(upkeep, LocalStore(folder), Retention(last=2))


async def record(wanted: Collection[str]) -> None:
    """Run the scenarios of these names on a real server and write the history of each of their runs."""
    CURRENT.mkdir(exist_ok=True)
    environment = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(TEMPORAL),
        data_converter=pydantic_data_converter,
        search_attributes=list(SEARCH_ATTRIBUTES),
    )
    async with environment:
        for scenario in SCENARIOS:
            name = str(getattr(scenario, "__name__", "scenario"))
            if name not in wanted:
                continue
            # Checkpoints are found in a store.
            folder = Path(tempfile.mkdtemp())
            world = BranchWorld(folder=folder) if scenario in BRANCHING else World()
            if scenario in PARENTAL:
                world = FamilyWorld(folder=folder)
            client = environment.client
            activities = [*world.activities(), *upkept(Path(tempfile.mkdtemp())), *scheduling(client)]
            activities += child_activities(client)
            async with (
                Worker(
                    client,
                    task_queue=c.TASK_QUEUE,
                    workflows=list(WORKFLOWS),
                    activities=activities,
                    workflow_runner=workflow_runner(),
                    interceptors=[ErrorInterceptor()],
                ),
                Worker(client, task_queue=c.host_queue(HOST), activities=activities),
                Worker(client, task_queue=c.control_queue(HOST), activities=activities),
                Worker(client, task_queue=c.PLACEMENT_QUEUE, activities=activities),
            ):
                agent = await scenario(Rig(environment, world))
                await _write(environment, agent.id, name)


async def _write(environment: WorkflowEnvironment, agent_id: str, name: str) -> None:
    await asyncio.sleep(1)  # visibility follows
    runs = [run async for run in environment.client.list_workflows(f"WorkflowId = '{agent_id}'")]
    for number, run in enumerate(sorted(runs, key=lambda found: found.start_time), start=1):
        handle = environment.client.get_workflow_handle(agent_id, run_id=run.run_id)
        history = await handle.fetch_history()
        (CURRENT / f"{name}-{number}.json").write_text(_without_traces(history.to_json()))
        print(f"{name}-{number}: {len(history.events)} events")


def _without_traces(text: str) -> str:
    """A history as JSON without the stack traces of its failures: they name folders of whoever recorded it."""
    return re.sub(r'("stackTrace": )"(?:[^"\\]|\\.)*"', r'\1""', text)


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1:]))
