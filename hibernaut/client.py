"""The client: start agents, find them, list them."""

from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import Any, Self

from pydantic import SecretStr
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from hibernaut._connect import connect, translate
from hibernaut._explain import parse_spec
from hibernaut._gateway import GatewayClient
from hibernaut._ids import check_agent_id, check_new_id
from hibernaut._messages import compose
from hibernaut._temporal import ATTEMPT, Workflows
from hibernaut._upkeep import SnapshotUpkeep
from hibernaut.agent import AgentHandle
from hibernaut.connection import Connection, resolve
from hibernaut.contracts import AGENT_WORKFLOW, TASK_QUEUE
from hibernaut.contracts.children import MEMO_PARENT
from hibernaut.errors import AgentAlreadyExists
from hibernaut.models import AgentSpec, AgentState
from hibernaut.models.base import Open
from hibernaut.models.deletion import CertificateFound
from hibernaut.schedules import Schedules

STATE = SearchAttributeKey.for_keyword("HibernautState")
MODEL = SearchAttributeKey.for_keyword("HibernautModel")
SUMMARY_BYTES = 200
"""Temporal's limit of a static summary."""


class AgentSummary(Open):
    """One line of a list: what the server knows of an agent without asking it."""

    agent_id: str
    state: AgentState
    model: str | None
    started_at: datetime
    """When its current run started: a long-lived agent begins a new one whenever it goes to sleep."""
    closed_at: datetime | None = None
    parent: str | None = None
    """The agent that started it, if one did."""


