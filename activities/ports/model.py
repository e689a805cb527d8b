"""The model port: one call of a language model, in items of the OpenAI Responses format whatever the wire."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hibernaut.models import ToolCall, Usage

Item = Mapping[str, Any]
"""One conversation item as JSON, in the OpenAI Responses format: the canonical form kept in the transcript."""


class ToolSet(Protocol):
    """What is offered beside the shell."""

    @property
    def names(self) -> Sequence[str]:
        """Their names."""
        ...

    def declarations(self) -> Sequence[dict[str, Any]]:
        """The tools as the Chat Completions wire declares them."""
        ...

    def checked(self, name: str, arguments: str) -> dict[str, Any]:
        """The arguments of a call of one of them.

        Raises:
            ValueError: they do not fit; the message is for the model.
        """
        ...


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What a model is asked."""

    model: str
    items: Sequence[Item]
    """The whole conversation: instructions and notes as developer messages, then everything said and done."""
    idempotency_key: str
    """The same on every retry of one step."""
    tools: ToolSet | None = None
    shell: bool = True
    """Whether the shell is offered; without any tool the model can only answer."""
    fresh_call_ids: bool = False
    """Whether no call keeps the id that the model gave it: earlier ones, which it must not repeat, are out of sight."""


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
