"""The child agents of an agent, as the server knows them: whatever the agent itself still remembers."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

from temporalio.service import RPCError

from hibernaut._connect import translate
from hibernaut._temporal import ATTEMPT
from hibernaut.contracts import AGENT_WORKFLOW
from hibernaut.contracts.children import MEMO_PARENT, child_prefix, child_workflow_id
from hibernaut.errors import AgentNotFound, RequestRejected
from hibernaut.models import ChildState

if TYPE_CHECKING:
    from hibernaut._temporal import Workflows
    from hibernaut.models import AgentStatus
    from hibernaut.models.deletion import Deletion

PARALLEL = 8
"""Children that are deleted at once."""
LOOK_EVERY = 0.2
"""Seconds between two looks at whether a child is there by now."""


class Kin:
    """The part of an agent's handle that knows the agents which it started with `start_agent`."""

    id: str
    _workflows: "Workflows"

    if TYPE_CHECKING:

        def _beside(self, agent_id: str) -> Self: ...

        async def delete(self, *, by: str | None = None) -> Deletion: ...

        async def status(self) -> AgentStatus: ...

    async def children(self) -> list[Self]:
        """Handles of every agent that this one started and that was not deleted, the newest first.

        The list lags behind by a second or so; what this agent knows of them is in `status().children`.
        """
        quoted = child_prefix(self.id).replace("\\", "\\\\").replace("'", "\\'")
        query = (
            f"WorkflowType = '{AGENT_WORKFLOW}' AND WorkflowId STARTS_WITH '{quoted}' "
            "AND ExecutionStatus != 'ContinuedAsNew'"
        )
        client = self._workflows.client
        try:
            return [
                self._beside(execution.id)
                async for execution in client.list_workflows(query, rpc_timeout=ATTEMPT)
                if await execution.memo_value(MEMO_PARENT, None) == self.id
            ]
        except RPCError as error:
            raise translate(error, client.namespace) from error

    async def _being_made(self) -> list[Self]:
        """Children that were begun shortly before this agent was closed, once it is certain whether they are there."""
        try:
            known = (await self.status()).children
        except RequestRejected:
            # It never ran.
            return []
        begun = [child.agent_id for child in known if child.state is ChildState.RUNNING]
        return [self._beside(agent_id) for agent_id in begun if await self._is_made(agent_id)]

    async def _is_made(self, agent_id: str) -> bool:
        """Wait until a child is there, or will never be; whether it is, and this agent's."""
        while True:
            # Asked first: what has ended makes no agent any more.
            going = await self._goes_on(child_workflow_id(agent_id))
            with contextlib.suppress(AgentNotFound):
                description = await self._workflows.describe(agent_id)
                return await description.memo_value(MEMO_PARENT, None) == self.id
            if not going:
                return False
            await asyncio.sleep(LOOK_EVERY)

    async def _goes_on(self, workflow_id: str) -> bool:
        try:
            return await self._workflows.is_open(workflow_id)
        except AgentNotFound:
            return False

    async def _delete_children(self, by: str, *, begun: bool = True) -> None:
        """Delete the children; an agent that has not begun cannot be asked for those on their way, and has none."""
        gate = asyncio.Semaphore(PARALLEL)

        async def delete(child: Self) -> None:
            async with gate:
                with contextlib.suppress(AgentNotFound):
                    await child.delete(by=by)

        made = await self._being_made() if begun else []
        found = {child.id: child for child in (*made, *await self.children())}
        await asyncio.gather(*(delete(child) for child in found.values()))
