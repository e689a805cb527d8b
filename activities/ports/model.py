"""The model port: one call of a language model, in items of the OpenAI Responses format whatever the wire."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hibernaut.models import ToolCall, Usage

Item = Mapping[str, Any]
"""One conversation item as JSON, in the OpenAI Responses format: the canonical form kept in the transcript."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What a model is asked."""

    model: str
    items: Sequence[Item]
    """The whole conversation: instructions and notes as developer messages, then everything said and done."""
    idempotency_key: str
    """The same on every retry of one step."""


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """What it answered."""

    items: Sequence[Item]
    """The reply's items as they are kept and sent again."""
    tool_calls: Sequence[ToolCall]
    text: str
    refusal: bool
    usage: Usage
    response_id: str | None


class ModelAdapter(Protocol):
    """A provider's wire. Errors: ModelUnavailable (retryable), ModelRejected (not), ContextOverflow (not)."""

    async def call(self, request: ModelInput, progress: Callable[[str], None]) -> ModelOutput:
        """Call the model once; `progress` receives the newest text as it streams.

        Raises:
            ModelUnavailable: rate limit, 5xx, timeout, cut stream; carries the retry-after in seconds.
            ModelRejected: bad request, authentication, unknown model.
            ContextOverflow: the conversation is longer than the model's window.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
