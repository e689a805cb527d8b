"""What an agent's record knows of its budget. Arithmetic alone: no clock, no command."""

from datetime import date

from pydantic import BaseModel, ConfigDict

from hibernaut.models import Usage
from hibernaut.models.base import Lenient
from hibernaut.models.budget import BudgetSpec
from hibernaut.models.spending import Accounts

ASSUMED_CHARACTERS = 4
"""Characters of a token, where only the text is known."""


class BudgetState(BaseModel):
    """Carried from run to run; a few hundred bytes."""

    model_config = ConfigDict(extra="ignore")

    accounts: Accounts = Accounts()
    limits: Lenient[BudgetSpec] | None = None
    """Those that were set after the start: they replace the spec's."""
    warned: dict[str, int] = {}
    """The limits of which it was told that most is used up, by name, with their amount then."""
    warned_on: date | None = None
    """The day (UTC) of those that are named `day.*`."""
    asking: str | None = None
    """The reason of the pause in which the agent asks for more."""
    last: Usage = Usage()
    """Of the newest reply."""
    shown: int = 0
    """Characters of output that no reply has taken up yet."""
    in_vain: int = 0
    """Calls of the next step, one after the other, that were perhaps paid and left no reply."""
    uncounted: bool = False
    """Whether it was told that a provider tells no usage."""

    def guess(self, characters: int) -> Usage:
        """What a call may have cost of which nothing came back: the conversation so far, and that much new text."""
        tokens = self.last.tokens + -(-characters // ASSUMED_CHARACTERS)
        if not self.last.cost_micros or not self.last.tokens:
            return Usage(input_tokens=tokens, total_tokens=tokens, unpriced_tokens=tokens)
        cost = -(-self.last.cost_micros * tokens // self.last.tokens)
        return Usage(input_tokens=tokens, total_tokens=tokens, cost_micros=cost, currency=self.last.currency)
