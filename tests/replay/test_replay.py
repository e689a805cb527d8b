"""Every history ever recorded replays on today's code: a sleeping agent of an old release must wake."""

import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from tests.replay.record import SCENARIOS
from workers.registry import WORKFLOWS, workflow_runner

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))


def _replayer() -> Replayer:
    return Replayer(
        workflows=list(WORKFLOWS), data_converter=pydantic_data_converter, workflow_runner=workflow_runner()
    )


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_a_recorded_history_replays(path: Path) -> None:
    history = WorkflowHistory.from_json(path.stem, path.read_text())
    await _replayer().replay_workflow(history)


def test_every_scenario_was_recorded() -> None:
    recorded = {path.stem.rsplit("-", 1)[0] for path in HISTORIES}
    assert recorded == {str(getattr(scenario, "__name__", "")) for scenario in SCENARIOS}


async def test_a_history_that_does_not_fit_is_noticed() -> None:
    """The replayer can fail: the same history with one activity renamed."""
    events = json.loads((Path(__file__).parent / "histories" / "plain-1.json").read_text())
    for event in events["events"]:
        scheduled = event.get("activityTaskScheduledEventAttributes")
        if scheduled and scheduled["activityType"]["name"] == "model.call":
            scheduled["activityType"]["name"] = "model.dream"
            break
    with pytest.raises(NondeterminismError):
        await _replayer().replay_workflow(WorkflowHistory.from_json("changed", json.dumps(events)))
