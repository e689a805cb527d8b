"""The upkeep port: what keeps a store of snapshots small and sound. It needs no container and no host.

Every error is a `SnapshotError` or a `StoreError`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from activities.ports.snapshots import Progress

KeepRule = Literal["newest", "previous", "in_use", "recent", "last", "hourly", "daily", "weekly", "named", "base"]
"""Why a snapshot is kept: it is the newest, the one before it, one that the agent or a container of its goes on from,
younger than an hour, among the last N, the newest of an hour, day or week (UTC), it has a name, or one that is kept
builds on it."""


class Retention(BaseModel):
    """Which snapshots of an agent a pruning keeps; the rules add up, and 0 switches one off.

    Kept whatever they say: the newest snapshot and the one before it, those that the agent goes on from, those younger
    than an hour, those with a name, and those that one of these builds on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    last: NonNegativeInt = 0
    """The newest so many."""
    hourly: NonNegativeInt = 0
    """The newest of each of so many hours in which there are any; hours, days and weeks (from Monday) are UTC's."""
    daily: NonNegativeInt = 0
    weekly: NonNegativeInt = 0


class KeptSnapshot(BaseModel):
    """A snapshot that a pruning keeps."""

    model_config = ConfigDict(frozen=True)

    number: int
    rules: tuple[KeepRule, ...]
    """All that speak for it; `base` stands alone: it is kept only because others build on it."""


class PruneReport(BaseModel):
    """What a pruning of one agent's snapshots did, or would do."""

    model_config = ConfigDict(frozen=True)

    agent_uid: str
    dry_run: bool
    """Nothing was deleted."""
    kept: tuple[KeptSnapshot, ...]
    """By a rule of their own, in order of numbers."""
    kept_as_base: tuple[int, ...]
    """Only because one of `kept` builds on them."""
    removed: tuple[int, ...]
    """Their manifests are deleted; the next collections give the space back."""


class CollectReport(BaseModel):
    """What one pass of the collection did."""

    model_config = ConfigDict(frozen=True)

    condemned: int
    """Packs that nothing names any more: they are deleted by a pass later than the grace."""
    released: int
    """Condemned packs that are named again."""
    swept: int
    """Packs deleted."""
    bytes_swept: int
    packs_seen: int
    bytes_seen: int
    manifests_seen: int
    waiting: int
    """Packs on the condemned list after the pass."""
    more: bool
    """The pass stopped at its bound of deletions: another one would delete more at once."""
    unreadable: tuple[str, ...] = ()
    """Manifests that could not be read: what they may name is left alone."""


class Damage(BaseModel):
    """One thing that is wrong in the store."""

    model_config = ConfigDict(frozen=True)

    key: str
    """Of the object."""
    kind: Literal["missing", "damaged"]
    detail: str
    """What is wrong with it, as a sentence."""
    snapshots: tuple[str, ...]
    """References of the snapshots that cannot be restored because of it."""


class VerifyReport(BaseModel):
    """What reading everything of one agent's snapshots found."""

    model_config = ConfigDict(frozen=True)

    agent_uid: str
    snapshots: int
    packs: int
    """Read whole, each once, those of other agents included."""
    chunks: int
    """Compared with their digests."""
    bytes: int
    """Read from the store."""
    damage: tuple[Damage, ...]
    lost: tuple[str, ...]
    """References of all snapshots that cannot be restored, in order."""

    @property
    def sound(self) -> bool:
        """Nothing is wrong."""
        return not self.damage


class VerifyProgress(BaseModel):
    """How far a verification is; handed back to `verify`, it goes on from there."""

    model_config = ConfigDict(frozen=True)

    text: str
    """For people."""
    newest: int
    """The newest snapshot that this verification looks at."""
    after: str = ""
    """Key of the last pack that was read: they are read in the order of keys."""
    packs: int = 0
    chunks: int = 0
    bytes: int = 0
    damage: tuple[Damage, ...] = ()
    """In packs, so far; without the snapshots it affects, which are found out at the end."""


class Upkeep(Protocol):
    """Prunes, collects and verifies; any number may run at once, beside any number of writers."""

    async def agents(self) -> tuple[str, ...]:
        """Return the uids of all agents that have something in the store."""
        ...

    async def prune(
        self, agent_uid: str, keep: Retention, *, dry_run: bool = False, progress: Progress | None = None
    ) -> PruneReport:
        """Delete the manifests of the snapshots that no rule keeps.

        Raises:
            SnapshotNotFound: The agent has no snapshot.
        """
        ...

    async def collect(self, *, progress: Progress | None = None) -> CollectReport:
        """Make one pass: condemn packs that nothing names, release and delete earlier condemned ones."""
        ...

    async def verify(
        self,
        agent_uid: str,
        *,
        progress: Callable[[VerifyProgress], None] | None = None,
        resume: VerifyProgress | None = None,
    ) -> VerifyReport:
        """Read and check everything that the agent's snapshots need; go on from `resume`, if given.

        Raises:
            SnapshotNotFound: The agent has no snapshot, nor a head.
            SnapshotSealed: The key of something that is to be read is not known here.
        """
        ...

    async def name_snapshot(self, agent_uid: str, number: int, name: str, *, move: bool = False) -> None:
        """Give a snapshot a name, which keeps it from being pruned; the same again is harmless.

        Args:
            agent_uid: Whose snapshot.
            number: Which.
            name: 1 to 64 of letters, digits, `.`, `_` and `-`, beginning with a letter or digit.
            move: Take the name from another snapshot.

        Raises:
            SnapshotNotFound: There is no such snapshot.
            SnapshotNameTaken: The name is another snapshot's, and `move` is not set.
            InvalidSnapshotName: The name cannot be used.
        """
        ...

    async def unname(self, agent_uid: str, name: str) -> bool:
        """Take a name away; False when there was none."""
        ...

    async def list_names(self, agent_uid: str) -> dict[str, str]:
        """Return the references of the snapshots that have a name, by name."""
        ...
