"""The budget of one agent: what it may spend, what it spent, and other limits for it."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from hibernaut._temporal import OPEN, Workflows
from hibernaut.errors import InvalidRequest
from hibernaut.models import BudgetChange, BudgetSpec, BudgetStatus
from hibernaut.models.budget import KINDS, PERIODS


class AgentBudget:
    """What an agent may spend."""

    def __init__(self, agent_id: str, workflows: Workflows) -> None:
        """Made by `AgentHandle.budget`."""
        self._agent_id = agent_id
        self._workflows = workflows

    async def status(self) -> BudgetStatus:
        """The limits that hold, and what was spent until now."""
        status = await self._workflows.query(self._agent_id, "budget", [], BudgetStatus)
        now = datetime.now(UTC)
        if status.spent.working or status.spent.holding:
            # One that was terminated never said that its clocks stand.
            found = await self._workflows.describe(self._agent_id)
            over = found.status is not None and found.status not in OPEN
            now = min(now, found.close_time) if over and found.close_time is not None else now
        return status.at(now)

    async def set(self, limits: BudgetSpec | None = None, *, clear: Sequence[str] = (), by: str = "") -> BudgetStatus:
        """Change limits; an agent that is paused because they were used up goes on.

        Args:
            limits: Those to set; what it leaves out stays as it is.
            clear: Names of limits to take away, such as `life.tokens`.
            by: Who changes them, for the event.

        Raises:
            InvalidRequest: a name is none of a limit, or is set and cleared at once.
            AgentNotFound, AgentClosed: nothing was changed.
        """
        try:
            change = BudgetChange(limits=limits or BudgetSpec(), clear=tuple(clear), by=by)
        except ValidationError as error:
            raise InvalidRequest(f"The budget of agent {self._agent_id} stays: {_problem(error)}.") from error
        return await self._workflows.update(self._agent_id, "set_budget", [change], BudgetStatus)


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch":
        return f"{first['input']!r} is no limit; one is called {'|'.join(PERIODS)}.{'|'.join(KINDS)}"
    return f"{'.'.join(map(str, first['loc']))}: {first['msg'][:1].lower()}{first['msg'][1:]}"
