"""Random faults, orders and messages against an agent in a world that knows the truth."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.worker import Worker

from hibernaut import contracts as c
from tests.support.skipping import time_skipping
from tests.workflows.conftest import SEARCH_ATTRIBUTES, Rig
from tests.workflows.faulty_life import Life, Stage
from tests.workflows.faulty_truth import FAULTS, HOST, Box, Plan, Saved
from tests.workflows.faulty_world import FaultyWorld
from tests.workflows.inquest import Inquest, Told
from tests.workflows.world import World
from workers.registry import WORKFLOWS, workflow_runner

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("HIBERNAUT_EXAMPLES", "12"))


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    world = FaultyWorld()
    activities = list(world.activities())
    common: dict[str, Any] = {
        "max_heartbeat_throttle_interval": timedelta(milliseconds=50),
        "default_heartbeat_throttle_interval": timedelta(milliseconds=50),
    }
    async with time_skipping() as environment:
        client = environment.client
        types = {key.name: IndexedValueType.ValueType(key.indexed_value_type) for key in SEARCH_ATTRIBUTES}
        request = AddSearchAttributesRequest(namespace=client.namespace, search_attributes=types)
        await client.operator_service.add_search_attributes(request)
        async with (
            Worker(
                client,
                task_queue=c.TASK_QUEUE,
                workflows=list(WORKFLOWS),
                activities=activities,
                workflow_runner=workflow_runner(),
                **common,
            ),
            Worker(client, task_queue=c.host_queue(HOST), activities=activities, **common),
            Worker(client, task_queue=c.control_queue(HOST), activities=activities, **common),
            Worker(client, task_queue=c.PLACEMENT_QUEUE, activities=activities, **common),
        ):
            yield Stage(Rig(environment, World()), world)


def _say(plan: Plan, world: FaultyWorld) -> None:
    """The plan and what came of it, for whoever reads a failure; Hypothesis shows those of the smallest."""
    print("\n".join(["", repr(plan), *world.log]))


async def _violations(stage: Stage, plan: Plan, *, quiet: bool = False) -> list[str]:
    life = Life(stage, plan)
    try:
        async with asyncio.timeout(100):
            await life.live()
    except BaseException:
        _say(plan, stage.world)
        raise
    finally:
        for task in life.puts:
            task.cancel()
    found = Inquest(life).violations()
    if found and not quiet:
        _say(plan, stage.world)
    return found


# -- the tests --------------------------------------------------------------------------------------------------------

_STEP = st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple)
_MESSAGE = st.lists(_STEP, max_size=3).map(tuple)
_FAULT = st.sampled_from([(name, fault) for name, faults in FAULTS.items() for fault in faults if fault != "silent"])
_ORDER = st.tuples(
    st.sampled_from(
        [c.MODEL_CALL.name, c.SHELL_EXEC.name, c.SNAPSHOT_TAKE.name, c.SANDBOX_ACQUIRE.name, c.SNAPSHOT_RESTORE.name]
    ),
    st.integers(0, 4),
    st.sampled_from(["message", "put", "interrupt", "pause", "hibernate", "wake", "put", "resume", "close"]),
)
PLANS = st.builds(
    Plan,
    messages=st.lists(_MESSAGE, min_size=1, max_size=3).map(tuple),
    faults=st.lists(_FAULT, max_size=5).map(tuple),
    orders=st.lists(_ORDER, max_size=2).map(tuple),
    recovery=st.sampled_from(["tell", "replay", "pause"]),
    max_recoveries=st.sampled_from([1, 5]),
    at_pause=st.lists(st.sampled_from(["interrupt", "hibernate"]), max_size=1).map(tuple),
    sleep_between=st.booleans(),
)


_SNAPSHOT, _EXEC, _MODEL, _PUT = c.SNAPSHOT_TAKE.name, c.SHELL_EXEC.name, c.MODEL_CALL.name, c.FILES_PUT.name
_TURN = ((2,),)
HARD: dict[str, Plan] = {
    "a loss found by a file that is put while the model decides": Plan(
        (_TURN, _TURN), ((_PUT, "lost before"),), ((_MODEL, 2, "put"),)
    ),
    "an older snapshot is restored while the model decides": Plan(
        (((2,), (1,)), ((1,),)), ((c.SNAPSHOT_RESTORE.name, "older"),), sleep_between=True
    ),
    "too many recoveries, and an interrupt instead of a resume": Plan(
        (((2,), (2,), (2,)), ((1,),)), ((_EXEC, "lost during"),) * 3, max_recoveries=1, at_pause=("interrupt",)
    ),
    "asked again after a freeze, and gone by then": Plan((_TURN,), ((_EXEC, "frozen"), (_EXEC, "lost before"))),
    "gone while its journal is asked": Plan((_TURN,), ((_EXEC, "stopped, unknown"), (_EXEC, "lost before"))),
    "gone before the retry of a finished command": Plan((_TURN,), ((_EXEC, "died after, then lost"),)),
    "gone again under a replay": Plan((_TURN,), ((_EXEC, "lost during"),) * 2, recovery="replay"),
    "an interrupt while the journal is asked": Plan(
        (_TURN, _TURN), ((_EXEC, "stopped, unknown"),), ((_EXEC, 1, "interrupt"),)
    ),
    "a close under a command": Plan((_TURN, _TURN), (), ((_EXEC, 1, "close"),)),
}
"""Plans that broke a promise once, or come close."""


@pytest.mark.parametrize("name", HARD)
async def test_the_promises_hold_when(stage: Stage, name: str) -> None:
    assert await _violations(stage, HARD[name]) == []


async def test_a_replay_that_kills_its_sandbox_is_not_tried_for_ever(stage: Stage) -> None:
    plan = Plan((_TURN,), ((_EXEC, "lost during"),) * 4, recovery="replay")
    assert await _violations(stage, plan) == []
    assert sum(ran.exec_id.startswith("replay-") for ran in stage.world.ran) <= 2


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="HIBERNAUT_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(plan=PLANS)
@pytest.mark.timeout(3600 if "HIBERNAUT_EXAMPLES" in os.environ else 300)
async def test_whatever_fails_the_promises_hold(stage: Stage, plan: Plan) -> None:
    assert await _violations(stage, plan) == []


# -- and that a broken world is found out -----------------------------------------------------------------------------


def _forgetful(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A restarted container whose journal is gone."""

    def forget(_world: FaultyWorld, box: Box) -> None:
        box.journal.clear()

    monkeypatch.setattr(FaultyWorld, "forget", forget)
    return Plan((_TURN,), ((_EXEC, "stopped, finished"),))


