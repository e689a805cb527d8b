"""What model calls may have cost that left no reply behind: the details of their failures and heartbeats."""

from hibernaut.models.base import Open
from hibernaut.models.status import Usage

MODEL_PERHAPS_PAID = "ModelPerhapsPaid"
"""Error type of a model call that was given up, by itself or because it was asked to: what it may have cost is in the
details, and whether to ask again is the workflow's to decide."""


class PerhapsPaid(Open):
    """The first detail of a model call's failure, and the third of its heartbeats."""

    requests: int = 0
    """Requests that had been begun, and of which nothing else is known."""
    each: Usage = Usage()
    """What one of them may have cost; without tokens when that is not known either."""
    known: Usage = Usage()
    """What replies have cost that came and could not be kept."""
