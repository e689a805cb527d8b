"""The audit log: lines, the head that anchors a chain, and what a verification found."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field, JsonValue

from hibernaut.models.base import Open

NO_HASH = "0" * 64
"""What stands for the hash before the first line."""


class AuditHead(Open):
    """The newest line of a chain, kept apart from the store: a chain that ends before it was cut."""

    seq: int = 0
    """Its number; 0 when there is none yet."""
    hash: str = NO_HASH
    event: int = 0
    """Of an agent's chain: the newest event that it takes account of."""


class AuditLine(Open):
    """One line of a chain, as docs/audit.md describes it field by field."""

    format: str = "hibernaut-audit/1"
    chain: str
    """`agent:UID` or `host:ID`."""
    seq: int
    at: datetime
    kind: str
    facts: dict[str, JsonValue] = Field(default_factory=dict)
    """Names, ids, counts and words of the engine; never content."""
    digests: dict[str, str] = Field(default_factory=dict)
    """Keyed digests of content, by what it is."""
    prev: str
    """Hash of the line before."""
    hash: str
    """SHA-256 of the line without this field."""


class AuditTrouble(StrEnum):
    """What is wrong with a chain."""

    GAP = "gap"
    """Lines are missing in its middle."""
    EDITED = "edited"
    """A line, or the name of a part, is not what was written."""
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    """Its end is missing."""
    FOREIGN = "foreign"
    """There is what the chain's writer did not write."""
    DUPLICATE = "duplicate"


class AuditProblem(Open):
    """The first thing that is wrong with a chain."""

    trouble: AuditTrouble
    seq: int
    """Number of the line where it shows."""
    part: str = ""
    """Name of the part where it shows; empty when there is none."""
    detail: str


class AuditReport(Open):
    """What a verification of one chain found."""

    chain: str
    agent_id: str = ""
    """Of an agent's chain, when its lines tell it."""
    lines: int = 0
    """Those before the first problem."""
    parts: int = 0
    head: AuditHead = AuditHead()
    """The newest line before the first problem."""
    anchored: bool = False
    """Whether the end was compared with what a workflow knows."""
    pending: int = 0
    """Events of the agent that are not in the store yet."""
    notes: tuple[str, ...] = ()
    """What is sound, and worth knowing."""
    problem: AuditProblem | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.problem is None
