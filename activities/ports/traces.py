"""The port that knows what a sandbox has on its host, and looks for it when the sandbox is gone."""

from typing import Protocol

from hibernaut.contracts.destruction import Looked
from hibernaut.models.base import Open


class Trace(Open):
    """What one sandbox has on its host; kept there until it was looked for."""

    sandbox_id: str
    agent_id: str
    agent_uid: str
    generation: int
    volumes: tuple[str, ...] = ()
    """Names of its volumes, the anonymous ones of its image included."""
    layers: tuple[str, ...] = ()
    """Directories of its own in the daemon's storage: what it wrote."""
    networks: tuple[str, ...] = ()
    """Ids of the Docker networks that it is in."""
    namespace: str = ""
    """The file that holds its network namespace."""
    cgroups: tuple[str, ...] = ()
    """Directories of its cgroup."""
    reason: str = ""
    """Why it is removed; empty when its agent gave it up."""


class Found(Open):
    """What was looked for after a destruction, and what is left."""

    checked: tuple[Looked, ...] = ()
    remnants: tuple[str, ...] = ()
    """What could not be removed, each as its kind and name."""


class Traces(Protocol):
    """Notes what sandboxes have, and looks for it. All methods block; call them in threads.

    Errors: SandboxUnavailable when the daemon does not answer or nothing can be noted.
    """

    def note(self, agent_uid: str, generation: int) -> None:
        """Note on disk what the agent's sandboxes up to a generation have; before they are removed."""
        ...

    def note_one(self, sandbox_id: str, reason: str) -> None:
        """The same for one sandbox."""
        ...

    def noted(self) -> list[Trace]:
        """What was noted and is not settled."""
        ...

    def look(self, trace: Trace) -> Found:
        """Look for all that a removed sandbox had; what can be removed is."""
        ...

    def settle(self, trace: Trace) -> None:
        """Forget a note: what was found is kept elsewhere."""
        ...
