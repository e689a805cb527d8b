"""The budget: what an agent may spend, what it spent, and the pause when there is none left."""

from collections.abc import Sequence
from datetime import timedelta

from temporalio import exceptions, workflow
from temporalio.exceptions import ActivityError

from hibernaut import contracts
from hibernaut._amounts import show_amount, write_amount
from hibernaut.models import BudgetChange, BudgetStatus, EventKind, Usage
from hibernaut.models.budget import BudgetSpec, Kind, Period
from hibernaut.models.spending import Spent
from workflows.context import Context
from workflows.failures import code_of, reason_of
from workflows.giving_up import PATCH, perhaps_paid

WARN_AT = 80
"""Percent of a limit at which it is told."""
CALL_FAILED = "the model call failed"
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(minutes=1)
"""Before a call is made again that was perhaps paid; twice as long each time."""
UNCOUNTED = "the provider tells no usage: tokens and money are estimated by the length of what is said"
_EXPECTED = {"turn": "of a turn", "day": "of a day (UTC)", "life": "of its life"}


class Budget:
    """Counts what replies and time cost. Works on the record alone: a second one is as good as the first."""

    def __init__(self, context: Context) -> None:
        """Share the agent's context."""
        self._context = context
        self._record = context.record
        self._state = context.record.budget
        if self._state.accounts.as_of is None and self._record.forked_from is None:
            # The first run of all, or the run before was of a release that kept no accounts.
            known = Spent(tokens=self._record.usage.tokens, steps=self._record.step)
            self._state.accounts = self._state.accounts.model_copy(update={"life": known})

    @property
    def limits(self) -> BudgetSpec:
        """The limits that hold."""
        return self._state.limits or self._context.spec.budget

    def turn_began(self) -> None:
        """Begin a turn's account."""
        self._tick()
        self._state.accounts = self._state.accounts.turned()
        self._forget_warnings("turn")

    def turn_ended(self) -> None:
        """Close it."""
        self._tick()

    def spent(self, reply: contracts.ModelReply) -> None:
        """Count a kept reply, and what calls before it may have cost of which no reply was kept."""
        state = self._state
        self._tick()
        state.last = reply.usage if reply.usage.tokens else reply.unreported
        state.shown = state.in_vain = 0
        state.accounts = state.accounts.paid(reply.usage, steps=1)
        self._estimate(reply.estimated)
        if reply.unreported.tokens and not state.uncounted:
            state.uncounted = True
            self._context.journal.add(EventKind.BUDGET, UNCOUNTED, estimated=reply.unreported.tokens)
        self._warn()

    def also_spent(self, usage: Usage, estimated: Usage) -> None:
        """Count what was paid beside the steps, and perhaps paid, such as for a summary of the conversation."""
        self._tick()
        self._state.accounts = self._state.accounts.paid(usage)
        self._estimate(estimated)
        self._warn()

    def child_spent(self, spent: Spent) -> None:
        """Count what a child agent used in its life, estimates and times included."""
        self._tick()
        self._state.accounts = self._state.accounts.plus(**spent.model_dump(include=set(Spent.model_fields)))
        self._warn()

    def dropped(self, error: ActivityError) -> bool:
        """Count what a call may have cost that left no reply; whether it said so itself.

        One that was given up and did not say, as when its worker left at that moment, may have been paid once.
        """
        found = perhaps_paid(error)
        if found is not None:
            self._tick()
            each = found.each if found.each.tokens or not found.requests else self._guess()
            self._estimate(found.known + each.times(found.requests))
            self._warn()
        elif isinstance(error.cause, exceptions.CancelledError) or (self._record.stopping and workflow.patched(PATCH)):
            self._tick()
            self._estimate(self._guess())
            self._warn()
        if code_of(error) == contracts.MODEL_UNPRICED:
            # A budget that is changed goes on from this pause too.
            self._state.asking = f"{CALL_FAILED}: {reason_of(error)}"
        return found is not None

    def in_vain(self, error: ActivityError) -> timedelta | None:
        """How long to wait before the model is asked again, when the call ended only for what it may have cost."""
        if code_of(error) != contracts.MODEL_PERHAPS_PAID:
            return None
        self._state.in_vain += 1
        return min(FIRST_WAIT * 2 ** min(self._state.in_vain - 1, 10), LONGEST_WAIT)

    def exhausted(self) -> str | None:
        """Why the next step is not to be taken; None when there is budget left."""
        self._tick()
        self._warn()
        accounts = self._state.accounts
        over = [found for found in self.limits.each() if accounts.of(found[0]).amount(found[1]) >= found[2]]
        self._state.asking = self._question(over) if over else None
        return self._state.asking

    def still_unpriced(self, asked: str) -> bool:
        """Whether a pause for this reason is one for a model without a price, and money is limited as it was."""
        return asked.startswith(CALL_FAILED) and self.limits.has_money

    def change(self, change: BudgetChange) -> None:
        """Take other limits."""
        before = {f"{period}.{kind}": amount for period, kind, amount in self.limits.each()}
        self._state.limits = change.over(self.limits)
        after = {f"{period}.{kind}": amount for period, kind, amount in self.limits.each()}
        changes = {
            name: {"from": before.get(name), "to": after.get(name)}
            for name in sorted(before | after)
            if before.get(name) != after.get(name)
        }
        if changes:
            told = ", ".join(_told(name, one["from"], one["to"], self._currency) for name, one in changes.items())
            by = f" by {change.by}" if change.by else ""
            self._context.journal.add(EventKind.BUDGET, f"budget changed{by}: {told}", changes=changes, by=change.by)
        self._tick()
        self._warn()

    def status(self) -> BudgetStatus:
        """The answer to the query `budget`; changes nothing."""
        record = self._record
        asking = record.paused and record.paused_reason == self._state.asking
        return BudgetStatus(
            limits=self.limits,
            changed=self._state.limits is not None and self._state.limits != self._context.spec.budget,
            spent=self._state.accounts,
            currency=self._currency,
            paused=record.paused_reason if asking else None,
        )

    @property
    def _currency(self) -> str:
        return self._record.usage.currency or self._record.usage_estimate.currency

    def _tick(self) -> None:
        self._record.tick(workflow.now())

    def _guess(self) -> Usage:
        characters = self._state.shown
        for item in self._record.pending:
            # What is not carried is longer than what is.
            whole = contracts.INLINE_TEXT if getattr(item, "text_ref", None) else 0
            characters += max(len(getattr(item, "text", None) or ""), whole)
        return self._state.guess(characters)

    def _estimate(self, usage: Usage) -> None:
        if usage.tokens:
            self._state.accounts = self._state.accounts.perhaps_paid(usage)
            self._record.usage_estimate += usage

    def _warn(self) -> None:
        """Tell once of each limit of which most is used up; again when it was changed, and in each period anew."""
        accounts = self._state.accounts
        if accounts.today != self._state.warned_on:
            self._forget_warnings("day")
            self._state.warned_on = accounts.today
        for period, kind, limit in self.limits.each():
            account, name = accounts.of(period), f"{period}.{kind}"
            spent = account.amount(kind)
            if spent * 100 < limit * WARN_AT or self._state.warned.get(name) == limit:
                continue
            self._state.warned[name] = limit
            self._context.journal.add(
                EventKind.BUDGET,
                f"{spent * 100 // limit} % of a limit: {self._spelled(account, period, kind, limit)}",
                period=period,
                kind=kind,
                spent=spent,
                limit=limit,
                estimated=_estimated(account, kind),
            )

    def _forget_warnings(self, period: Period) -> None:
        warned = self._state.warned
        self._state.warned = {name: amount for name, amount in warned.items() if not name.startswith(f"{period}.")}

    def _question(self, over: Sequence[tuple[Period, Kind, int]]) -> str:
        accounts = self._state.accounts
        found = "; ".join(self._spelled(accounts.of(period), period, kind, limit) for period, kind, limit in over)
        raised = " ".join(
            f"--set {period}.{kind}={write_amount(kind, 2 * max(limit, accounts.of(period).amount(kind)))}"
            for period, kind, limit in over
        )
        renewed = all(period == "day" for period, _, _ in over)
        wait = ", or resume it after midnight UTC, when a day's budget begins anew" if renewed else ""
        order = f"`hibernaut budget {self._context.agent_id} {raised}`"
        return f"{contracts.BUDGET_USED_UP}: {found}. To go on: {order}{wait}"

    def _spelled(self, account: Spent, period: Period, kind: Kind, limit: int) -> str:
        spent = show_amount(kind, account.amount(kind), self._currency)
        estimated = _estimated(account, kind)
        perhaps = f" ({show_amount(kind, estimated, self._currency)} of it an estimate)" if estimated else ""
        what = {"wall_time": " of working time", "compute_time": " of compute time"}.get(kind, "")
        return f"{spent}{perhaps} of {show_amount(kind, limit, self._currency)}{what} {_EXPECTED[period]}"


def _estimated(account: Spent, kind: Kind) -> int:
    match kind:
        case "tokens":
            return account.estimated_tokens
        case "money":
            return account.estimated_micros
        case _:
            return 0


def _told(name: str, before: int | None, after: int | None, currency: str) -> str:
    kind: Kind = name.split(".")[1]  # pyright: ignore[reportAssignmentType]  # names are made of kinds
    old, new = (show_amount(kind, amount, currency) if amount is not None else "no limit" for amount in (before, after))
    return f"{name} from {old} to {new}"
