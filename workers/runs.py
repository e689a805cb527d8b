"""Deletes the Temporal runs of an agent, and those of others that bear what it was told or said."""

import asyncio
from collections import Counter
from datetime import datetime

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from hibernaut.contracts.children import STOP_CHILD, child_workflow_id
from workers.bearing import Bearing

LOOKS = 120
"""A server that notes closes every 30 s deletes what was just closed as late as that."""
PAUSE_S = 0.5


class RunEraser:
    """Deletes runs and waits until none is to be seen: deletion is asynchronous on the server."""

    def __init__(self, client: Client) -> None:
        """Use this client's namespace."""
        self._client = client
        self._bearing = Bearing(client)

    async def forget(self, agent_id: str, agent_uid: str = "", before: datetime | None = None) -> dict[str, int]:
        """Delete every run of an agent that began before a time, and all that bear something of it; how many, by kind.

        Raises:
            TimeoutError: See `erase`.
        """
        await self._parent_told(child_workflow_id(agent_id))
        ids = self._own(agent_id)
        erased = await asyncio.gather(*(self.erase(one, before) for one in ids.values()))
        total = Counter(dict(zip(ids, erased, strict=True)))
        total.update(await self._forget_others(agent_id, agent_uid, before))
        return dict(total)

    async def left(self, agent_id: str, agent_uid: str, before: datetime | None) -> dict[str, int]:
        """How many such runs there are, by kind."""
        found = {kind: len(await self._listed(one, before)) for kind, one in self._own(agent_id).items()}
        others = await self._bearing.find(agent_id, agent_uid, before)
        return found | {kind: found.get(kind, 0) + len(runs) for kind, runs in others.items()}

    @staticmethod
    def _own(agent_id: str) -> dict[str, str]:
        """Ids of the agent's workflow and of those that made it."""
        return {"agent": agent_id, "forked by": f"fork:{agent_id}", "started by": child_workflow_id(agent_id)}

    async def _forget_others(self, agent_id: str, agent_uid: str, before: datetime | None) -> Counter[str]:
        """Delete runs of other workflows that bear what the agent was told or said.

        What is open ends by itself when it finds the agent gone. A firing that does not is deleted as it is; a fork
        that is broken off would leave what it wrote, and is waited for.

        Raises:
            TimeoutError: One of them goes on; the same call goes on as well.
        """
        gone: dict[tuple[str, str], str] = {}
        for look in range(LOOKS):
            found = await self._bearing.find(agent_id, agent_uid, before)
            if not any(found.values()):
                return Counter(gone.values())
            for kind, runs in found.items():
                for run in runs:
                    late = kind == "firings" and look >= LOOKS // 4
                    if (run.workflow_id, run.run_id) not in gone and (late or not run.open):
                        await self._delete(run.workflow_id, run.run_id)
                        gone[run.workflow_id, run.run_id] = kind
            await asyncio.sleep(PAUSE_S)
        raise TimeoutError(f"Temporal still lists runs that bear something of {agent_id}")

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
            TimeoutError: The server still lists runs after a minute; the same call goes on.
        """
        runs: set[str] = set()
        for _ in range(LOOKS):
            left = await self._listed(agent_id, before)
            if not left and not await self._known(agent_id, before):
                return len(runs)
            for run_id in left - runs:
                await self._delete(agent_id, run_id)
            runs |= left
            await asyncio.sleep(PAUSE_S)
        raise TimeoutError(f"Temporal still lists runs of {agent_id}")

    async def _listed(self, workflow_id: str, before: datetime | None) -> set[str]:
        quoted = workflow_id.replace("\\", "\\\\").replace("'", "\\'")
        found = [run async for run in self._client.list_workflows(f"WorkflowId = '{quoted}'")]
        return {run.run_id for run in found if before is None or run.start_time <= before}

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
