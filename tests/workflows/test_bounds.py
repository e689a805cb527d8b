"""A run ends at a bound of our own as well, whatever the server suggests; nobody notices."""

import pytest

from hibernaut.contracts import limits
from hibernaut.models import AgentState
from tests.support.histories import chain
from tests.workflows.conftest import Rig
from tests.workflows.world import say, shell


async def test_a_turn_ends_its_run_at_so_many_events(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RUN_EVENTS", 50)
    rig.world.script = [*(shell(f"echo {number}") for number in range(8)), say("done")]
    agent = await rig.start()
    assert (await rig.ask(agent, "work")).text == "done"
    runs = await chain(rig.client, agent.id)
    assert len(runs) >= 3
    # A run is asked between two calls: it is longer by what one of them takes.
    assert all(len(run.events) < 50 + 40 for run in runs)
    assert len(rig.world.execs) == 8


async def test_a_run_ends_at_so_many_bytes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RUN_BYTES", 30_000)
    rig.world.script = [*(shell(f"echo {number}") for number in range(8)), say("done")]
    agent = await rig.start()
    assert (await rig.ask(agent, "work")).text == "done"
    runs = await chain(rig.client, agent.id)
    assert len(runs) >= 2
    assert len(rig.world.execs) == 8


async def test_an_agent_at_rest_that_is_only_spoken_to_gets_a_fresh_run(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RUN_EVENTS", 40)
    monkeypatch.setattr(limits, "SLEEPING_EVENTS", 10_000)
    agent = await rig.start()
    for _ in range(12):
        await rig.order(agent, "pause", "lunch")
        await rig.order(agent, "resume")
    runs = await chain(rig.client, agent.id)
    assert len(runs) >= 2
    # Others go on talking while it ends.
    assert max(len(run.events) for run in runs) < 40 + 60
    assert (await rig.status(agent)).state is AgentState.IDLE
