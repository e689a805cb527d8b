"""`hibernaut budget`: what it takes and what it shows."""

import json
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from hibernaut._budget import AgentBudget
from hibernaut.cli import budget as command
from hibernaut.cli.app import run
from hibernaut.cli.budget import as_json, budget_table, notes, parse_limits
from hibernaut.errors import InvalidRequest
from hibernaut.models import Accounts, BudgetChange, BudgetSpec, BudgetStatus, Spent

SPENT = Spent(
    tokens=101_250,
    money_micros=1_250_000,
    steps=3,
    wall_ms=5_400_000,
    compute_ms=450,
    estimated_tokens=1_250,
    estimated_micros=20_000,
    unpriced_tokens=7,
)
LIMITS = BudgetSpec.model_validate({"turn": {"tokens": 100_000}, "day": {"money": 1.5}, "life": {"wall_time": "P1D"}})
STATUS = BudgetStatus(
    limits=LIMITS,
    changed=True,
    spent=Accounts(turn=SPENT, day=SPENT, life=SPENT, today=date(2026, 3, 1)),
    currency="EUR",
    paused="the budget is used up\x1b[2J",
)


class Pretended:
    """Workflows that remember what was asked of them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[Any]]] = []

    async def query(self, agent_id: str, name: str, args: list[Any], result: type[object]) -> BudgetStatus:
        del agent_id, result
        self.asked.append((name, args))
        return STATUS

    update = query


@pytest.fixture
def workflows(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    pretended = Pretended()

    class Handle:
        budget = AgentBudget("a", pretended)  # pyright: ignore[reportArgumentType]  # as much of it as is used

    class Client:
        def get(self, name: str) -> Handle:
            del name
            return Handle()

    def connected(work: Any) -> object:  # noqa: ANN401  # a coroutine function
        coroutine = work(Client())
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("it waits")

    monkeypatch.setattr(command, "connected", connected)
    return pretended


@pytest.mark.parametrize("status", [WorkflowExecutionStatus.TERMINATED, WorkflowExecutionStatus.RUNNING])
async def test_the_clocks_of_a_terminated_agent_stand(status: WorkflowExecutionStatus) -> None:
    now = datetime.now(UTC)
    began, ended = now - timedelta(hours=5), now - timedelta(hours=3)

    class Terminated(Pretended):
        async def query(self, agent_id: str, name: str, args: list[Any], result: type[object]) -> BudgetStatus:
            status = await super().query(agent_id, name, args, result)
            spent = Accounts().ticked(began, working=True, holding=True)
            return status.model_copy(update={"spent": spent})

        async def describe(self, agent_id: str) -> SimpleNamespace:
            del agent_id
            return SimpleNamespace(status=status, close_time=ended)

    budget = AgentBudget("a", Terminated())  # pyright: ignore[reportArgumentType]  # as much of it as is used
    life = (await budget.status()).spent.life
    hours = 2 if status == WorkflowExecutionStatus.TERMINATED else 5
    assert life.wall_ms // 3_600_000 == life.compute_ms // 3_600_000 == hours


def test_the_table_has_every_kind_and_period() -> None:
    lines = [line.split() for line in budget_table(STATUS).plain.splitlines()]
    assert lines == [
        ["THIS", "TURN", "TODAY", "(UTC)", "LIFE"],
        ["tokens", "101,250", "of", "100,000", "(101", "%)", "101,250", "101,250"],
        ["money", "1.25", "EUR", "1.25", "EUR", "of", "1.50", "EUR", "(83", "%)", "1.25", "EUR"],
        ["steps", "3", "3", "3"],
        ["wall", "time", "1h30m", "1h30m", "1h30m", "of", "1d", "(6", "%)"],
        ["compute", "time", "0.45s", "0.45s", "0.45s"],
    ]


def test_what_is_estimated_and_what_is_unknown_is_said() -> None:
    told = "\n".join(notes(STATUS))
    assert "1,250 tokens (0.02 EUR) of it are an estimate" in told
    assert "7 tokens had no price" in told
    assert "changed since" in told
    assert "used up" in told
    assert "\x1b" not in told
    assert notes(BudgetStatus(limits=BudgetSpec(), spent=Accounts())) == []


def test_money_without_a_price_is_not_zero() -> None:
    nothing_known = BudgetStatus(limits=BudgetSpec(), spent=Accounts(life=Spent(tokens=5, unpriced_tokens=5)))
    assert budget_table(nothing_known).plain.splitlines()[2].split() == ["money", "0.00", "0.00", "-"]


def test_programs_read_integers(workflows: Pretended, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["budget", "a", "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["amounts"]["life"]["money"] == {"spent": 1_250_000, "limit": None}
    # What was spent on another day is not today's.
    assert shown["amounts"]["day"]["money"] == {"spent": 0, "limit": 1_500_000}
    assert workflows.asked == [("budget", [])]
    amounts: Any = as_json(STATUS)
    assert amounts["amounts"]["life"]["wall_time"] == {"spent": 5_400_000, "limit": 86_400_000}
    assert amounts["amounts"]["turn"]["steps"] == {"spent": 3, "limit": None}


def test_limits_are_set_and_cleared(workflows: Pretended, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--set", "life.tokens=2M", "--set", "day.money=12.50", "--clear", "turn.tokens", "--by", "ann"]
    assert run(["budget", "a", *arguments]) == 0
    limits = BudgetSpec.model_validate({"life": {"tokens": 2_000_000}, "day": {"money": "12.5"}})
    assert workflows.asked == [("set_budget", [BudgetChange(limits=limits, clear=("turn.tokens",), by="ann")])]
    assert "TODAY" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "tokens=5"], "periods: turn, day, life"),
        (["--set", "life.tokens"], "PERIOD.KIND=AMOUNT"),
        (["--set", "life.tokens=lots"], "250k or 2M"),
        (["--set", "life.tokens=0"], "life.tokens: input should be greater"),
        (["--set", "day.money=nan"], "day.money"),
        (["--set", "turn.wall_time=1y"], "1h30m"),
        (["--clear", "life.bananas"], "'life.bananas' is no limit"),
        (["--clear", "life.steps", "--set", "life.steps=4"], "life.steps cannot be set and cleared at once"),
    ],
)
def test_what_is_no_limit_is_a_usage_error(
    workflows: Pretended, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["budget", "a", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert workflows.asked == []


def test_limits_are_parsed_by_period() -> None:
    spec = parse_limits(["turn.steps=4", "turn.compute_time=90s", "life.money=0.5"])
    assert list(spec.each()) == [("turn", "steps", 4), ("turn", "compute_time", 90_000), ("life", "money", 500_000)]
    with pytest.raises(InvalidRequest):
        parse_limits(["turn.steps=4", "turn.steps.more=4"])


def test_what_is_shown_is_of_now() -> None:
    before = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)
    held = Accounts(day=Spent(steps=4), life=Spent(steps=4), today=before.date(), as_of=before, holding=True)
    shown = BudgetStatus(limits=BudgetSpec(), spent=held).at(before.replace(day=2))
    assert (shown.spent.day.steps, shown.spent.life.steps) == (0, 4)
    assert shown.spent.life.compute_ms == 86_400_000
