"""Request and result of `transcript.compact`."""

from hibernaut.models.base import Open
from hibernaut.models.status import Usage


class CompactRequest(Open):
    """Asks for the older part of a conversation to be summarised.

    (agent_uid, branch, step, ordinal) are those of the model call that comes next, and name the object that is written.
    """

    agent_uid: str
    branch: int
    step: int
    ordinal: int
    transcript_ref: str
    """Key of the newest segment."""
    compaction_ref: str | None = None
    """Key of the compaction before this one."""
    provider: str
    model: str
    priced: bool = False
    """Whether money is limited, so that only a model with a price may be asked."""
    limited: bool = False
    """Whether tokens or money are limited: few requests that may have been paid are made in vain."""
    hard: bool = False
    """Whether the provider has refused the conversation: less of it is kept as it was said."""


class CompactResult(Open):
    """A compaction, or none when there was nothing worth it."""

    ref: str | None
    """Key of the compaction; none when nothing was left to summarise."""
    covers_branch: int = 0
    covers_step: int = 0
    """The newest segment that it stands for."""
    steps: int = 0
    """Model calls that the summary newly stands for."""
    tokens_before: int = 0
    """Of the newest call before it, input and output."""
    tokens_after: int = 0
    """An estimate of what is sent from now on, before anything new."""
    usage: Usage = Usage()
    """What the summary cost."""
    estimated: Usage = Usage()
    """What may have been paid beside: for requests that left nothing, and where the provider told no usage."""
    summary_head: str = ""
    """The first 500 characters of the summary."""
    duration_ms: int = 0
    replayed: bool = False
    """Whether an earlier attempt had already kept it."""
