"""Finds workflow runs of others that bear what an agent was told or said: firings, forks, children, upkeep."""

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from hibernaut._upkeep import VERBS
from hibernaut.codec import PayloadDamaged
from hibernaut.contracts import FORK_WORKFLOW
from hibernaut.contracts.children import CHILD_WORKFLOW, child_prefix, child_workflow_id
from hibernaut.contracts.names import SCHEDULED_MESSAGE_WORKFLOW
from hibernaut.contracts.schedules import MEMO_AGENT, STAMP, firing_workflow_id

_log = logging.getLogger(__name__)


class Run(NamedTuple):
    """One run of a workflow."""

    workflow_id: str
    run_id: str
    open: bool


class Bearing:
    """Looks by what the server lists; only where that says too little, at the argument in the history."""

    def __init__(self, client: Client) -> None:
        """Use this client's namespace."""
        self._client = client

    async def find(self, agent_id: str, agent_uid: str, before: datetime | None) -> dict[str, set[Run]]:
        """The runs, by kind, that began before a time."""
        found: dict[str, set[Run]] = {"firings": set(), "forks": set(), "children": set(), "upkeep": set()}
        own = _firing_of(agent_id)
        async for run in self._listed(f"WorkflowType = '{SCHEDULED_MESSAGE_WORKFLOW}'", before):
            if run.id == own or await self._agent_of_firing(run) == agent_id:
                found["firings"].add(_run(run))
        if agent_uid:
            async for run in self._listed(f"WorkflowType = '{FORK_WORKFLOW}'", before):
                # Those that made it, or looked whether it was made, and those that made others of it.
                if run.id.startswith(f"fork:{agent_id}:") or await self._said(run, "source", "agent_uid") == agent_uid:
                    found["forks"].add(_run(run))
            begins = _quoted(child_workflow_id(child_prefix(agent_id)))
            query = f"WorkflowType = '{CHILD_WORKFLOW}' AND WorkflowId STARTS_WITH '{begins}'"
            async for run in self._listed(query, before):
                if await self._said(run, "parent", "agent_uid") == agent_uid:
                    found["children"].add(_run(run))
        for workflow, verb in VERBS.items():
            # No agent's id has a colon, so it is the one between two.
            begins = _quoted(f"{verb}:{agent_id}:")
            query = f"WorkflowType = '{workflow}' AND WorkflowId STARTS_WITH '{begins}'"
            async for run in self._listed(query, before):
                found["upkeep"].add(_run(run))
        return found

    async def _listed(self, query: str, before: datetime | None) -> AsyncIterator[WorkflowExecution]:
        async for run in self._client.list_workflows(query):
            if before is None or run.start_time <= before:
                yield run

    async def _agent_of_firing(self, run: WorkflowExecution) -> str | None:
        noted = await run.memo_value(MEMO_AGENT, None)
        # Schedules of earlier releases note nothing.
        return str(noted) if noted is not None else await self._said(run, "agent_id")

    async def _said(self, run: WorkflowExecution, *path: str) -> str | None:
        """A text in the argument with which a run was started."""
        try:
            begun = await self._first(run)
        except RPCError as error:
            # Its run was deleted since it was listed.
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise
        if begun is None:
            return None
        payloads = begun.workflow_execution_started_event_attributes.input.payloads
        try:
            said: Any = (await self._client.data_converter.decode(list(payloads)[:1]) or [None])[0]
        except (PayloadDamaged, RuntimeError, ValueError, KeyError, TypeError) as error:
            # No client of ours wrote it, so it bears no agent's words: no deletion is to wait for it.
            _log.warning("run %s of %s cannot be read, and is left as it is: %s", run.run_id, run.id, error)
            return None
        for name in path:
            said = said.get(name) if isinstance(said, dict) else None  # pyright: ignore[reportUnknownVariableType,reportUnknownMemberType]  # any JSON
        return said if isinstance(said, str) else None

    async def _first(self, run: WorkflowExecution) -> HistoryEvent | None:
        handle = self._client.get_workflow_handle(run.id, run_id=run.run_id)
        async for event in handle.fetch_history_events(page_size=1):
            return event
        return None


def _run(run: WorkflowExecution) -> Run:
    return Run(run.id, run.run_id, run.status is WorkflowExecutionStatus.RUNNING)


def _firing_of(agent_id: str) -> str | None:
    """The id of the firing that started an agent, if one did."""
    schedule, _, stamp = agent_id.rpartition("-")
    try:
        return firing_workflow_id(schedule, datetime.strptime(stamp, STAMP).replace(tzinfo=UTC)) if schedule else None
    except ValueError:
        return None


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
