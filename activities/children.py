"""child.wait, close and find: what the workflow of a child agent does to it, through the SDK."""

import asyncio
from contextlib import suppress

from temporalio import activity

from activities.looking import OPEN, held_up, not_yet, trying
from hibernaut._temporal import Workflows
from hibernaut.client import AgentClient
from hibernaut.contracts.children import (
    MEMO_PARENT,
    REPORT_TEXT,
    ChildCloseRequest,
    ChildCloseResult,
    ChildFindRequest,
    ChildFindResult,
    ChildWaitRequest,
    ChildWaitResult,
)
from hibernaut.contracts.stubs import CHILD_CLOSE, CHILD_FIND, CHILD_WAIT
from hibernaut.errors import AgentClosed, AgentNotFound

LOOKS, PAUSE_S = 10, 0.1
"""How often, and how far apart, an attempt looks whether a child is closed: mostly it takes less than a second."""


class ChildActivities:
    """Runs on the control queue. Each attempt is short: what is not done yet is a failure to be tried again."""

    def __init__(self, client: AgentClient) -> None:
        """Use this client's namespace."""
        self._client = client
        self._workflows = Workflows(client.temporal)

    @activity.defn(name=CHILD_WAIT.name)
    async def wait(self, request: ChildWaitRequest) -> ChildWaitResult:
        """Look once whether the task has ended."""
        async with trying():
            answer = await self._client.get(request.agent_id).answer(request.message_id)
            if answer.state in OPEN:
                # A terminated agent would answer the same for ever.
                await self._workflows.raise_if_closed(request.agent_id)
                raise not_yet(held_up(request.agent_id, answer))
        return ChildWaitResult(state=answer.state)

    @activity.defn(name=CHILD_CLOSE.name)
    async def close(self, request: ChildCloseRequest) -> ChildCloseResult:
        """Close the child, its turn interrupted if one runs."""
        async with trying():
            with suppress(AgentNotFound, AgentClosed):
                description = await self._workflows.describe(request.agent_id)
                if request.parent_id and await description.memo_value(MEMO_PARENT, None) != request.parent_id:
                    return ChildCloseResult()
                if await self._workflows.is_open(request.agent_id):
                    await self._client.get(request.agent_id).close(wait=False)
                for _ in range(LOOKS):
                    if not await self._workflows.is_open(request.agent_id):
                        return ChildCloseResult()
                    await asyncio.sleep(PAUSE_S)
                raise not_yet(f"{request.agent_id} is being closed")
        return ChildCloseResult()

    @activity.defn(name=CHILD_FIND.name)
    async def find(self, request: ChildFindRequest) -> ChildFindResult:
        """Read the answer, and the account of the child's life; a closed one tells them too."""
        async with trying():
            agent = self._client.get(request.agent_id)
            answer = await agent.answer(request.message_id)
            budget = await agent.budget.status()
        return ChildFindResult(
            state=answer.state,
            text=answer.text[:REPORT_TEXT],
            truncated=answer.truncated or len(answer.text) > REPORT_TEXT,
            steps=answer.steps,
            spent=budget.spent.life,
        )
