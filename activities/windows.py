"""How much a model can take in at once, and when a conversation has come near it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from hibernaut.models import Usage

COMPACT_AT = 0.8


class WindowSettings(BaseModel):
    """Settings of a window: of a provider for all its models, or of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    context_window: Annotated[int, Field(ge=1_000, le=1_000_000_000)] | None = None
    """Tokens of input and output that fit into one call; without it a conversation is compacted only when the provider
    refuses it."""
    compact_at: Annotated[float, Field(ge=0.1, le=0.95)] | None = None
    """Share of the window that a call may fill before the conversation is compacted; 0.8 by default."""
    compaction_model: Annotated[str, Field(min_length=1)] | None = None
    """The model that writes the summaries; by default the agent's own."""


@dataclass(frozen=True, slots=True)
class Window:
    """What is known of the window of one model."""

    tokens: int | None = None
    compact_at: float = COMPACT_AT
    compaction_model: str | None = None

    @classmethod
    def of(cls, settings: Sequence[WindowSettings]) -> "Window":
        """The first of the settings that says something, field by field."""
        tokens = next((one.context_window for one in settings if one.context_window is not None), None)
        at = next((one.compact_at for one in settings if one.compact_at is not None), COMPACT_AT)
        model = next((one.compaction_model for one in settings if one.compaction_model is not None), None)
        return cls(tokens, at, model)

    def near(self, usage: Usage) -> bool:
        """Whether a call with this usage says that the next one may not fit."""
        return self.tokens is not None and usage.input_tokens + usage.output_tokens >= self.compact_at * self.tokens
