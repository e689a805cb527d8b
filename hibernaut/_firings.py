"""What became of the firings of a schedule: those that ran, those that wait, and those that were left out."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.workflowservice.v1 import ListScheduleMatchingTimesRequest
from temporalio.client import (
    Client,
    RPCTimeoutOrCancelledError,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionResult,
    ScheduleDescription,
    ScheduleOverlapPolicy,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from hibernaut._connect import translate
from hibernaut._failures import message_of
from hibernaut._schedules import MAX_TIMES
from hibernaut._temporal import ATTEMPT
from hibernaut.contracts.schedules import (
    FiringResult,
    ScheduledMessage,
    firing_agent_id,
    firing_message_id,
    schedule_id,
)
from hibernaut.models.schedules import Firing, FiringState

NOMINAL = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
SHOWN_SKIPPED = 10
MOST_WAIT = {
    ScheduleOverlapPolicy.SKIP: 0,
    ScheduleOverlapPolicy.ALLOW_ALL: 0,
    ScheduleOverlapPolicy.BUFFER_ALL: MAX_TIMES,
}
"""How many due times may wait for the end of an open firing; by every other policy it is one."""
SETTLED = timedelta(seconds=3)
"""What is due may start a moment later, and clocks differ: it is not called left out before."""
_ENDED = {
    WorkflowExecutionStatus.CANCELED: FiringState.CANCELLED,
    WorkflowExecutionStatus.TERMINATED: FiringState.TERMINATED,
    WorkflowExecutionStatus.TIMED_OUT: FiringState.FAILED,
}


async def recent_firings(
    client: Client, request: ScheduledMessage, description: ScheduleDescription, asked_at: datetime
) -> tuple[Firing, ...]:
    """The newest ten that started and what was left out since, the newest first.

    Args:
        client: To ask what became of them.
        request: What they do.
        description: The schedule.
        asked_at: When it was asked for its description.
    """
    info = description.info
    started = await asyncio.gather(
        *(
            _firing(client, request, result, result.action)
            for result in info.recent_actions
            if isinstance(result.action, ScheduleActionExecutionStartWorkflow)
        )
    )
    since = min((one.started_at for one in started if one.started_at), default=info.created_at)
    due = await due_times(client, request.schedule, since, max(since, asked_at - SETTLED))
    most = MOST_WAIT.get(description.schedule.policy.overlap, 1)
    idle = left_out(
        due,
        started,
        jitter=description.schedule.spec.jitter or timedelta(0),
        buffered=min(most, description.raw_description.info.buffer_size),
    )
    return tuple(sorted([*started, *idle], key=lambda one: (one.scheduled_at, one.started_at or since), reverse=True))


def left_out(due: Sequence[datetime], started: Sequence[Firing], *, jitter: timedelta, buffered: int) -> list[Firing]:
    """The times at which nothing started: those that wait, and the newest ten of those that will not.

    Args:
        due: When firings were due, jitter included, the earliest first.
        started: Those that the server started, by their nominal times.
        jitter: The most that a time of `due` is later than its nominal one.
        buffered: How many of them wait, at most: the server tells how many wait, and not which.
    """
    nominal = [one.scheduled_at for one in started]
    idle = [time for time in due if not any(timedelta(0) <= time - one <= jitter for one in nominal)]
    newest = max(nominal, default=None)
    # What waits is started in order, so that none of it is older than what was started last.
    waiting = [time for time in idle if newest is None or time > newest][:buffered]
    skipped = [time for time in idle if time not in waiting][-SHOWN_SKIPPED:]
    return [
        *(Firing(scheduled_at=time, state=FiringState.BUFFERED) for time in waiting),
        *(Firing(scheduled_at=time, state=FiringState.SKIPPED) for time in skipped),
    ]


async def due_times(client: Client, name: str, start: datetime, end: datetime) -> list[datetime]:
    """When firings are due between two times; of more than the server tells at once, the first and the last."""
    first = last = await matching_times(client, name, start, end)
    span = end - start
    while len(last) >= MAX_TIMES and span > timedelta(seconds=1):
        span = min(last[-1] - last[0], span / 2)
        last = await matching_times(client, name, end - span, end)
    return sorted({*first, *last})


async def matching_times(client: Client, name: str, start: datetime, end: datetime) -> tuple[datetime, ...]:
    """When firings are due between two times, both included, jitter counted; the server tells 1,000 at most.

    Raises:
        RPCError: of Temporal.
    """
    answer = await client.workflow_service.list_schedule_matching_times(
        ListScheduleMatchingTimesRequest(
            namespace=client.namespace,
            schedule_id=schedule_id(name),
            # The server leaves out the start itself.
            start_time=_stamp(start - timedelta(microseconds=1)),
            end_time=_stamp(end),
        ),
        timeout=ATTEMPT,
    )
    return tuple(time.ToDatetime(UTC) for time in answer.start_time)


def _stamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time.astimezone(UTC))
    return stamp


async def _firing(
    client: Client,
    request: ScheduledMessage,
    result: ScheduleActionResult,
    action: ScheduleActionExecutionStartWorkflow,
) -> Firing:
    handle = client.get_workflow_handle(
        action.workflow_id, run_id=action.first_execution_run_id, result_type=FiringResult
    )
    seen = Firing(
        scheduled_at=result.scheduled_at.replace(microsecond=0),
        started_at=result.started_at,
        state=FiringState.FORGOTTEN,
        workflow_id=action.workflow_id,
    )
    try:
        description = await handle.describe(rpc_timeout=ATTEMPT)
        nominal = description.typed_search_attributes.get(NOMINAL) or seen.scheduled_at
        about = {
            "scheduled_at": nominal,
            "agent_id": request.agent_id or firing_agent_id(request.schedule, nominal),
            "message_id": firing_message_id(request.schedule, nominal),
        }
        return seen.model_copy(update={**about, **await _outcome(handle, description)})
    except RPCTimeoutOrCancelledError as error:
        raise translate(RPCError(str(error), RPCStatusCode.DEADLINE_EXCEEDED, b""), client.namespace) from error
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return seen
        raise translate(error, client.namespace) from error


async def _outcome(
    handle: WorkflowHandle[Any, FiringResult], description: WorkflowExecutionDescription
) -> dict[str, Any]:
    status = description.status
    if status is None or status is WorkflowExecutionStatus.RUNNING:
        return {"state": FiringState.RUNNING, "text": await _waits_for(description)}
    if status in _ENDED:
        return {"state": _ENDED[status]}
    try:
        return {"state": FiringState.DONE, "text": (await handle.result(rpc_timeout=ATTEMPT)).text}
    except WorkflowFailureError as error:
        cause = error.cause
        if isinstance(cause, ApplicationError):
            return {"state": FiringState.FAILED, "code": cause.type or "", "text": cause.message}
        return {"state": FiringState.FAILED, "text": str(cause)}


async def _waits_for(description: WorkflowExecutionDescription) -> str:
    """What the newest look at the agent found."""
    for pending in description.raw_description.pending_activities:
        if message := await message_of(pending.last_failure, description.data_converter):
            return message
    return ""
