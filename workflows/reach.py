"""What an agent's record knows of its allowlist. Bounded: the rules of a spec are."""

from pydantic import BaseModel, ConfigDict

from hibernaut.models import LeaseStatus, Network
from hibernaut.models.network_change import NetworkStatus


class Reach(BaseModel):
    """Carried from run to run. The rules that hold are those of the carried spec: whoever reads it has them."""

    model_config = ConfigDict(extra="ignore")

    number: int = 0
    """Changes so far; 0: the rules are those that the agent was started with."""
    of_spec: tuple[str, ...] = ()
    """The rules before the first change."""
    told: tuple[str, ...] = ()
    """The rules as the model was told them last; of no meaning before the first change."""
    generation: int = 0
    """Of the sandbox that was given rules last."""
    applied: int = 0
    """The number of those."""
    failure: str = ""
    """Why the newest attempt to give them failed."""
    mark: str = ""
    """Up to where connections were told, as the host's proxy counts them."""

    def due(self, lease: LeaseStatus | None) -> bool:
        """Whether a sandbox has other rules than it should."""
        return (
            lease is not None
            and self.number > 0
            and (self.generation != lease.generation or self.applied < self.number)
        )

    def given(self, generation: int, number: int) -> None:
        """Note which rules a sandbox has."""
        self.generation, self.applied, self.failure = generation, number, ""

    def status(self, network: Network, lease: LeaseStatus | None) -> NetworkStatus:
        """What is told of them."""
        return NetworkStatus(
            mode=network.mode,
            allow=network.allow,
            of_spec=self.of_spec if self.number else network.allow,
            in_force=not self.due(lease),
            failure=self.failure if self.due(lease) else "",
        )
