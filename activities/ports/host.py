"""The host port: what a sandbox host's watchdog and its worker tell each other about frozen sandboxes."""

from typing import Protocol


class FrozenMarks(Protocol):
    """Names the containers that were frozen because their host was cut off: only their agent's word frees them."""

    def holds(self, container_id: str) -> bool:
        """Whether this container must stay frozen."""
        ...

    def release(self, container_id: str) -> None:
        """Note that it may go on, or is gone."""
        ...


class NoMarks:
    """For who shares no home with a watchdog: nothing stays frozen."""

    def holds(self, container_id: str) -> bool:
        """See `FrozenMarks.holds`."""
        del container_id
        return False

    def release(self, container_id: str) -> None:
        """See `FrozenMarks.release`."""
