"""network.apply: what a running sandbox may reach from now on."""

import asyncio

from temporalio import activity

from activities.errors import SandboxUnavailable
from activities.heartbeat import beating
from activities.ports.egress import Egress, Tenant
from hibernaut.contracts import NETWORK_APPLY, ApplyNetworkRequest, ApplyNetworkResult


class NetworkActivities:
    """Runs on a sandbox host's own queue."""

    def __init__(self, egress: Egress) -> None:
        """Change the ways out of this host's sandboxes."""
        self._egress = egress

    @activity.defn(name=NETWORK_APPLY.name)
    async def apply(self, request: ApplyNetworkRequest) -> ApplyNetworkResult:
        """Put the rules in force; connections that they do not allow are cut.

        Raises:
            SandboxLost: The container does not run.
            SandboxUnavailable: The host's proxy does not answer, or its release is older than what is asked for.
        """
        if request.unknown:
            names = ", ".join(f"network.{name}" for name in request.unknown)
            raise SandboxUnavailable(f"This host's release is too old for {names} of the rules. Upgrade its worker.")
        lease = request.lease
        tenant = Tenant(request.agent_id, request.agent_uid, lease.generation, lease.sandbox_id)
        async with beating():
            await asyncio.to_thread(self._egress.admit, tenant, request.network, request.number)
        return ApplyNetworkResult(number=request.number)
