"""One agent's life in a world that fails, and the people around it: they send, put, interrupt, and mend pauses."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.service import RPCError

from hibernaut import contracts as c
from hibernaut.models import AgentState, AgentStatus, Answer, AnswerState
from tests.workflows.conftest import Rig
from tests.workflows.faulty_truth import LAST_WORDS, Plan
from tests.workflows.faulty_world import FaultyWorld

ENDED = {AnswerState.DONE, AnswerState.INTERRUPTED, AnswerState.FAILED, AnswerState.REFUSED}
ROUNDS = 400
"""How often an agent is looked at before it is said to hang."""


@dataclass
class Stage:
    """The server, and the world its workers act in."""

    rig: Rig
    world: FaultyWorld


@dataclass
class Life:
    """One agent from its first message to its end, and what people got out of it."""

    stage: Stage
    plan: Plan
    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    sent: list[str] = field(default_factory=list[str])
    put: set[str] = field(default_factory=set[str])
    puts: list["asyncio.Task[None]"] = field(default_factory=list["asyncio.Task[None]"])
    closed: bool = False
    final: AgentStatus | None = None

    def __post_init__(self) -> None:
        self.rig = self.stage.rig
        self.world = self.stage.world
        self.pauses = list(self.plan.at_pause)
        self.agent: WorkflowHandle[Any, Any] | None = None

    async def live(self) -> None:
        """Send every message, then one more while nothing fails, and close."""
        plan, world = self.plan, self.world
        world.begin(plan, self.order)
        self.agent = await self.rig.start(
            recovery=plan.recovery, retry_safe=["safe *"], max_recoveries=plan.max_recoveries
        )
        while len(self.sent) < len(plan.messages) and not self.closed:
            await self._message()
            await self._until(self._all_answered)
            if plan.sleep_between and not self.closed:
                await self._sleep()
        world.faults.clear()
        world.plan = Plan(messages=plan.messages)
        if not self.closed:
            await self._send(LAST_WORDS)
            await self._until(self._all_answered)
        await asyncio.wait_for(asyncio.gather(*self.puts), 30)
        await self.order("close")
        handle = self.rig.client.get_workflow_handle(self.agent.id)
        self.final = AgentStatus.model_validate(await asyncio.wait_for(handle.result(), 60))
        await self._all_answered()

    async def order(self, order: str) -> None:
        """Do as somebody would, whatever the agent says to it."""
        if order == "message":
            if len(self.sent) < len(self.plan.messages):
                await self._message()
        elif order == "put":
            self.puts.append(asyncio.create_task(self._put(f"/file-{len(self.puts)}")))
        else:
            self.closed = self.closed or order == "close"
            with contextlib.suppress(WorkflowUpdateFailedError, RPCError):
                await self.rig.order(self._handle, order)

    @property
    def _handle(self) -> WorkflowHandle[Any, Any]:
        assert self.agent is not None
        return self.agent

    async def _message(self) -> None:
        await self._send(f"message {len(self.sent)}")

    async def _send(self, text: str) -> None:
        message_id = f"m{len(self.sent)}"
        self.sent.append(message_id)
        try:
            await self.rig.send(self._handle, text, message_id)
        except (WorkflowUpdateFailedError, RPCError):
            assert self.closed
            self.sent.remove(message_id)

    async def _put(self, path: str) -> None:
        handle = self.rig.client.get_workflow_handle(self._handle.id)
        request = c.PutFile(upload_ref="up", path=path)
        with contextlib.suppress(WorkflowUpdateFailedError, RPCError):
            await handle.execute_update("put_file", request, result_type=c.PutFileResult)
            self.put.add(path)

    async def _all_answered(self) -> bool:
        for message_id in self.sent:
            if message_id not in self.answers:
                answer = await self.rig.query(self._handle, "answer", message_id, result_type=Answer)
                if answer.state not in ENDED:
                    return False
                self.answers[message_id] = answer
        return True

    async def _sleep(self) -> None:
        await self.order("hibernate")
        tries = 2

        async def asleep() -> bool:
            nonlocal tries
            status = await self.rig.status(self._handle)
            tries -= status.state is AgentState.IDLE
            return status.lease is None or tries < 0

        await self._until(asleep)

    async def _until(self, reached: Callable[[], Any]) -> None:
        """Let time pass, and mend pauses as an operator would."""
        for number in range(ROUNDS):
            if await reached():
                return
            status = await self.rig.status(self._handle)
            if status.state is AgentState.PAUSED or status.paused_reason:
                for order in [*self.pauses[:1], "resume"]:
                    await self.order(order)
                del self.pauses[:1]
            elif number % 2:
                await self.rig.skip(seconds=1)
            else:
                await asyncio.sleep(0.01)
        raise AssertionError(f"the agent hangs: {await self.rig.status(self._handle)}")
