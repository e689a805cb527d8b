"""What crosses between builds is read by those that know a field less; what a person writes is not."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast, get_args
from unittest import mock

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from temporalio.testing import ActivityEnvironment

from activities.errors import SandboxUnavailable
from activities.ports.sandbox import Sandboxes
from activities.sandbox import PlacementActivities
from hibernaut import contracts as c
from hibernaut.contracts import stubs
from hibernaut.models import AgentSpec, AgentStatus, Answer, EventsPage, SandboxSpec, SnapshotSpec, Ticket
from hibernaut.models.base import Lenient, Model
from hibernaut.models.budget import BudgetSpec
from hibernaut.models.functions import FunctionSpec
from hibernaut.models.spending import BudgetStatus
from workflows.record import AgentRecord

STRICT_ON_PURPOSE = {
    # What is to be kept must not be guessed: whoever does not know a rule deletes nothing.
    (c.PruneRequest, "keep"),
}
ROOTS: tuple[type[BaseModel], ...] = (
    *(model for stub in stubs.STUBS for model in (stub.request, stub.result) if issubclass(model, BaseModel)),
    *(AgentRecord, AgentStatus, Answer, BudgetStatus, EventsPage, Ticket, c.ForkRequest, c.ForkResult, c.Standpoint),
)
NEW = {"from_the_future": {"a": [1]}}


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif not _lenient(getattr(cast("object", annotation), "__metadata__", ())):
        for argument in get_args(annotation):
            yield from _models(argument)


def _lenient(metadata: Sequence[object]) -> bool:
    return any("_known" in str(part) for part in metadata)


def _strict(roots: tuple[type[BaseModel], ...]) -> set[tuple[type[BaseModel], str]]:
    found: set[tuple[type[BaseModel], str]] = set()
    seen: set[type[BaseModel]] = set()
    todo = list(roots)
    while todo:
        model = todo.pop()
        if model in seen:
            continue
        seen.add(model)
        for name, field in model.model_fields.items():
            if _lenient(field.metadata):
                continue
            for inner in _models(field.annotation):
                if issubclass(inner, Model):
                    found.add((model, name))
                todo.append(inner)
    return found


def test_nothing_that_crosses_between_builds_is_strict() -> None:
    assert _strict(ROOTS) == STRICT_ON_PURPOSE


def test_the_walk_finds_what_is_strict() -> None:
    class Inner(BaseModel):
        specs: tuple[SnapshotSpec, ...] | None = None

    class Outer(BaseModel):
        inner: dict[str, Inner]
        fine: Lenient[SnapshotSpec] | None = None

    assert _strict((Outer,)) == {(Inner, "specs")}


def test_a_status_of_a_later_release_is_read() -> None:
    spec = {"model": "m", "sandbox": {"memory_mb": 64, "network": NEW, **NEW}, "budget": {"day": NEW}, **NEW}
    status = AgentStatus.model_validate_json(
        TypeAdapter(dict[str, Any]).dump_json(
            {
                **dict.fromkeys(("turn", "steps", "inbox", "generation", "last_event"), 1),
                "agent_id": "a",
                "agent_uid": "u",
                "state": "idle",
                "spec": spec,
                "born_at": datetime.now(UTC),
                **NEW,
            }
        )
    )
    assert status.spec == AgentSpec(model="m", sandbox=SandboxSpec(memory_mb=64))


def test_a_record_of_a_later_release_is_read() -> None:
    budget = {"limits": {"day": {"tokens": 5, "carbon": 1}, "century": {"tokens": 1}}}
    record = AgentRecord.model_validate(
        {"uid": "u", "born_at": datetime.now(UTC), "budget": budget, "rewinds": {"1": ""}, **NEW}
    )
    assert record.budget.limits == BudgetSpec.model_validate({"day": {"tokens": 5}})
    assert AgentRecord.model_validate_json(record.model_dump_json()) == record


def test_requests_of_a_later_release_are_read() -> None:
    acquire = c.AcquireRequest.model_validate(
        {"agent_id": "a", "agent_uid": "u", "generation": 1, "spec": {"memory_mb": 64, "snapshots": NEW, **NEW}}
    )
    assert acquire.spec == SandboxSpec(memory_mb=64)
    assert acquire.unknown == ("snapshots.from_the_future", "from_the_future")
    lease = {"generation": 1, "host_id": "h", "task_queue": "q", "sandbox_id": "s", "image_id": "i", **NEW}
    take = {"agent_uid": "u", "lease": lease, "number": 1, "parent": None, "policy": {"compression": 3, **NEW}}
    assert c.SnapshotRequest.model_validate(take).policy == SnapshotSpec(compression=3)


def test_what_nobody_asked_for_is_not_sent() -> None:
    request = c.AcquireRequest(agent_id="a", agent_uid="u", generation=1, spec=SandboxSpec(memory_mb=64))
    sent = json.loads(request.model_dump_json())
    assert (sent["spec"], "unknown" in sent) == ({"memory_mb": 64}, False)
    assert c.AcquireRequest.model_validate_json(request.model_dump_json()) == request


async def test_a_host_makes_no_sandbox_that_lacks_what_was_asked_for() -> None:
    """A network or a limit that a later release knows is not left out: another host may know it."""
    request = c.PlacementRequest.model_validate({"agent_uid": "u", "spec": {"network": NEW}})
    choose = PlacementActivities("host", mock.create_autospec(Sandboxes)).choose
    with pytest.raises(SandboxUnavailable, match=r"sandbox\.network\.from_the_future"):
        await ActivityEnvironment().run(choose, request)


def test_fields_are_left_out_of_lists_and_unions_too() -> None:
    function = {"name": "f", "description": "d", "task_queue": "q"}
    known = TypeAdapter(tuple[FunctionSpec, ...]).validate_python([function])
    lenient: TypeAdapter[Any] = TypeAdapter(Lenient[tuple[FunctionSpec, ...] | int])
    assert lenient.validate_python([{**function, **NEW}]) == known


def test_what_is_wrong_otherwise_is_still_refused() -> None:
    lenient = TypeAdapter[SandboxSpec](Lenient[SandboxSpec])
    with pytest.raises(ValidationError, match="memory_mb"):
        lenient.validate_python({"memory_mb": 1, **NEW})


def test_what_a_person_writes_is_strict() -> None:
    with pytest.raises(ValidationError, match="from_the_future"):
        AgentSpec.model_validate({"model": "m", "sandbox": NEW})


def test_a_fork_has_what_the_one_who_asks_for_it_does_not_know() -> None:
    spec = {"model": "m", **NEW}
    source = c.Standpoint.model_validate({"agent_id": "a", "agent_uid": "u", "branch": 0, "spec": spec})
    assert (
        c.ForkRequest.model_validate_json(c.ForkRequest(source=source, new_id="b").model_dump_json()).source.spec
        == spec
    )
