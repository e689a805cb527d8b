"""What tokens cost: the price table of the provider settings, applied to what a provider reports."""

from decimal import ROUND_CEILING, Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from activities.errors import ModelRejected
from hibernaut.models import Usage

Amount = Annotated[Decimal, Field(ge=0, le=1_000_000, max_digits=13, decimal_places=6)]
Currency = Annotated[str, Field(pattern=r"^[A-Za-z]{1,8}$")]


class ModelUnpriced(ModelRejected):
    """Money is limited and the worker knows no price of the model: it is not asked."""

    def __init__(self, provider: str, model: str) -> None:
        super().__init__(
            f"Model {model!r} of provider {provider!r} has no price on this worker, and the budget limits money. Add "
            f"providers.{provider}.models.{model}.price to the provider file, restart the worker and resume the agent, "
            "or clear its limits of money with `hibernaut budget`."
        )


class Price(BaseModel):
    """What a model costs, in units of the table's currency for each million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    input: Amount
    cached_input: Amount | None = None
    """Of input tokens that the provider had cached; without it they cost as much as the others."""
    output: Amount
    """Reasoning included: providers count it as output."""

    def micros(self, usage: Usage) -> int:
        """The cost in millionths of a unit, rounded up.

        A price for a million tokens in units is the price of one token in millionths of a unit.
        """
        cached = min(usage.cached_input_tokens, usage.input_tokens)
        # Some providers report reasoning in the total alone.
        output = max(usage.output_tokens, usage.total_tokens - usage.input_tokens)
        cost = (
            self.input * (usage.input_tokens - cached)
            + (self.input if self.cached_input is None else self.cached_input) * cached
            + self.output * output
        )
        return int(cost.to_integral_value(rounding=ROUND_CEILING))


def costed(usage: Usage, price: Price | None, currency: str) -> Usage:
    """The usage with its cost; without a price, all its tokens count as tokens that have none."""
    if price is None:
        return usage.model_copy(update={"unpriced_tokens": usage.tokens})
    return usage.model_copy(update={"cost_micros": price.micros(usage), "currency": currency})
