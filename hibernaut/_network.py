"""The network of one agent: which hosts it may reach, and other rules for it."""

from typing import TYPE_CHECKING

from pydantic import ValidationError

from hibernaut.errors import InvalidRequest
from hibernaut.models.network_change import NetworkChange, NetworkStatus

if TYPE_CHECKING:
    from hibernaut._temporal import Workflows


class AgentNetwork:
    """What an agent whose network is an allowlist may reach."""

    def __init__(self, agent_id: str, workflows: "Workflows") -> None:
        """Made by `AgentHandle.network`."""
        self._agent_id = agent_id
        self._workflows = workflows

    async def status(self) -> NetworkStatus:
        """The rules that hold, those of the spec, and whether the container has them."""
        return await self._workflows.query(self._agent_id, "network", [], NetworkStatus)

    async def allow(self, *rules: str, by: str = "") -> NetworkStatus:
        """Let hosts be reached, at once and for good: `example.com`, `*.example.com`, either with `:port`, addresses.

        Args:
            rules: As in the spec; what is allowed already changes nothing.
            by: Who changes them, for the event.

        Raises:
            InvalidRequest: one of them is no rule.
            RequestRejected: the network is no allowlist, or it would have too many rules.
            AgentNotFound, AgentClosed: nothing was changed.
        """
        return await self._change(allow=rules, by=by)

    async def deny(self, *rules: str, by: str = "") -> NetworkStatus:
        """Take rules away, and cut the connections that they let through; without a port all of a host's.

        Args:
            rules: Hosts as they were allowed; what is not allowed changes nothing.
            by: Who changes them, for the event.

        Raises:
            InvalidRequest: one of them is no rule.
            RequestRejected: the network is no allowlist, or the host would be reached by another rule.
            AgentNotFound, AgentClosed: nothing was changed.
        """
        return await self._change(deny=rules, by=by)

    async def _change(self, *, allow: tuple[str, ...] = (), deny: tuple[str, ...] = (), by: str) -> NetworkStatus:
        try:
            change = NetworkChange(allow=allow, deny=deny, by=by)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            why = first["msg"].removeprefix("Value error, ")
            raise InvalidRequest(f"The network of agent {self._agent_id} stays: {why}.") from error
        return await self._workflows.update(self._agent_id, "set_network", [change], NetworkStatus)


class Networked:
    """The part of an agent's handle for its network."""

    id: str
    _workflows: "Workflows"

    @property
    def network(self) -> AgentNetwork:
        """What it may reach."""
        return AgentNetwork(self.id, self._workflows)
