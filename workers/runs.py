"""Deletes the Temporal runs of an agent."""

import asyncio
from datetime import datetime

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from hibernaut.contracts.children import STOP_CHILD, child_workflow_id

LOOKS = 60
PAUSE_S = 0.5


class RunEraser:
    """Deletes runs and waits until none is to be seen: deletion is asynchronous on the server."""

    def __init__(self, client: Client) -> None:
        """Use this client's namespace."""
        self._client = client

    async def forget(self, agent_id: str, before: datetime | None = None) -> int:
        """Delete every run of an agent that began before a time, and of the workflows that made it; their number.

        Raises:
            TimeoutError: See `erase`.
        """
        await self._parent_told(child_workflow_id(agent_id))
        ids = (agent_id, f"fork:{agent_id}", child_workflow_id(agent_id))
        return sum(await asyncio.gather(*(self.erase(one, before) for one in ids)))

    async def _parent_told(self, workflow_id: str) -> None:
        """Give what sees to a child agent the time to tell its parent, which may wait for it."""
        handle = self._client.get_workflow_handle(workflow_id)
        try:
            await handle.signal(STOP_CHILD)
            for _ in range(LOOKS):
                if (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING:
                    return
                await asyncio.sleep(PAUSE_S)
        except RPCError as error:
            # Mostly there is none, or it has ended long ago.
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def erase(self, agent_id: str, before: datetime | None = None) -> int:
        """Delete every run of a workflow id that began before a time; the number of runs.

        Raises:
            TimeoutError: The server still lists runs after half a minute; the same call goes on.
        """
        runs: set[str] = set()
        quoted = agent_id.replace("\\", "\\\\").replace("'", "\\'")
        for _ in range(LOOKS):
            found = [run async for run in self._client.list_workflows(f"WorkflowId = '{quoted}'")]
            left = {run.run_id for run in found if before is None or run.start_time <= before}
            if not left and not await self._known(agent_id, before):
                return len(runs)
            for run_id in left - runs:
                await self._delete(agent_id, run_id)
            runs |= left
            await asyncio.sleep(PAUSE_S)
        raise TimeoutError(f"Temporal still lists runs of {agent_id}")

    async def _known(self, agent_id: str, before: datetime | None) -> bool:
        try:
            newest = await self._client.get_workflow_handle(agent_id).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise
        return before is None or newest.start_time <= before

    async def _delete(self, agent_id: str, run_id: str) -> None:
        try:
            await self._client.workflow_service.delete_workflow_execution(
                DeleteWorkflowExecutionRequest(
                    namespace=self._client.namespace,
                    workflow_execution=WorkflowExecution(workflow_id=agent_id, run_id=run_id),
                )
            )
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
