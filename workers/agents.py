"""What Temporal knows of an agent, for the sweep of its containers: an answer is certain, or there is none."""

import logging
from datetime import timedelta

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.service import RPCError, RPCStatusCode

from activities.ports.agents import Standing
from hibernaut._connect import translate
from hibernaut.contracts import AGENT_WORKFLOW
from hibernaut.errors import HibernautError
from hibernaut.models.base import Open

RPC_TIMEOUT = timedelta(seconds=10)
CLOSED = frozenset(
    {
        WorkflowExecutionStatus.COMPLETED,
        WorkflowExecutionStatus.FAILED,
        WorkflowExecutionStatus.CANCELED,
        WorkflowExecutionStatus.TERMINATED,
        WorkflowExecutionStatus.TIMED_OUT,
    }
)
_NO_ANSWER = (RPCError, RuntimeError, ValueError, WorkflowQueryFailedError, WorkflowQueryRejectedError)

_log = logging.getLogger(__name__)


class _Lease(Open):
    """What counts of a `LeaseStatus`."""

    generation: int
    host_id: str


class Held(Open):
    """The fields of `AgentStatus` that count: any other may be of another release."""

    agent_uid: str
    generation: int
    recovering: bool = False
    lease: _Lease | None = None
    acquiring: _Lease | None = None

    @property
    def asleep(self) -> bool:
        """Whether it has no sandbox and none on its way; an agent of a release that does not say is awake."""
        # Whatever its state: the next sandbox will be of a later generation.
        said = {"lease", "acquiring", "recovering"} <= self.model_fields_set
        return said and self.lease is None and self.acquiring is None and not self.recovering

    @property
    def held_on(self) -> str:
        """The host of the newest generation, when it is in use, or about to be."""
        if self.acquiring is not None and self.acquiring.generation == self.generation:
            # No command has run in it yet. Were it left frozen, its restore would wait for ever.
            return self.acquiring.host_id
        if self.lease is None or self.lease.generation != self.generation or self.recovering:
            return ""
        return self.lease.host_id


async def namespace_id(client: Client) -> str:
    """The id that Temporal gave the namespace when it was made: of one deployment alone, unlike its name.

    Raises:
        HibernautError: Temporal does not answer, or does not know the namespace.
    """
    request = DescribeNamespaceRequest(namespace=client.namespace)
    try:
        found = await client.workflow_service.describe_namespace(request, timeout=RPC_TIMEOUT)
    except RPCError as error:
        raise translate(error, client.namespace) from error
    return found.namespace_info.id


class TemporalAgents:
    """Implements the port `Agents` on one namespace."""

    def __init__(self, client: Client, known_namespace: str) -> None:
        """`known_namespace` is the namespace's id, as it was when the worker started."""
        self._client = client
        self._namespace = known_namespace

    async def standing(self, agent_id: str) -> Standing | None:
        """See the port."""
        handle = self._client.get_workflow_handle(agent_id)
        try:
            description = await handle.describe(rpc_timeout=RPC_TIMEOUT)
        except (TimeoutError, RPCError, RuntimeError) as error:
            return await self._without(agent_id, error)
        if description.status in CLOSED:
            return Standing("closed")
        if description.status is not WorkflowExecutionStatus.RUNNING or description.workflow_type != AGENT_WORKFLOW:
            return None
        try:
            held = await handle.query("status", result_type=Held, rpc_timeout=RPC_TIMEOUT)
        except (*_NO_ANSWER, HibernautError) as error:
            _log.warning("agent %s does not say what it holds: %s", agent_id, error)
            return None
        return Standing("open", held.agent_uid, held.generation, held.held_on, held.asleep)

    async def _without(self, agent_id: str, error: Exception) -> Standing | None:
        """A workflow that is not found is missing when it was looked for in the right place."""
        if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
            try:
                if await namespace_id(self._client) == self._namespace:
                    return Standing("missing")
            except HibernautError as other:
                error = other
        _log.warning("nothing is certain of agent %s: %s", agent_id, error)
        return None