def _unattached(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A supervisor that runs again what it ran before."""
    run = FaultyWorld._run

    async def forgets(world: FaultyWorld, box: Box, exec_id: str, command: str, fault: str) -> Any:  # noqa: ANN401
        done = await run(world, box, exec_id, command, fault)
        box.journal.clear()
        return done

    monkeypatch.setattr(FaultyWorld, "_run", forgets)
    return Plan((_TURN,), ((_EXEC, "died after"),))


def _empty_snapshots(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A store that keeps nothing of what it was given."""

    def empty(number: int, _files: tuple[str, ...], parent: str | None) -> Saved:
        return Saved(number, (), parent)

    monkeypatch.setattr("tests.workflows.faulty_world.Saved", empty)
    return Plan((_TURN,))


def _leaking(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A host that removes no container."""

    def keep(_world: FaultyWorld, _box: Box | None) -> None:
        pass

    monkeypatch.setattr(FaultyWorld, "_lose", keep)
    return Plan((_TURN,))


def _silent(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A model that is never shown a note."""

    def nothing(_inquest: Inquest, _step: int) -> Told:
        return Told({}, [])

    monkeypatch.setattr(Inquest, "told_before", nothing)
    return Plan((_TURN,), ((_EXEC, "lost during"),))


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (_forgetful, "kinds: "),
        (_unattached, "runs_once: "),
        (_empty_snapshots, "durable: "),
        (_leaking, "nothing_left: "),
        (_silent, "told: "),
    ],
)
async def test_a_broken_promise_is_found(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, broken: Callable[[pytest.MonkeyPatch], Plan], found: str
) -> None:
    violations = await _violations(stage, broken(monkeypatch), quiet=True)
    assert [violation for violation in violations if violation.startswith(found)]
