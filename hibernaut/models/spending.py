"""What an agent spent: accounts of a turn, a day and a life, and the clocks that run into them."""

from datetime import UTC, date, datetime, timedelta

from hibernaut.models.base import Lenient, Open
from hibernaut.models.budget import PERIODS, BudgetSpec, Kind, Period
from hibernaut.models.status import Usage


class Spent(Open):
    """What was spent within one period."""

    tokens: int = 0
    money_micros: int = 0
    steps: int = 0
    wall_ms: int = 0
    compute_ms: int = 0
    estimated_tokens: int = 0
    """Those of `tokens` that may or may not have been paid: calls that were begun, and of which no reply was kept."""
    estimated_micros: int = 0
    """The same of `money_micros`."""
    unpriced_tokens: int = 0
    """Those of `tokens` whose cost is not known."""

    def amount(self, kind: Kind) -> int:
        """What counts against a limit, in its unit."""
        names = {"money": "money_micros", "wall_time": "wall_ms", "compute_time": "compute_ms"}
        return int(getattr(self, names.get(kind, kind)))

    def plus(self, **amounts: int) -> "Spent":
        """More of some."""
        return self.model_copy(update={name: getattr(self, name) + more for name, more in amounts.items()})


class Accounts(Open):
    """What was spent in each period, and which clocks run. Every operation gives new accounts."""

    turn: Spent = Spent()
    """Of the turn under way, or of the last one."""
    day: Spent = Spent()
    life: Spent = Spent()
    today: date | None = None
    """The day (UTC) that `day` is of."""
    as_of: datetime | None = None
    """Up to when time is counted."""
    working: bool = False
    """Whether a turn is worked at since then."""
    holding: bool = False
    """Whether a container is held since then."""

    def of(self, period: Period) -> Spent:
        """The account of one period."""
        return getattr(self, period)

    def at(self, now: datetime) -> "Accounts":
        """The same with time counted until now; a new day begins with an empty account."""
        now = now.astimezone(UTC)
        today = now.date()
        fresh = self.today is not None and today > self.today
        since = min(self.as_of, now) if self.as_of is not None else now
        passed = _ms(since, now)
        midnight = datetime(today.year, today.month, today.day, tzinfo=UTC)
        passed_today = _ms(max(since, midnight), now)
        day = Spent() if fresh else self.day
        return self.model_copy(
            update={
                "turn": self.turn.plus(
                    wall_ms=passed if self.working else 0, compute_ms=passed if self.working and self.holding else 0
                ),
                "day": day.plus(
                    wall_ms=passed_today if self.working else 0, compute_ms=passed_today if self.holding else 0
                ),
                "life": self.life.plus(wall_ms=passed if self.working else 0, compute_ms=passed if self.holding else 0),
                "today": max(today, self.today or today),
                # Whole milliseconds are counted: what is left of one belongs to the next time.
                "as_of": since + timedelta(milliseconds=passed),
            }
        )

    def ticked(self, now: datetime, *, working: bool, holding: bool) -> "Accounts":
        """Count the time until now, and which clocks run from now on."""
        return self.at(now).model_copy(update={"working": working, "holding": holding})

    def turned(self) -> "Accounts":
        """Begin the account of a turn."""
        return self.model_copy(update={"turn": Spent()})

    def paid(self, usage: Usage, *, steps: int = 0) -> "Accounts":
        """Count what a reply cost."""
        return self.plus(
            tokens=usage.tokens, money_micros=usage.cost_micros, unpriced_tokens=usage.unpriced_tokens, steps=steps
        )

    def perhaps_paid(self, usage: Usage) -> "Accounts":
        """Count what may have been paid: a budget is kept even then."""
        counted = self.paid(usage)
        return counted.plus(estimated_tokens=usage.tokens, estimated_micros=usage.cost_micros)

    def plus(self, **amounts: int) -> "Accounts":
        """More of some, in every period."""
        return self.model_copy(update={period: self.of(period).plus(**amounts) for period in PERIODS})


class BudgetStatus(Open):
    """The answer to the query `budget`: what may be spent, and what was."""

    limits: Lenient[BudgetSpec]
    """Those that hold: the spec's, with what was changed since."""
    changed: bool = False
    """Whether they are others than the spec's."""
    spent: Accounts
    currency: str = ""
    """Of all money; empty as long as nothing had a price."""
    paused: str | None = None
    """Why the agent is paused, when the budget is the reason."""

    def at(self, now: datetime) -> "BudgetStatus":
        """The same with time counted until now, as far as that can be foretold."""
        return self.model_copy(update={"spent": self.spent.at(now)})


def _ms(since: datetime, until: datetime) -> int:
    return max(0, (until - since) // timedelta(milliseconds=1))
