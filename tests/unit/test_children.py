"""Child agents: their ids, what they may spend, what `start_agent` takes."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console
from temporalio import workflow
from temporalio.exceptions import ApplicationError

from activities.engine_tools import checked, function_tools
from hibernaut._children import Kin
from hibernaut._ids import check_agent_id
from hibernaut.cli.render import agents_table, status_table
from hibernaut.client import AgentSummary
from hibernaut.contracts import ModelReply, ToolResult
from hibernaut.contracts.children import MEMO_PARENT, ChildReport, child_agent_id, child_prefix
from hibernaut.errors import AgentNotFound
from hibernaut.models import (
    Accounts,
    AgentSpec,
    AgentState,
    AgentStatus,
    BudgetSpec,
    ChildState,
    ChildStatus,
    Limits,
    Spent,
    ToolCall,
)
from hibernaut.models.children import MAX_TOTAL
from hibernaut.models.deletion import Deletion
from workflows import bounds
from workflows.answers import Answers
from workflows.children import Children, left
from workflows.context import Context
from workflows.functions import MAX_TOGETHER
from workflows.offspring import KEPT_ENDED, Child, Offspring
from workflows.record import AgentRecord, OpenReply
from workflows.waits import Waits


def _child(number: int, **fields: object) -> Child:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    base = {"task": "t", "computer": "new", "background": False, "started_at": now, "until": now + timedelta(hours=1)}
    return Child.model_validate({"agent_id": f"a.child-{number}", **base, **fields})


def test_every_id_of_a_child_is_an_agents_id() -> None:
    for parent in ("a", "x" * 128):
        for label in ("", "l" * 24):
            name = child_agent_id(parent, "0123456789", MAX_TOTAL, label)
            check_agent_id(name)
            assert name.startswith(child_prefix(parent))
    assert child_agent_id("a", "0123456789", 7, "tests") == "a.tests-7-0123"


def test_a_child_may_spend_what_is_left() -> None:
    limits = BudgetSpec(
        turn=Limits(tokens=100, steps=10),
        day=Limits(money=Decimal("1.5")),
        life=Limits(tokens=1_000, wall_time=timedelta(seconds=10)),
    )
    spent = Spent(tokens=950, steps=4, money_micros=1_000_000, wall_ms=30_000)
    found = left(limits, Accounts(turn=Spent(tokens=20, steps=4), day=spent, life=spent))
    assert found.life == Limits(tokens=50, steps=6, wall_time=timedelta(milliseconds=1))
    assert found.day == Limits(money=Decimal("0.5"))
    assert found.turn == Limits()


def test_without_limits_a_child_has_none() -> None:
    assert left(BudgetSpec(), Accounts(life=Spent(tokens=10**9))) == BudgetSpec()


def test_children_that_have_ended_are_forgotten_the_oldest_first() -> None:
    known = Offspring()
    known.add(_child(0))
    known.add(_child(1, state=ChildState.DONE, text="not told yet"))
    for number in range(2, 2 * KEPT_ENDED):
        known.add(_child(number, state=ChildState.DONE))
    known.add(_child(999))
    numbers = [int(child.agent_id.rpartition("-")[2]) for child in known.known]
    assert numbers == [0, 1, *range(KEPT_ENDED, 2 * KEPT_ENDED), 999]
    assert known.started == 2 * KEPT_ENDED + 1
    assert isinstance(known.known[0].status(), ChildStatus)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Children:
    """Those of an agent that is at work on nothing else."""
    monkeypatch.setattr(workflow, "now", lambda: datetime(2026, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(bounds, "note_work", lambda: None)
    record = AgentRecord(uid="u", born_at=datetime(2026, 1, 1, tzinfo=UTC))
    return Children(Context("a", AgentSpec(model="m"), record))


def _report(child: Child, **fields: object) -> ChildReport:
    base = {"parent_uid": "u", "agent_id": child.agent_id, "state": ChildState.DONE, "text": "done"}
    return ChildReport.model_validate({**base, **fields})


async def test_a_child_that_ends_as_it_is_told_to_stop_has_ended_once(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = children._known  # pyright: ignore[reportPrivateUsage]
    child, other = _child(1, stop=True), _child(2, stop=True)
    known.add(child)
    known.add(other)
    told: list[str] = []

    class Gone:
        def __init__(self, workflow_id: str) -> None:
            self._id = workflow_id

        async def signal(self, name: str) -> None:
            told.append(self._id)
            for one in (child, other):
                children.ended(_report(one))
            raise ApplicationError(name)

    monkeypatch.setattr(workflow, "get_external_workflow_handle", Gone)
    await children.order()
    assert (child.state, other.state) == (ChildState.DONE, ChildState.DONE)
    assert len(told) == 1, "the other had ended by then"


@pytest.mark.parametrize(("background", "kept"), [(False, ""), (True, "done")])
def test_words_that_nobody_waits_for_are_not_carried(children: Children, kept: str, *, background: bool) -> None:
    child = _child(1, stop=True, background=background)
    children._known.add(child)  # pyright: ignore[reportPrivateUsage]
    assert children.ended(_report(child)) is child
    assert child.text == kept
    assert children.ended(_report(child)) is None


def test_answers_of_many_children_fit_into_a_history(children: Children) -> None:
    context = children._context  # pyright: ignore[reportPrivateUsage]
    record, answers = context.record, Answers(context)
    waits = Waits(context, answers)
    for number in range(40):
        child = _child(number, state=ChildState.DONE, text="\N{OCTOPUS}" * 8_000)
        record.children.add(child)
        call = ToolCall(call_id=f"c{number}", kind="function_call", tool="start_agent", arguments={"task": "t"})
        reply = OpenReply(reply=ModelReply(segment_ref="", tool_calls=(call,)))
        waits.for_agent(reply, call, child)
        assert waits.settle(reply, call)
    assert answers.size < MAX_TOGETHER + 40 * 1_000
    results = [item.output for item in record.pending if isinstance(item, ToolResult)]
    assert isinstance(results[-1], dict)
    assert results[-1]["cut"] is True


class _Family(Kin):
    """An agent that was closed while it started another."""

    id = "a"

    def __init__(self, *, mine: bool) -> None:
        self.deleted: list[str] = []
        self._mine = mine
        self._looks = 0
        self._workflows = self  # pyright: ignore[reportAttributeAccessIssue]

    async def status(self) -> AgentStatus:  # pyright: ignore[reportIncompatibleMethodOverride]
        return AgentStatus.model_construct(children=(_child(1).status(),))

    async def children(self) -> list[Any]:
        return []

    async def is_open(self, workflow_id: str) -> bool:
        assert workflow_id == "child:a.child-1"
        return self._looks < 2

    async def describe(self, agent_id: str) -> Any:  # noqa: ANN401
        self._looks += 1
        if self._looks < 3:
            raise AgentNotFound("not yet", agent_id=agent_id)
        return self

    async def memo_value(self, name: str, default: object) -> object:
        assert name == MEMO_PARENT
        return self.id if self._mine else default

    def _beside(self, agent_id: str) -> Any:  # noqa: ANN401
        child = _Family(mine=True)
        child.id, child.deleted = agent_id, self.deleted
        return child

    async def delete(self, *, by: str | None = None) -> Deletion:
        assert by == "ann"
        self.deleted.append(self.id)
        return Deletion()


@pytest.mark.parametrize("mine", [True, False])
async def test_a_child_that_is_being_made_is_deleted_with_its_parent(*, mine: bool) -> None:
    family = _Family(mine=mine)
    await family._delete_children("ann")  # pyright: ignore[reportPrivateUsage]
    assert family.deleted == (["a.child-1"] if mine else [])


def test_the_tool_is_offered_to_who_asks_for_it() -> None:
    assert "start_agent" not in AgentSpec(model="m").tools
    spec = AgentSpec(model="m", tools=("start_agent",))
    (tool,) = function_tools(spec.tools)
    assert tool["function"]["parameters"]["required"] == ["task"]


@pytest.mark.parametrize(
    "arguments",
    [
        "{}",
        '{"task": ""}',
        f'{{"task": "{"x" * 20_001}"}}',
        '{"task": "t", "name": "../x"}',
        '{"task": "t", "name": "Big"}',
        '{"task": "t", "name": "a-"}',
        f'{{"task": "t", "name": "{"x" * 25}"}}',
        '{"task": "t", "computer": "mine"}',
        '{"task": "t", "timeout_seconds": 0}',
        '{"task": "t", "model": "other"}',
    ],
)
def test_arguments_that_are_not_taken(arguments: str) -> None:
    with pytest.raises(ValidationError):
        checked("start_agent", arguments)


def test_arguments_have_defaults() -> None:
    found = checked("start_agent", '{"task": "t", "name": "a-1"}')
    assert (found["computer"], found["wait"], found["timeout_seconds"]) == ("new", True, None)


def test_a_family_is_shown() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    status = AgentStatus.model_validate(
        {
            "agent_id": "a.tests-1-0123",
            "agent_uid": "u",
            "state": "hibernated",
            "spec": {"model": "m"},
            "turn": 1,
            "steps": 1,
            "inbox": 0,
            "generation": 0,
            "born_at": now,
            "last_event": 1,
            "parent": {"agent_id": "a", "agent_uid": "v"},
            "children": [_child(1).status(), _child(2, state=ChildState.DONE).status()],
            "waiting": {
                "kind": "agent",
                "call_id": "c",
                "tool": "start_agent",
                "text": "count\nall",
                "since": now,
                "agent_id": "a.child-1",
            },
        }
    )
    console = Console(width=200)
    with console.capture() as shown:
        console.print(status_table(status, [], None))
    told = shown.get()
    assert "started by" in told
    assert "for agent a.child-1: count all" in told
    assert "a.child-1, since" in told
    assert "a.child-2" not in told


@pytest.mark.parametrize("parent", [None, "a"])
def test_a_list_names_parents_if_there_are_any(parent: str | None) -> None:
    agent = AgentSummary(agent_id="x", state=AgentState.IDLE, model="m", started_at=datetime.now(UTC), parent=parent)
    console = Console(width=200)
    with console.capture() as shown:
        console.print(agents_table([agent]))
    assert ("PARENT" in shown.get()) is (parent is not None)
