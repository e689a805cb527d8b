"""The arithmetic of budgets: limits, accounts, clocks, prices, and how amounts are written."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from pydantic import ValidationError

from activities.pricing import Price, costed
from hibernaut._amounts import parse_amount, show_amount, write_amount
from hibernaut.models import Accounts, BudgetChange, BudgetSpec, Limits, Usage
from hibernaut.models.budget import KINDS, Kind
from workflows.accounts import BudgetState

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(**time: float) -> datetime:
    return NOON + timedelta(**time)


def test_limits_are_exact_numbers_in_their_unit() -> None:
    spec = BudgetSpec.model_validate(
        {
            "turn": {"tokens": 100_000, "money": 2.1},
            "day": {"steps": 7},
            "life": {"wall_time": "PT1H", "money": "0.000001"},
        }
    )
    assert list(spec.each()) == [
        ("turn", "tokens", 100_000),
        ("turn", "money", 2_100_000),
        ("day", "steps", 7),
        ("life", "money", 1),
        ("life", "wall_time", 3_600_000),
    ]
    assert BudgetSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.has_money
    assert not BudgetSpec().has_money


@pytest.mark.parametrize(
    "wrong",
    [
        {"turn": {"tokens": 0}},
        {"day": {"money": "0.0000001"}},
        {"life": {"steps": -1}},
        {"life": {"wall_time": 0}},
        {"week": {}},
    ],
)
def test_what_is_no_limit_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        BudgetSpec.model_validate(wrong)


def test_a_change_sets_and_clears_and_leaves_the_rest() -> None:
    spec = BudgetSpec(turn=Limits(tokens=5, steps=3), life=Limits(money=Decimal(1)))
    change = BudgetChange(limits=BudgetSpec(turn=Limits(tokens=9), day=Limits(steps=1)), clear=("life.money",))
    assert list(change.over(spec).each()) == [("turn", "tokens", 9), ("turn", "steps", 3), ("day", "steps", 1)]
    with pytest.raises(ValidationError, match=r"turn\.tokens cannot be set and cleared"):
        BudgetChange(limits=BudgetSpec(turn=Limits(tokens=9)), clear=("turn.tokens",))
    with pytest.raises(ValidationError):
        BudgetChange(clear=("turn.bananas",))


def test_clocks_count_what_they_ran() -> None:
    accounts = Accounts().ticked(at(), working=True, holding=False)
    accounts = accounts.ticked(at(seconds=10), working=True, holding=True)
    accounts = accounts.ticked(at(seconds=15), working=False, holding=True)
    accounts = accounts.ticked(at(seconds=35), working=False, holding=False).at(at(hours=5))
    assert (accounts.turn.wall_ms, accounts.turn.compute_ms) == (15_000, 5_000)
    assert (accounts.life.wall_ms, accounts.life.compute_ms) == (15_000, 25_000)
    assert accounts.day == accounts.life
    assert accounts.turned().turn.wall_ms == 0
    assert accounts.turned().life == accounts.life


def test_looking_often_counts_no_less() -> None:
    accounts = Accounts().ticked(at(), working=True, holding=True)
    for number in range(1, 10_001):
        accounts = accounts.at(at(microseconds=number * 300))
    assert accounts.life.wall_ms == accounts.life.compute_ms == 3_000


def test_a_clock_that_goes_back_counts_nothing() -> None:
    accounts = Accounts().ticked(at(), working=True, holding=True).at(at(seconds=-5))
    assert accounts.life.wall_ms == 0


def test_a_day_begins_at_midnight_utc() -> None:
    accounts = Accounts().ticked(at(hours=11), working=True, holding=True).paid(Usage(total_tokens=5))
    accounts = accounts.at(at(hours=11, minutes=59))
    assert accounts.day.tokens == 5
    # Noon in a zone thirteen hours ahead is one hour before midnight UTC.
    ahead = datetime(2026, 3, 2, 12, tzinfo=timezone(timedelta(hours=13)))
    assert accounts.at(ahead).day.tokens == 5
    accounts = accounts.at(at(hours=13))
    assert (accounts.day.tokens, accounts.life.tokens) == (0, 5)
    assert accounts.day.wall_ms == 3_600_000
    assert accounts.life.wall_ms == 2 * 3_600_000
    # After days of nothing the day is a new one, and has the hours since its own midnight alone.
    assert accounts.at(at(days=3)).day.wall_ms == 12 * 3_600_000


def test_replies_and_estimates_count_in_every_period() -> None:
    usage = Usage(total_tokens=10, cost_micros=7, unpriced_tokens=2)
    accounts = Accounts().paid(usage, steps=1).perhaps_paid(usage.times(2))
    for period in (accounts.turn, accounts.day, accounts.life):
        assert (period.tokens, period.money_micros, period.steps) == (30, 21, 1)
        assert (period.estimated_tokens, period.estimated_micros, period.unpriced_tokens) == (20, 14, 6)


def test_accounts_survive_the_way_to_the_next_run() -> None:
    state = BudgetState(warned={"life.tokens": 5}, asking="why")
    state.accounts = Accounts().ticked(at(), working=True, holding=False).paid(Usage(total_tokens=5))
    again = BudgetState.model_validate_json(state.model_dump_json())
    assert again == state
    assert again.accounts.at(at(minutes=1)).life.wall_ms == 60_000


def test_usage_without_a_sum_has_one() -> None:
    assert Usage(input_tokens=3, output_tokens=4).tokens == 7
    assert Usage(input_tokens=3, output_tokens=4, total_tokens=9).tokens == 9
    assert Usage(total_tokens=5).times(0) == Usage()
    assert (Usage(currency="EUR") + Usage()).currency == "EUR"
    # Some of a sum have one, some have none.
    assert (Usage(input_tokens=100, output_tokens=10) + Usage(total_tokens=5)).tokens == 115
    assert Usage(input_tokens=3, output_tokens=4).times(3).tokens == 21


PRICE = Price(input=Decimal("1.25"), cached_input=Decimal("0.125"), output=Decimal(10))


@pytest.mark.parametrize(
    ("usage", "price", "micros"),
    [
        (Usage(input_tokens=1_000_000, output_tokens=1_000_000, total_tokens=2_000_000), PRICE, 11_250_000),
        (Usage(input_tokens=100, cached_input_tokens=80, output_tokens=10, total_tokens=110), PRICE, 135),
        (Usage(input_tokens=1, total_tokens=1), PRICE, 2),
        # More is said to be cached than there was: as much as there was.
        (Usage(input_tokens=8, cached_input_tokens=80, total_tokens=8), PRICE, 1),
        # Reasoning that is in the total alone is paid as output.
        (Usage(input_tokens=4, output_tokens=1, total_tokens=8), PRICE, 45),
        (Usage(input_tokens=100, cached_input_tokens=80), Price(input=Decimal(1), output=Decimal(1)), 100),
    ],
)
def test_prices_are_for_a_million_tokens(usage: Usage, price: Price, micros: int) -> None:
    assert price.micros(usage) == micros
    paid = costed(usage, price, "EUR")
    assert (paid.cost_micros, paid.currency, paid.unpriced_tokens) == (micros, "EUR", 0)


def test_no_price_is_not_free() -> None:
    paid = costed(Usage(input_tokens=3, output_tokens=4), None, "EUR")
    assert (paid.cost_micros, paid.unpriced_tokens, paid.currency) == (0, 7, "")
    free = costed(Usage(total_tokens=4), Price(input=Decimal(0), output=Decimal(0)), "EUR")
    assert (free.cost_micros, free.unpriced_tokens) == (0, 0)


def test_what_a_lost_call_may_have_cost_is_guessed_from_the_last_one() -> None:
    state = BudgetState(
        last=Usage(input_tokens=900, output_tokens=100, total_tokens=1_000, cost_micros=500, currency="X")
    )
    assert state.guess(400) == Usage(input_tokens=1_100, total_tokens=1_100, cost_micros=550, currency="X")
    assert BudgetState().guess(401) == Usage(input_tokens=101, total_tokens=101, unpriced_tokens=101)


@pytest.mark.parametrize(
    ("kind", "text", "amount"),
    [
        ("tokens", "2M", 2_000_000),
        ("tokens", "1.5k", 1_500),
        ("tokens", "100,000", 100_000),
        ("steps", "40", 40),
        ("money", "12.50", Decimal("12.5")),
        ("wall_time", "90", timedelta(seconds=90)),
        ("wall_time", "1h30m", timedelta(minutes=90)),
        ("compute_time", "2d", timedelta(days=2)),
        ("compute_time", "PT5M", timedelta(minutes=5)),
    ],
)
def test_amounts_are_read(kind: Kind, text: str, amount: object) -> None:
    assert parse_amount(kind, text) == amount


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("tokens", "many"),
        ("tokens", "1.5"),
        ("steps", ""),
        ("money", "five"),
        ("money", "5 EUR"),
        ("wall_time", "1w"),
        ("wall_time", "9999999999999d"),
        ("compute_time", "1e400"),
    ],
)
def test_what_is_no_amount_is_refused(kind: Kind, text: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        parse_amount(kind, text)


def test_amounts_are_shown_and_can_be_written_back() -> None:
    shown = {"tokens": "1,234,567 tokens", "money": "1.234567 EUR", "steps": "1,234,567 steps", "wall_time": "20m34s"}
    for kind, text in shown.items():
        assert show_amount(kind, 1_234_567, "EUR") == text  # pyright: ignore[reportArgumentType]  # keys of the dict
    assert show_amount("steps", 1) == "1 step"
    assert show_amount("money", 2_500_000, "USD") == "2.50 USD"
    assert show_amount("compute_time", 450) == "0.45s"
    for kind in KINDS:
        written = Limits.model_validate({kind: parse_amount(kind, write_amount(kind, 93_784_000))})
        assert written.amount(kind) == 93_784_000
