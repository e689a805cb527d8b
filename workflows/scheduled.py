"""ScheduledMessageWorkflow: one firing of a schedule, open until the turn it caused has ended."""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

from temporalio import exceptions, workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError, RetryState, is_cancelled_exception
from temporalio.workflow import ActivityCancellationType

from hibernaut.contracts import names, schedules, stubs
from hibernaut.models import Answer, AnswerState
from workflows import options
from workflows.failures import code_of, reason_of

NOMINAL = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
"""What Temporal gives every workflow that a schedule starts: the time it was due, without jitter or delay."""
LAST_WORDS = timedelta(minutes=2)
"""What the withdrawing of a message gets."""
CLOSING = timedelta(minutes=20)
"""What the closing of an agent gets, its last snapshot included; the next firing sees to one that took longer."""
SHORTEST = timedelta(seconds=1)
RUN_TIMEOUT = "RunTimeout"
SEND_SETTLED = "schedule-send-settled"
"""The patch since which a firing goes on only when no attempt to send is under way any more."""

_FAILURES = {
    AnswerState.REFUSED: ("ModelRefused", "the model declined"),
    AnswerState.INTERRUPTED: ("TurnInterrupted", "the turn was interrupted"),
    AnswerState.FAILED: ("TurnFailed", "the turn failed"),
    AnswerState.UNKNOWN: ("MessageUnknown", "the agent does not know the message any more"),
}
"""Type and sentence of a firing whose message got no answer."""


