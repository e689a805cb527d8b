"""Requests and results of a deletion: the workflow's argument, and its steps."""

from datetime import datetime

from pydantic import Field

from hibernaut.models.base import Open
from hibernaut.models.status import LeaseStatus


class SurveyRequest(Open):
    """Asks what an agent has in the store, before anything of it is deleted."""

    agent_id: str
    agent_uid: str
    """Empty when nothing was ever kept under a uid."""
    name: str
    """Names the certificate."""
    asked_by: str = ""
    asked_at: datetime | None = None
    begun_at: datetime | None = None
    """When the deletion began, by the server's clock: of Temporal runs, those that began later are another agent's."""
    seen_host: str = ""
    """Where the deletion itself has just seen to a sandbox that was left."""
    seen_generation: int = 0


class SurveyResult(Open):
    """It is counted, and the count is kept: a deletion that is begun anew does not count what is left."""

    objects: int = 0
    bytes: int = 0


class CertifyRequest(Open):
    """Asks to look whether everything is gone, and for the certificate."""

    agent_id: str
    agent_uid: str
    name: str
    asked_by: str = ""
    asked_at: datetime | None = None
    runs: dict[str, int] = Field(default_factory=dict[str, int])
    """Runs that were deleted, by kind."""
    remnants: tuple[str, ...] = ()
    """Of a sandbox that the deletion itself destroyed."""
    begun_at: datetime | None = None
    """As of `SurveyRequest`; None from a workflow of an older release, whose `asked_at` holds."""


class CertifyResult(Open):
    """The certificate is written."""

    ref: str
    digest: str
    runs: int = 0
    retained_packs: int = 0
    pending_packs: int = 0
    remnants: tuple[str, ...] = ()


class PurgeRequest(Open):
    """Asks for everything an agent has in the object store to be deleted."""

    agent_id: str
    agent_uid: str


class PurgeResult(Open):
    """Objects deleted."""

    objects: int


class ForgetRequest(Open):
    """Asks for every Temporal run of a closed agent to be deleted."""

    agent_id: str
    started_before: datetime | None = None
    """Spares the runs of a new agent that bears the same id."""
    agent_uid: str = ""
    """Tells the runs of others that bear something of this agent."""


class ForgetResult(Open):
    """Runs deleted."""

    runs: int
    by_kind: dict[str, int] = Field(default_factory=dict[str, int])


class DeleteRequest(Open):
    """The argument of `DeleteAgentWorkflow`."""

    agent_id: str
    agent_uid: str
    """Empty when nothing was ever kept under a uid."""
    lease: LeaseStatus | None = None
    """A container that a terminated agent left behind."""
    requested_at: datetime | None = None
    requested_by: str = ""
    begun_at: datetime | None = None
    """When the deletion that this one goes on with began, by the server's clock; None when it is the first."""
