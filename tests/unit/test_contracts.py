"""Stubs and implementations are the same activities: name, request, result."""

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from temporalio import activity

from activities.artifacts import ArtifactActivities
from activities.checkpoints import Checkpoints
from activities.children import ChildActivities
from activities.compaction import CompactionActivities
from activities.deletion import DeletionActivities
from activities.forking import BranchActivities
from activities.host import AssessActivities, PingActivities
from activities.housekeeping import KeepingActivities
from activities.images import ImageActivities
from activities.images_upkeep import ImageUpkeepActivities
from activities.mcp_call import McpActivities
from activities.model_call import ModelActivities
from activities.network import NetworkActivities
from activities.sandbox import PlacementActivities, SandboxActivities
from activities.scheduling import ScheduleActivities
from activities.shell import ShellActivities
from activities.snapshot import SnapshotActivities
from activities.sweep import HostActivities, SweepActivities
from activities.upkeep import UpkeepActivities
from activities.verification import VerifyActivities
from hibernaut.contracts import STUBS
from workflows.options import OPTIONS

CLASSES = (
    AssessActivities,
    BranchActivities,
    Checkpoints,
    ChildActivities,
    CompactionActivities,
    DeletionActivities,
    HostActivities,
    ImageActivities,
    ImageUpkeepActivities,
    KeepingActivities,
    McpActivities,
    ModelActivities,
    NetworkActivities,
    PingActivities,
    PlacementActivities,
    SandboxActivities,
    ArtifactActivities,
    ScheduleActivities,
    ShellActivities,
    SnapshotActivities,
    SweepActivities,
    UpkeepActivities,
    VerifyActivities,
)


def _implementations() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for owner in CLASSES:
        for _, member in inspect.getmembers(owner, inspect.isfunction):
            definition = activity._Definition.from_callable(member)
            if definition is not None and definition.name is not None:
                assert definition.name not in found, f"{definition.name} is implemented twice"
                found[definition.name] = member
    return found


def test_every_stub_is_implemented_and_nothing_else_is() -> None:
    assert set(_implementations()) == {stub.name for stub in STUBS}


def test_requests_and_results_are_those_of_the_stub() -> None:
    implementations = _implementations()
    for stub in STUBS:
        hints = get_type_hints(implementations[stub.name])
        result = hints.pop("return")
        assert list(hints.values()) == [stub.request], stub.name
        assert result is stub.result, stub.name


def test_every_activity_has_its_own_options() -> None:
    assert set(OPTIONS) == {stub.name for stub in STUBS}
