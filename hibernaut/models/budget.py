"""Budgets: what an agent may spend, and how a limit is changed."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from hibernaut.models.base import Model

MICROS = 1_000_000
"""Money is counted in millionths of a unit, time in milliseconds: integers, so that sums are exact."""

Period = Literal["turn", "day", "life"]
PERIODS: tuple[Period, ...] = get_args(Period)
Kind = Literal["tokens", "money", "steps", "wall_time", "compute_time"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Count = Annotated[int, Field(ge=1, le=10**15)]
Money = Annotated[Decimal, Field(gt=0, le=1_000_000_000, max_digits=16, decimal_places=6)]
Span = Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=36_500))]


class Limits(Model):
    """What may be spent within one period; what is absent has no limit."""

    tokens: Count | None = None
    """Input and output together, cached input included."""
    money: Money | None = None
    """In units of the currency of the worker's price table."""
    steps: Count | None = None
    """Model calls."""
    wall_time: Span | None = None
    """Time turns are worked at; pauses and waiting for a person or a date do not count."""
    compute_time: Span | None = None
    """Time a container is held, idle or not; of a turn, while it is worked at."""

    def amount(self, kind: Kind) -> int | None:
        """One limit, in tokens, millionths, steps or milliseconds."""
        value = getattr(self, kind)
        match value:
            case Decimal():
                return int(value * MICROS)
            case timedelta():
                return max(1, value // timedelta(milliseconds=1))
            case _:
                return value


class BudgetSpec(Model):
    """What an agent may spend; no limits by default."""

    turn: Limits = Limits()
    """Within a turn."""
    day: Limits = Limits()
    """Within a day, from midnight to midnight UTC."""
    life: Limits = Limits()
    """From the agent's first step to its last."""

    def limits(self, period: Period) -> Limits:
        """The limits of one period."""
        return getattr(self, period)

    def each(self) -> Iterator[tuple[Period, Kind, int]]:
        """Every limit there is."""
        for period in PERIODS:
            for kind in KINDS:
                amount = self.limits(period).amount(kind)
                if amount is not None:
                    yield period, kind, amount

    @property
    def has_money(self) -> bool:
        """Whether any limit is one of money."""
        return any(kind == "money" for _, kind, _ in self.each())

    @property
    def is_metered(self) -> bool:
        """Whether any limit is one of what model calls use up."""
        return any(kind in ("tokens", "money") for _, kind, _ in self.each())


class BudgetChange(Model):
    """The argument of the update `set_budget`: limits to set, and limits to take away. All others stay."""

    limits: BudgetSpec = BudgetSpec()
    clear: Annotated[
        tuple[Annotated[str, Field(pattern=rf"^({'|'.join(PERIODS)})\.({'|'.join(KINDS)})$")], ...],
        Field(max_length=len(PERIODS) * len(KINDS)),
    ] = ()
    """Names such as `life.tokens`."""
    by: str = Field(default="", max_length=200)
    """Who changes it, for the event."""

    @model_validator(mode="after")
    def _either(self) -> "BudgetChange":
        both = sorted({f"{period}.{kind}" for period, kind, _ in self.limits.each()} & set(self.clear))
        if both:
            raise ValueError(f"{', '.join(both)} cannot be set and cleared at once; do one of them")
        return self

    def over(self, spec: BudgetSpec) -> BudgetSpec:
        """The limits that hold after this change of others."""
        changed: dict[str, Limits] = {}
        for period in PERIODS:
            given = {kind: value for kind, value in self.limits.limits(period) if value is not None}
            cleared = {name.split(".")[1]: None for name in self.clear if name.startswith(f"{period}.")}
            changed[period] = spec.limits(period).model_copy(update={**given, **cleared})
        return spec.model_copy(update=changed)
