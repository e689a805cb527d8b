"""schedule.send, wait, stop and finish: what a firing of a schedule does to its agent, through the SDK."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from temporalio import activity
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from activities.looking import OPEN, SHOWN, held_up, not_yet, trying
from hibernaut._connect import translate
from hibernaut._deletion import begin_deletion, untouched
from hibernaut._explain import parse_spec
from hibernaut._fresh_agents import FreshAgent, fresh_agents
from hibernaut._temporal import ATTEMPT, Workflows
from hibernaut.agent import AgentHandle
from hibernaut.client import AgentClient
from hibernaut.contracts.schedules import (
    MEMO_FIRED,
    MEMO_SCHEDULE,
    ScheduleFinishRequest,
    ScheduleFinishResult,
    ScheduleSendRequest,
    ScheduleSendResult,
    ScheduleStopRequest,
    ScheduleStopResult,
    ScheduleWaitRequest,
    firing_workflow_id,
    nominal_of_message,
)
from hibernaut.contracts.stubs import SCHEDULE_FINISH, SCHEDULE_SEND, SCHEDULE_STOP, SCHEDULE_WAIT
from hibernaut.errors import (
    AgentAlreadyExists,
    AgentClosed,
    AgentNotFound,
    GatewayFailed,
    HibernautError,
    InvalidSpec,
    RequestRejected,
)
from hibernaut.models import AgentStatus, Answer, AnswerState, Event

OVER = (AgentNotFound, AgentClosed, InvalidSpec)
"""What is said of an agent with which nothing more can be done; one with an invalid spec never ran."""
TurnEnd = Callable[[AgentStatus, str], Awaitable[Event | None]]
"""Finds the event that ended the turn of a message, however long ago."""
CLEARING = timedelta(seconds=20)
"""What the closing of agents that terminated firings left may take."""
AT_ONCE = 8
"""Of them, so many are closed at the same time."""
RUNNING = WorkflowExecutionStatus.RUNNING


class ScheduleActivities:
    """Runs on the control queue. Each attempt is short: what is not done yet is a failure to be tried again."""

    def __init__(self, client: AgentClient, turn_end: TurnEnd) -> None:
        """Use this client's namespace."""
        self._client = client
        self._turn_end = turn_end
        self._workflows = Workflows(client.temporal)

    @activity.defn(name=SCHEDULE_SEND.name)
    async def send(self, request: ScheduleSendRequest) -> ScheduleSendResult:
        """Send the message, to a fresh agent if a spec is given; doing it again changes nothing."""
        async with trying():
            return await self._send(request)

    async def _send(self, request: ScheduleSendRequest) -> ScheduleSendResult:
        agent = self._client.get(request.agent_id)
        if request.spec is not None:
            await self._close_what_was_left(request.schedule, request.agent_id)
            await self._start(request)
        else:
            await self._interrupt_what_was_left(agent, request)
        try:
            ticket = await agent.post(request.message, message_id=request.message_id)
        except AgentClosed:
            # Its answer is what a doubled firing wants.
            if (await agent.answer(request.message_id)).state is AnswerState.UNKNOWN:
                raise
            return ScheduleSendResult(duplicate=True)
        return ScheduleSendResult(duplicate=ticket.duplicate)

    @activity.defn(name=SCHEDULE_WAIT.name)
    async def wait(self, request: ScheduleWaitRequest) -> Answer:
        """Look once for the answer."""
        async with trying():
            agent = self._client.get(request.agent_id)
            answer = await agent.answer(request.message_id)
            if answer.state is AnswerState.UNKNOWN:
                # The agent itself remembers the newest answers alone.
                end = await self._told_end(agent, request.message_id)
                answer = answer if end is None else _recalled(answer, end)
            if answer.state in OPEN:
                # A terminated agent would answer the same for ever.
                await self._workflows.raise_if_closed(request.agent_id)
                raise not_yet(held_up(request.agent_id, answer))
        cut = len(answer.text) > SHOWN
        return answer.model_copy(update={"text": answer.text[:SHOWN], "truncated": True}) if cut else answer

    @activity.defn(name=SCHEDULE_STOP.name)
    async def stop(self, request: ScheduleStopRequest) -> ScheduleStopResult:
        """Withdraw the message: its turn is interrupted, or it gets none."""
        async with trying():
            interrupted = False
            with suppress(*OVER):
                answer = await self._client.get(request.agent_id).withdraw(request.message_id)
                interrupted = answer.state in {AnswerState.RUNNING, AnswerState.INTERRUPTED}
            return ScheduleStopResult(interrupted=interrupted)

    @activity.defn(name=SCHEDULE_FINISH.name)
    async def finish(self, request: ScheduleFinishRequest) -> ScheduleFinishResult:
        """Close the agent, then see to those of earlier firings."""
        async with trying():
            with suppress(*OVER):
                await self._ours(request.schedule, request.agent_id)
                if await self._workflows.is_open(request.agent_id):
                    await self._client.get(request.agent_id).close(wait=False)
                if await self._workflows.is_open(request.agent_id):
                    raise not_yet(f"{request.agent_id} is being closed")
            await self._close_what_was_left(request.schedule, request.agent_id)
            return ScheduleFinishResult(deleted=await self._retain(request))

    async def _start(self, request: ScheduleSendRequest) -> None:
        spec = parse_spec(request.spec, source=f"The spec of schedule {request.schedule}")
        memo = {MEMO_SCHEDULE: request.schedule, MEMO_FIRED: datetime.now(UTC).isoformat()}
        try:
            await self._client.start(request.agent_id, spec, memo=memo)
        except AgentAlreadyExists:
            # By an earlier attempt, or an earlier firing of the same nominal time.
            await self._ours(request.schedule, request.agent_id)

    async def _ours(self, schedule: str, agent_id: str) -> None:
        """Raise AgentAlreadyExists unless the schedule has started this agent."""
        description = await self._workflows.describe(agent_id)
        if await description.memo_value(MEMO_SCHEDULE, None) != schedule:
            raise AgentAlreadyExists(
                f"There is an agent {agent_id!r} that schedule {schedule} has not started.", agent_id=agent_id
            )

    async def _told_end(self, agent: AgentHandle, message_id: str) -> Event | None:
        """What the event log says of a turn's end; None when it says nothing, or can never be read."""
        try:
            return await self._turn_end(await agent.status(), message_id)
        except GatewayFailed as error:
            # A segment that is damaged stays damaged: to try again would keep the firing open for good.
            activity.logger.warning("the answer to %s is not known any more: %s", message_id, error.message)
            return None

    async def _interrupt_what_was_left(self, agent: AgentHandle, request: ScheduleSendRequest) -> None:
        """Interrupt the turn of a firing that was terminated, by an overlap or a person: nobody waits for its end."""
        current = None
        with suppress(RequestRejected, *OVER):
            # Whether there is anybody to send to is what the sending finds out.
            current = (await agent.status()).current_message_id
        nominal = None if current is None else nominal_of_message(request.schedule, current)
        if nominal is None or current == request.message_id:
            return
        if await self._firing(request.schedule, nominal) is WorkflowExecutionStatus.TERMINATED:
            await agent.interrupt(current)

    async def _close_what_was_left(self, schedule: str, own: str) -> None:
        """Close agents whose firing ended without closing them, as far as that is soon done.

        One that does not answer holds nothing up: the next firing tries it again.
        """
        try:
            async with asyncio.timeout(CLEARING.total_seconds()):
                # The open ones alone: of the others there may be any number.
                found = await fresh_agents(self._client.temporal, schedule, running=True)
                gate = asyncio.Semaphore(AT_ONCE)
                # Its own may be there from an earlier attempt.
                await asyncio.gather(*(self._close_left(schedule, one, gate) for one in found if one.id != own))
        except (TimeoutError, HibernautError) as error:
            activity.logger.warning("agents of earlier firings of %s may still be open: %s", schedule, error)

    async def _close_left(self, schedule: str, one: FreshAgent, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                if await self._workflows.is_open(one.id) and await self._firing(schedule, one.nominal) is not RUNNING:
                    await self._client.get(one.id).close(wait=False)
            except OVER:
                return
            except HibernautError as error:
                activity.logger.warning("agent %s is not closed yet: %s", one.id, error.message)

    async def _retain(self, request: ScheduleFinishRequest) -> tuple[str, ...]:
        """Begin the deletion of the oldest agents beyond `keep`."""
        if request.keep is None:
            return ()
        deleted: list[str] = []
        for one in (await fresh_agents(self._client.temporal, request.schedule))[: -request.keep]:
            try:
                if one.id == request.agent_id or await self._workflows.is_open(one.id):
                    continue
                if await self._delete(self._client.get(one.id)):
                    deleted.append(one.id)
            except OVER:
                continue
            except HibernautError as error:
                # It keeps neither the others nor this firing from their end.
                activity.logger.warning("agent %s is kept for now: %s", one.id, error.message)
        return tuple(deleted)

    async def _firing(self, schedule: str, nominal: datetime) -> WorkflowExecutionStatus | None:
        """What has become of the newest firing of a nominal time; None when the server does not know it any more."""
        handle = self._client.temporal.get_workflow_handle(firing_workflow_id(schedule, nominal))
        try:
            return (await handle.describe(rpc_timeout=ATTEMPT)).status
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise translate(error, self._client.temporal.namespace) from error

    async def _delete(self, agent: AgentHandle) -> bool:
        """Begin the deletion of a closed agent, after that of its children, and wait for nothing.

        False: the next firing has to see to it.
        """
        for child in await agent.children():
            if await self._workflows.is_open(child.id):
                await child.close(wait=False)
                return False
            if not await self._delete(child):
                return False
        uid, lease = "", None
        try:
            # No query reaches one that no worker ever took up.
            known = await untouched(self._workflows, agent.id)
            if known is None:
                status = await agent.status()
                known = status.agent_uid, status.lease
        except HibernautError as error:
            if error.retryable:
                raise
            if not await self._workflows.never_ran(agent.id):
                # Without its uid nobody would find again what it has in the store.
                activity.logger.warning("agent %s is kept for now: %s", agent.id, error.message)
                return False
        else:
            uid, lease = known
        await begin_deletion(self._workflows, agent.id, uid, lease, by="its schedule's limit of agents kept")
        return True


def _recalled(answer: Answer, end: Event) -> Answer:
    """The answer as far as the event that ended its turn tells it."""
    return answer.model_copy(
        update={
            "state": AnswerState(str(end.data.get("state", AnswerState.UNKNOWN))),
            "text": end.summary.partition(": ")[2],
            "turn": end.turn,
            "steps": int(str(end.data.get("steps", 0))),
        }
    )
