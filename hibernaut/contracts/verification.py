"""Requests and results of a verification: everything that snapshots need is read and checked."""

from hibernaut.models.base import Open


class Damage(Open):
    """One thing that is wrong in the store."""

    key: str
    """Of the object."""
    kind: str
    """`missing` or `damaged`."""
    detail: str
    """What is wrong with it, as a sentence."""
    snapshots: tuple[int, ...] = ()
    """Numbers of the agent's snapshots that cannot be restored because of it; the first 200."""


class VerifyAgentRequest(Open):
    """Asks for everything of one agent's snapshots to be read and checked."""

    agent_uid: str
    agent_id: str = ""
    """When it is known; else it is looked up."""


class VerifiedAgent(Open):
    """What reading everything of one agent's snapshots found."""

    agent_uid: str
    agent_id: str = ""
    """Empty when the store does not tell."""
    snapshots: int = 0
    packs: int = 0
    """Read whole, each once."""
    chunks: int = 0
    """Compared with their digests."""
    bytes: int = 0
    """Read from the store."""
    damage: tuple[Damage, ...] = ()
    """The first 200."""
    damages: int = 0
    """All there are."""
    lost: tuple[int, ...] = ()
    """Numbers of the snapshots that cannot be restored; the first 1,000."""
    losses: int = 0
    """All there are."""
    error: str = ""
    """Why it could not be verified; empty when it was."""

    @property
    def sound(self) -> bool:
        """Verified, and nothing is wrong."""
        return not self.error and not self.damages


class VerifyImagesRequest(Open):
    """Asks for every base image in the store to be read and checked."""


class VerifiedImages(Open):
    """What reading the base images found."""

    images: int = 0
    packs: int = 0
    bytes: int = 0
    """Read from the store."""
    damage: tuple[Damage, ...] = ()
    """The first 200."""
    damages: int = 0
    lost: tuple[str, ...] = ()
    """Ids of the images that cannot be loaded; the first 200."""
    error: str = ""
    """Why they could not be verified; empty when they were."""


class VerifyResult(Open):
    """The result of `VerifyWorkflow`."""

    agents: tuple[VerifiedAgent, ...] = ()
    """By agent: all with damage as far as there is room, and the first that are sound."""
    checked: int = 0
    """Agents verified."""
    damaged: int = 0
    """Agents in which something is wrong."""
    failed: int = 0
    """Agents that could not be verified."""
    snapshots: int = 0
    packs: int = 0
    chunks: int = 0
    bytes: int = 0
    """Read from the store."""
    losses: int = 0
    """Snapshots that cannot be restored."""
    images: VerifiedImages | None = None
    """None when they were not asked for."""

    @property
    def sound(self) -> bool:
        """Everything was verified, and nothing is wrong."""
        images = self.images is None or not (self.images.damages or self.images.error)
        return images and not self.damaged and not self.failed


class VerifyRequest(Open):
    """The argument of `VerifyWorkflow`: one agent, or all there are."""

    agent_uid: str | None = None
    """None: every agent in the store."""
    agent_id: str = ""
    images: bool = False
    """Base images as well."""
    after: str = ""
    """Agents up to this uid were verified by the run before this one."""
    so_far: VerifyResult = VerifyResult()
    """What that run found."""
