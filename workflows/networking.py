"""The network's handlers: which hosts the sandbox may reach, and other rules that a person sets."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from hibernaut.models.network_change import NetworkChange, NetworkStatus
from workflows.parts import Parts

PATIENCE = timedelta(seconds=15)
"""How long whoever changes rules waits for them to be in force."""
_HOW = {
    "none": "it has no way out to add a host to",
    "open": "everything is allowed already, and nothing can be denied",
}


class Networking(Parts):
    """What a person asks and orders about the network."""

    @workflow.query
    def network(self) -> NetworkStatus:
        """The rules that hold, and those of the spec."""
        return self._lease.rules.status()

    @workflow.update
    async def set_network(self, request: NetworkChange) -> NetworkStatus:
        """Change the rules: for good, and at once where the sandbox is; a sleeping agent has them when it wakes."""
        rules = self._lease.rules
        try:
            rules.change(request)
        except ValueError as error:
            # Somebody else was quicker.
            raise _invalid(str(error)) from error
        await rules.in_force(PATIENCE)
        return rules.status()

    @set_network.validator
    def _check_set_network(self, request: NetworkChange) -> None:
        problem = self._refusal()
        if problem is not None:
            raise problem
        network = self._context.spec.sandbox.network
        if network.mode != "allowlist":
            raise _invalid(
                f"the network of agent {self._context.agent_id} has the mode {network.mode}: {_HOW[network.mode]}. "
                "Rules are changed in the mode allowlist, which an agent has from its start on: start another one with "
                "`--allow HOST`, or with network.mode allowlist in its spec"
            )
        try:
            request.over(network.allow)
        except ValueError as error:
            raise _invalid(f"the network rules of agent {self._context.agent_id} stay: {error}") from error


def _invalid(text: str) -> ApplicationError:
    return ApplicationError(text, type="InvalidRequest", non_retryable=True)
