"""`hibernaut budget`: what an agent may spend, what it spent, and other limits for it."""

import getpass
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.text import Text

from hibernaut._amounts import parse_amount, show_amount
from hibernaut.cli.columns import aligned
from hibernaut.cli.console import Format, clean, plain, session
from hibernaut.cli.options import Name, Output, connected
from hibernaut.client import AgentClient
from hibernaut.errors import InvalidRequest
from hibernaut.models import BudgetSpec, BudgetStatus, Spent
from hibernaut.models.budget import KINDS, PERIODS, Kind, Period

TITLES: dict[Kind, str] = {
    "tokens": "tokens",
    "money": "money",
    "steps": "steps",
    "wall_time": "wall time",
    "compute_time": "compute time",
}
WARN_PERCENT = 80


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(budget)


def budget(
    name: Name,
    *,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="LIMIT=AMOUNT", help="Such as life.tokens=2M, day.money=12.50 or turn.wall_time=1h."
        ),
    ] = None,
    clear: Annotated[list[str] | None, typer.Option("--clear", metavar="LIMIT", help="Take this limit away.")] = None,
    by: Annotated[str | None, typer.Option("--by", help="Who changes it; your user name by default.")] = None,
    output: Output = Format.TEXT,
) -> None:
    """What an agent may spend and what it spent; --set and --clear change limits.

    A limit is called turn, day or life, a dot, and tokens, money, steps, wall_time or compute_time. An agent that is
    paused because a limit was used up goes on when it was raised. A day is one of UTC.
    """
    del output
    limits = parse_limits(set_ or ())
    cleared = tuple(clear or ())

    async def work(client: AgentClient) -> BudgetStatus:
        agent = client.get(name)
        if not (set_ or cleared):
            return await agent.budget.status()
        return await agent.budget.set(limits, clear=cleared, by=user() if by is None else by)

    status = connected(work)
    if session.json:
        session.data(as_json(status))
        return
    session.out.print(budget_table(status))
    for line in notes(status):
        session.note(line)


def parse_limits(settings: Sequence[str]) -> BudgetSpec:
    """Limits from `life.tokens=2M` and the like.

    Raises:
        InvalidRequest: a name or an amount is none.
    """
    given: dict[str, dict[str, Any]] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        period, _, kind = name.strip().partition(".")
        if period not in PERIODS or kind not in KINDS or not text:
            raise InvalidRequest(
                f"{setting!r} sets no limit.",
                hint=f"Write PERIOD.KIND=AMOUNT; periods: {', '.join(PERIODS)}; kinds: {', '.join(KINDS)}.",
            )
        try:
            given.setdefault(period, {})[kind] = parse_amount(kind, text)
        except ValueError as error:
            raise InvalidRequest(f"{name}: {error}.") from error
    try:
        return BudgetSpec.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidRequest(f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}.") from error


def budget_table(status: BudgetStatus) -> Text:
    """A line for each kind, with what was spent and what may be in each period."""
    rows = [[Text("", style="bold"), *(Text(title, style="bold") for title in ("THIS TURN", "TODAY (UTC)", "LIFE"))]]
    rows += [[Text(TITLES[kind]), *(_cell(status, period, kind) for period in PERIODS)] for kind in KINDS]
    return aligned(rows)


def notes(status: BudgetStatus) -> list[str]:
    """What is to be said beside the table."""
    life = status.spent.life
    lines: list[str] = []
    if life.estimated_tokens:
        told = show_amount("tokens", life.estimated_tokens)
        cost = f" ({show_amount('money', life.estimated_micros, status.currency)})" if life.estimated_micros else ""
        lines.append(f"{told}{cost} of it are an estimate: calls of which no reply was kept may have been paid.")
    if life.unpriced_tokens and (life.money_micros or status.limits.has_money):
        lines.append(f"{show_amount('tokens', life.unpriced_tokens)} had no price: their cost is not in the money.")
    if status.changed:
        lines.append("The limits were changed since the agent was started.")
    if status.paused:
        lines.append(clean(f"Paused: {status.paused}"))
    return lines


def as_json(status: BudgetStatus) -> object:
    """The status as programs read it: every limit with what was spent of it, in its unit."""
    amounts = {
        period: {
            kind: {"spent": status.spent.of(period).amount(kind), "limit": status.limits.limits(period).amount(kind)}
            for kind in KINDS
        }
        for period in PERIODS
    }
    return {**plain(status), "amounts": amounts}


def _cell(status: BudgetStatus, period: Period, kind: Kind) -> Text:
    account: Spent = status.spent.of(period)
    spent, limit = account.amount(kind), status.limits.limits(period).amount(kind)
    shown = show_amount(kind, spent, status.currency).removesuffix(f" {kind}").removesuffix(f" {kind[:-1]}")
    if limit is None:
        unknown = kind == "money" and not spent and account.unpriced_tokens
        return Text("-" if unknown else shown, style="dim")
    percent = spent * 100 // limit
    style = "bold red" if spent >= limit else "yellow" if percent >= WARN_PERCENT else "default"
    most = show_amount(kind, limit, status.currency).removesuffix(f" {kind}").removesuffix(f" {kind[:-1]}")
    return Text(f"{shown} of {most} ({percent} %)", style=style)


def user() -> str:
    """Who runs this, by name; empty when that cannot be told."""
    # A container may run under a number that has no name.
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return ""