@workflow.defn(name=names.SCHEDULED_MESSAGE_WORKFLOW)
class ScheduledMessageWorkflow:
    """Sends a message and waits for the end of its turn.

    It may wait for weeks, and no build of the worker is kept for its sake: every one must be able to go on with it.
    """

    _ends: datetime | None = None
    """When the run timeout is over. It begins with the first task: waiting for a worker does not count."""

    @workflow.run
    async def run(self, request: schedules.ScheduledMessage) -> schedules.FiringResult:
        """Send, wait, and clean up after a fresh agent.

        Raises:
            ApplicationError: The firing failed. Its type says why: that of the answer (`TurnFailed`, `ModelRefused`,
                `TurnInterrupted`, `MessageUnknown`), `RunTimeout`, or the SDK's error (`AgentNotFound`, `AgentClosed`).
        """
        nominal = _nominal()
        agent_id = request.agent_id or schedules.firing_agent_id(request.schedule, nominal)
        message_id = schedules.firing_message_id(request.schedule, nominal)
        workflow.set_current_details(f"message `{message_id}` to agent `{agent_id}`")
        if request.run_timeout is not None:
            self._ends = workflow.now() + request.run_timeout
        failure: ActivityError | ApplicationError | asyncio.CancelledError
        try:
            result = await self._converse(request, agent_id, message_id, nominal)
        except (ActivityError, ApplicationError, asyncio.CancelledError) as error:
            failure = error
        else:
            await self._finish(request, agent_id)
            return result
        # Not in a `finally`: what is awaited there would keep a worker from forgetting the run.
        cancelled = is_cancelled_exception(failure)
        late = isinstance(failure, ApplicationError) and failure.type == RUN_TIMEOUT
        if request.spec is None and (cancelled or late):
            await self._stop(agent_id, message_id)
        await self._finish(request, agent_id)
        if isinstance(failure, ActivityError) and not cancelled:
            raise ApplicationError(reason_of(failure), type=code_of(failure), non_retryable=True)
        raise failure

    async def _converse(
        self, request: schedules.ScheduledMessage, agent_id: str, message_id: str, nominal: datetime
    ) -> schedules.FiringResult:
        try:
            sent = await self._send(
                schedules.ScheduleSendRequest(
                    schedule=request.schedule,
                    agent_id=agent_id,
                    message_id=message_id,
                    message=request.message,
                    spec=request.spec,
                )
            )
            answer: Answer = await options.call(
                stubs.SCHEDULE_WAIT,
                schedules.ScheduleWaitRequest(agent_id=agent_id, message_id=message_id),
                summary=f"the answer of {agent_id}",
                schedule_to_close=self._left(SHORTEST),
            )
        except (ActivityError, TimeoutError) as error:
            if isinstance(error, TimeoutError) or _is_late(error):
                raise _late(request, agent_id, error) from error
            raise
        if answer.state in _FAILURES and not (sent.duplicate and answer.state is AnswerState.UNKNOWN):
            code, sentence = _FAILURES[answer.state]
            message = ": ".join(part for part in (f"{agent_id}: {sentence}", answer.text) if part)
            raise ApplicationError(message, type=code, non_retryable=True)
        return schedules.FiringResult(
            agent_id=agent_id,
            message_id=message_id,
            scheduled_at=nominal,
            state=answer.state,
            text=answer.text,
            turn=answer.turn,
            steps=answer.steps,
            duplicate=sent.duplicate,
        )

    async def _send(self, send: schedules.ScheduleSendRequest) -> schedules.ScheduleSendResult:
        """Send the message. However this ends, nobody is about to send it any more.

        Raises:
            TimeoutError: The run timeout was over before it was sent.
        """
        summary = f"message to {send.agent_id}"
        if not workflow.patched(SEND_SETTLED):
            limit = self._left(SHORTEST)
            return await options.call(stubs.SCHEDULE_SEND, send, summary=summary, schedule_to_close=limit)
        handle = options.start(
            stubs.SCHEDULE_SEND,
            send,
            summary=summary,
            cancellation=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        late, limit = False, self._left(schedules.SENDING)
        try:
            await workflow.wait_condition(handle.done, timeout=limit, timeout_summary="run timeout")
        except TimeoutError:
            late = True
            handle.cancel()
        except asyncio.CancelledError:
            handle.cancel()
            with suppress(ActivityError):
                await handle
            raise
        try:
            return await handle
        except ActivityError as error:
            if late and is_cancelled_exception(error):
                raise TimeoutError from error
            raise

    async def _stop(self, agent_id: str, message_id: str) -> None:
        """End the turn that the firing caused, or take its message back."""
        handle = options.start(
            stubs.SCHEDULE_STOP,
            schedules.ScheduleStopRequest(agent_id=agent_id, message_id=message_id),
            summary=f"interrupt the turn of {agent_id}",
            schedule_to_close=LAST_WORDS,
        )
        try:
            # One that is out of time may be cancelled on top of it.
            with suppress(asyncio.CancelledError):
                await asyncio.shield(handle)
            await handle
        except ActivityError as error:
            workflow.logger.warning("the turn of %s was not interrupted: %s", agent_id, reason_of(error))

    async def _finish(self, request: schedules.ScheduledMessage, agent_id: str) -> None:
        """Close the firing's own agent and delete the oldest ones; neither changes how the firing ended."""
        if request.spec is None:
            return
        try:
            await options.call(
                stubs.SCHEDULE_FINISH,
                schedules.ScheduleFinishRequest(schedule=request.schedule, agent_id=agent_id, keep=request.keep),
                summary=f"close {agent_id}, delete old ones",
                schedule_to_close=CLOSING,
            )
        except ActivityError as error:
            workflow.logger.warning("agent %s was not closed: %s", agent_id, reason_of(error))

    def _left(self, least: timedelta) -> timedelta | None:
        """What remains of the time a firing may take, but so much at least."""
        return None if self._ends is None else max(least, self._ends - workflow.now())


def _nominal() -> datetime:
    """When the firing was due, to the second: the time in its workflow id."""
    info = workflow.info()
    # Somebody may start the workflow without a schedule.
    nominal = info.typed_search_attributes.get(NOMINAL) or info.start_time
    return nominal.replace(microsecond=0)


def _is_late(error: ActivityError) -> bool:
    """Whether an activity ended because its time was up; the server then hands on the newest failure of all kinds."""
    return error.retry_state is RetryState.TIMEOUT or isinstance(error.cause, exceptions.TimeoutError)


def _late(request: schedules.ScheduledMessage, agent_id: str, error: BaseException) -> ApplicationError:
    limit = request.run_timeout.total_seconds() if request.run_timeout else 0
    told = f"{agent_id} gave no answer within {limit:g} s"
    newest = error.cause if isinstance(error, ActivityError) else None
    if isinstance(newest, exceptions.TimeoutError):
        newest = newest.cause
    if isinstance(newest, ApplicationError):
        told = f"{told}: {newest.message}"
    return ApplicationError(told, type=RUN_TIMEOUT, non_retryable=True)
