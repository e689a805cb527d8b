"""Requests and results of the upkeep of snapshots: prune, collect, name."""

from pydantic import NonNegativeInt

from hibernaut.models.base import Model, Open


class Retention(Model):
    """Which snapshots of an agent a pruning keeps; the rules add up, and 0 switches one off.

    Kept whatever they say: the newest snapshot and the one before it, the one that the agent goes on from, those
    younger than an hour, those with a name, and those that one of these builds on.
    """

    last: NonNegativeInt = 0
    """The newest so many."""
    hourly: NonNegativeInt = 0
    """The newest of each of so many hours in which there are any; hours, days and weeks (from Monday) are UTC's."""
    daily: NonNegativeInt = 0
    weekly: NonNegativeInt = 0

    def __str__(self) -> str:
        rules = [f"{rule}={count}" for rule, count in self.model_dump().items() if count]
        return ",".join(rules) or "none"


class UpkeepProgress(Open):
    """How far upkeep is: the first detail of activities' heartbeats, and the answer to their query `progress`."""

    text: str = ""
    """For people."""
    done: int = 0
    """Agents done."""
    total: int = 0
    """Agents in all; 0 when not known."""


class AgentsRequest(Open):
    """Asks which agents the store has something of."""

    after: str = ""
    """Only uids after this one."""
    limit: int


class AgentsResult(Open):
    """Uids of agents, in order."""

    agent_uids: tuple[str, ...]
    total: int
    """Of all agents in the store."""
    more: bool
    """Whether there are others after these."""


class PruneRequest(Open):
    """The argument of `PruneWorkflow`: asks for an agent's snapshots to be thinned out."""

    agent_uid: str
    agent_id: str = ""
    keep: Retention | None = None
    """None: as the worker's settings say."""
    dry_run: bool = False
    """Say what would be removed, and remove nothing."""
    audit_id: str = ""
    """Names the audit file: the same on every retry; given by the workflow."""


class KeptSnapshot(Open):
    """A snapshot that a pruning keeps, and why."""

    number: int
    rules: tuple[str, ...]
    """`newest`, `previous`, `in_use` (the agent goes on from it), `recent` (younger than an hour), `last`, `hourly`,
    `daily`, `weekly`, `named`; or `base` alone: others build on it."""


class PruneResult(Open):
    """What was removed of an agent's snapshots, or would be."""

    agent_uid: str
    dry_run: bool
    keep: str
    """The rules, such as `last=10,daily=7`; `all` when nothing is ever to go."""
    kept: tuple[KeptSnapshot, ...] = ()
    """The newest 5,000, in order."""
    kept_count: int = 0
    removed: tuple[int, ...] = ()
    """The newest 20,000, in order."""
    removed_count: int = 0
    audit_ref: str | None = None
    """Key of the audit line; none when nothing was removed."""


class PruneAgentsRequest(Open):
    """Asks for the snapshots of some agents to be thinned out as the worker's settings say."""

    after: str = ""
    """Agents after this uid."""
    limit: int
    """So many agents."""
    audit_id: str


class FailedAgent(Open):
    """An agent that could not be pruned."""

    agent_uid: str
    reason: str


class PruneAgentsResult(Open):
    """What was removed of some agents' snapshots."""

    agents: int = 0
    """Looked at."""
    removed: int = 0
    """Snapshots."""
    kept: int = 0
    failed: tuple[FailedAgent, ...] = ()
    total: int = 0
    """Agents in the store."""
    after: str = ""
    """The last uid that was looked at."""
    more: bool = False
    """Whether there are others after it."""


class CollectRequest(Open):
    """Asks for one pass of the collection of packs that no snapshot names."""

    audit_id: str


class CollectResult(Open):
    """What the collection did; of several passes, the sums."""

    passes: int = 0
    condemned: int = 0
    """Packs that nothing names any more: a collection after the grace deletes them."""
    released: int = 0
    """Condemned packs that are named again."""
    swept: int = 0
    """Packs deleted."""
    bytes_swept: int = 0
    packs_seen: int = 0
    """In the store, as of the last pass; the same below."""
    bytes_seen: int = 0
    manifests_seen: int = 0
    waiting: int = 0
    """Condemned packs that are not deleted yet."""
    more: bool = False
    """Whether there was more to delete at once."""
    unreadable: tuple[str, ...] = ()
    """Keys of manifests that could not be read, the first 50: whatever they may name is left alone."""


class CollectImagesRequest(Open):
    """Asks for objects of base images that no image needs to be deleted."""


class CollectImagesResult(Open):
    """What was deleted of base images."""

    objects: int = 0
    bytes: int = 0


class CollectionResult(Open):
    """The result of `CollectionWorkflow`."""

    agents: int = 0
    """Whose snapshots were thinned out."""
    removed: int = 0
    """Snapshots."""
    kept: int = 0
    failed: tuple[FailedAgent, ...] = ()
    """The first 100 that could not be."""
    failures: int = 0
    collected: CollectResult = CollectResult()
    images: CollectImagesResult = CollectImagesResult()
    """Leftovers of base images."""
    images_failure: str = ""
    """Why those could not be deleted; empty when they were."""
    summary: str = ""


class CollectionRequest(Open):
    """The argument of `CollectionWorkflow`."""

    prune: bool = True
    """Thin out every agent's snapshots first, as the worker's settings say."""
    after: str = ""
    """Agents up to this uid were pruned by the run before this one."""
    audit_id: str = ""
    """Given by the first run."""
    so_far: CollectionResult = CollectionResult()
    """What that run did."""


class NameRequest(Open):
    """The argument of `NameSnapshotWorkflow`: gives a snapshot a name, which keeps it, or takes the name away."""

    agent_uid: str
    agent_id: str = ""
    name: str
    number: int | None = None
    """None: take the name away."""
    move: bool = False
    """Take the name from another snapshot that has it."""


class NameResult(Open):
    """What became of the name."""

    name: str
    number: int | None = None
    changed: bool = True
    """False when there was no name to take away."""
