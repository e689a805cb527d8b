"""The budget's handlers: what was spent, and limits that a person changes."""

from temporalio import workflow

from hibernaut.models import AgentState, BudgetChange, BudgetStatus
from workflows.budget import Budget
from workflows.parts import Parts, go_on

_PATCH = "unpriced-until-there-is-a-price"


class Budgeting(Parts):
    """What a person asks and orders about the budget."""

    @workflow.query
    def budget(self) -> BudgetStatus:
        """What may be spent, and what was."""
        return Budget(self._context).status()

    @workflow.update
    async def set_budget(self, request: BudgetChange) -> BudgetStatus:
        """Change limits; an agent that is paused for its budget goes on when there is some left."""
        budget, record = Budget(self._context), self._record
        asked = record.budget.asking
        budget.change(request)
        if record.paused and asked is not None and record.paused_reason == asked:
            left = budget.exhausted()
            if left is None and budget.still_unpriced(asked) and workflow.patched(_PATCH):
                # Only a price helps, which no budget is; or no limit of money.
                record.budget.asking = asked
            elif left is None:
                go_on(self._context, "resumed: the budget was changed")
            else:
                record.paused_reason = left
                self._context.show(AgentState.PAUSED)
        return budget.status()

    @set_budget.validator
    def _check_set_budget(self, request: BudgetChange) -> None:
        del request
        problem = self._refusal()
        if problem is not None:
            raise problem