class AgentClient:
    """A connection to Temporal, and to the gateway for everything bulk."""

    def __init__(self, temporal: Client, gateway: GatewayClient, connection: Connection | None = None) -> None:
        """Mostly made by `connect`; a Temporal client of one's own must use the pydantic data converter."""
        self.temporal = temporal
        self.connection = connection
        self._gateway = gateway
        self._workflows = Workflows(temporal)
        self.snapshots = SnapshotUpkeep(self._workflows)
        self.schedules = Schedules(self._workflows)

    @classmethod
    async def connect(
        cls,
        *,
        address: str | None = None,
        namespace: str | None = None,
        gateway_url: str | None = None,
        gateway_token: str | None = None,
    ) -> Self:
        """Connect to Temporal; the gateway is contacted when it is first needed.

        What is not given is taken from the environment (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE and Temporal's other
        variables, HIBERNAUT_GATEWAY_URL, HIBERNAUT_GATEWAY_TOKEN or HIBERNAUT_GATEWAY_TOKEN_FILE), then from the
        `.hibernaut/connection.json` of a development stack at or above the working directory, then from defaults.

        Raises:
            InvalidSettings: a setting that cannot be used.
            TemporalUnreachable: within a few seconds.
        """
        connection = resolve(address=address, namespace=namespace, gateway_url=gateway_url, gateway_token=gateway_token)
        return await cls.open(connection)

    @classmethod
    async def open(cls, connection: Connection) -> Self:
        """Connect to what `hibernaut.connection.resolve` found."""
        temporal = await connect(connection)
        return cls(temporal, GatewayClient(connection.gateway_url, connection.gateway_token), connection)

    @classmethod
    def over(cls, temporal: Client, *, gateway_url: str | None = None, gateway_token: str | None = None) -> Self:
        """Use a Temporal client that exists already; it must use the pydantic data converter."""
        token = SecretStr(gateway_token) if gateway_token else None
        return cls(temporal, GatewayClient(gateway_url, token))

    async def aclose(self) -> None:
        """Close the connections to the gateway; Temporal's client closes with its last reference."""
        await self._gateway.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def start(
        self,
        agent_id: str,
        spec: AgentSpec | Mapping[str, Any],
        *,
        message: str | None = None,
        message_id: str | None = None,
        memo: Mapping[str, Any] | None = None,
    ) -> AgentHandle:
        """Start an agent. It begins with its first message.

        Args:
            agent_id: 1 to 128 of the characters A-Z a-z 0-9 . _ -; also the id of its Temporal workflow. It begins
                neither with `delete-` nor with what else the engine's own workflows are called.
            spec: An AgentSpec, or the same as a mapping.
            message: A first message, durable when this returns even while no worker is there.
            message_id: Its id, to `wait` for the answer.
            memo: Small notes that Temporal keeps with its workflow.

        Raises:
            AgentAlreadyExists: an agent, running or closed, has this id.
            InvalidSpec: with every wrong field.
            MessageTooLarge: before anything is started.
        """
        check_new_id(agent_id)
        valid = spec if isinstance(spec, AgentSpec) else parse_spec(spec)
        first = None if message is None else compose(message, message_id)
        try:
            await self.temporal.start_workflow(
                AGENT_WORKFLOW,
                valid,
                id=agent_id,
                task_queue=TASK_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                memo=memo,
                static_summary=_summary(agent_id, valid),
                search_attributes=TypedSearchAttributes(
                    [
                        SearchAttributePair(STATE, AgentState.IDLE.value),
                        SearchAttributePair(MODEL, valid.model),
                    ]
                ),
                rpc_timeout=ATTEMPT,
            )
        except WorkflowAlreadyStartedError as error:
            raise AgentAlreadyExists(
                f"There is an agent {agent_id!r} already.",
                agent_id=agent_id,
                hint=f"Send it a message, choose another id, or `hibernaut delete {agent_id}` first.",
            ) from error
        except RPCError as error:
            raise translate(error, self.temporal.namespace) from error
        if first is not None:
            await self._workflows.signal(agent_id, "send", first)
        return self.get(agent_id)

    def get(self, agent_id: str) -> AgentHandle:
        """The handle of an agent. Asks nobody: whether it exists is seen at the first call."""
        check_agent_id(agent_id)
        return AgentHandle(agent_id, self._workflows, self._gateway)

    async def certificate(self, name: str) -> CertificateFound:
        """The certificate of a deletion, from the store.

        Args:
            name: The uid of a deleted agent, or an id that it had: then the newest one.

        Raises:
            FileMissing: there is none.
        """
        check_agent_id(name)
        return CertificateFound.model_validate(await self._gateway.get_json(f"/v1/certificates/{name}"))

    async def list(self, state: AgentState | str | None = None) -> AsyncGenerator[AgentSummary]:
        """All agents, the newest first, closed ones among them. A list lags behind by a second or so.

        Args:
            state: Only those in this state.
        """
        wanted = None if state is None else AgentState(state)
        query = f"WorkflowType = '{AGENT_WORKFLOW}' AND ExecutionStatus != 'ContinuedAsNew'"
        if wanted is AgentState.FAILED:
            query += " AND ExecutionStatus != 'Running' AND ExecutionStatus != 'Completed'"
        elif wanted is AgentState.CLOSED:
            query += " AND ExecutionStatus = 'Completed'"
        elif wanted is not None:
            query += f" AND ExecutionStatus = 'Running' AND HibernautState = '{wanted.value}'"
        try:
            async for execution in self.temporal.list_workflows(query, rpc_timeout=ATTEMPT):
                yield await _summarised(execution)
        except RPCError as error:
            raise translate(error, self.temporal.namespace) from error


def _summary(agent_id: str, spec: AgentSpec) -> str:
    text = f"agent {agent_id}: {spec.model} in {spec.sandbox.image}"
    return text.encode()[:SUMMARY_BYTES].decode(errors="ignore")


async def _summarised(execution: WorkflowExecution) -> AgentSummary:
    if execution.status is WorkflowExecutionStatus.RUNNING:
        try:
            state = AgentState(execution.typed_search_attributes.get(STATE) or AgentState.IDLE)
        except ValueError:
            state = AgentState.RUNNING
    elif execution.status is WorkflowExecutionStatus.COMPLETED:
        state = AgentState.CLOSED
    else:
        state = AgentState.FAILED
    return AgentSummary(
        agent_id=execution.id,
        state=state,
        model=execution.typed_search_attributes.get(MODEL),
        started_at=execution.start_time,
        closed_at=execution.close_time,
        parent=await execution.memo_value(MEMO_PARENT, None),
    )
