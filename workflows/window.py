"""What an agent knows of its conversation and the model's window; carried by continue-as-new."""

from pydantic import BaseModel, ConfigDict


class CompactionState(BaseModel):
    """The newest compaction, and whether another is due."""

    model_config = ConfigDict(extra="ignore")

    ref: str | None = None
    covers_branch: int = 0
    covers_step: int = 0
    """The newest step that it stands for."""
    count: int = 0
    """Compactions so far."""
    due: bool = False
    """Whether the newest reply came near the window."""
    not_before: int = 0
    """Step before which no other is tried for the size alone, after one that failed or was not worth it."""
    squeezed: int | None = None
    """Step for which the provider has refused the conversation once."""

    def valid_for(self, branch: int, step: int) -> bool:
        """Whether it may stand before a conversation whose newest segment is this one.

        A compaction of another branch may or may not: what is not certain is not used.
        """
        return self.ref is None or (self.covers_branch == branch and self.covers_step <= step)

    def rewound(self, branch: int, step: int) -> "CompactionState":
        """The state for a conversation that is set back to this segment."""
        if self.valid_for(branch, step):
            return self.model_copy(update={"not_before": 0, "squeezed": None})
        # It was longer than the window once: whether it is now, the worker finds out before the next call.
        return CompactionState(count=self.count, due=True)
