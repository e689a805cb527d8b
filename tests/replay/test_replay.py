"""Every history ever recorded replays on today's code: a sleeping agent of an old release must wake."""

import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from tests.replay import releases
from tests.replay.record import SCENARIOS
from workers.registry import WORKFLOWS, workflow_runner

HISTORIES = releases.recorded()


def _replayer() -> Replayer:
    return Replayer(
        workflows=list(WORKFLOWS), data_converter=pydantic_data_converter, workflow_runner=workflow_runner()
    )


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_a_recorded_history_replays(path: Path) -> None:
    text = path.read_text()
    began = json.loads(text)["events"][0]["workflowExecutionStartedEventAttributes"]
    # The ids of children are made of it.
    history = WorkflowHistory.from_json(began["workflowId"], text)
    await _replayer().replay_workflow(history)


def test_every_scenario_was_recorded() -> None:
    wanted = {str(getattr(scenario, "__name__", "")) for scenario in SCENARIOS}
    assert wanted == {releases.scenario(path) for path in HISTORIES}


def test_every_history_belongs_to_a_version() -> None:
    assert not list(releases.ROOT.glob("*.json")), f"move it into {releases.CURRENT}"


def test_releases_have_all_their_histories() -> None:
    for version in releases.released(releases.CHANGELOG.read_text()):
        assert releases.problems(releases.ROOT / version) == []


def test_a_history_of_a_release_that_is_gone_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "0.9.0"
    folder.mkdir()
    assert "not sealed" in releases.problems(folder)[0]
    for name in ("kept", "gone", "changed"):
        (folder / f"{name}-1.json").write_text("{}")
    releases.seal(folder)
    assert releases.problems(folder) == []
    (folder / "gone-1.json").unlink()
    (folder / "changed-1.json").write_text("[]")
    (folder / "late-1.json").write_text("{}")
    found = " ".join(releases.problems(folder))
    assert "gone-1.json is missing" in found
    assert "changed-1.json was changed" in found
    assert "late-1.json was added" in found
    assert "kept" not in found.replace("is kept", "")


def test_a_date_makes_a_release() -> None:
    assert releases.released("# Changelog\n\n## 0.3.0 - unreleased\n\n## 0.2.0 - 2027-01-31\n") == ["0.2.0"]


async def test_a_history_that_does_not_fit_is_noticed() -> None:
    """The replayer can fail: the same history with one activity renamed."""
    path = next(path for path in HISTORIES if path.stem == "plain-1")
    events = json.loads(path.read_text())
    for event in events["events"]:
        scheduled = event.get("activityTaskScheduledEventAttributes")
        if scheduled and scheduled["activityType"]["name"] == "model.call":
            scheduled["activityType"]["name"] = "model.dream"
            break
    with pytest.raises(NondeterminismError):
        await _replayer().replay_workflow(WorkflowHistory.from_json("changed", json.dumps(events)))
