"""Model calls that nobody waits for any more, and what a call that left no reply may have cost."""

import asyncio
from collections.abc import Callable
from typing import TypeVar, cast

from pydantic import ValidationError
from temporalio import exceptions, workflow
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.workflow import ActivityHandle

from hibernaut import contracts
from workflows.record import AgentRecord

ResultT = TypeVar("ResultT")

PATCH = "count-what-is-given-up"
_DETAIL = 2
"""Of a heartbeat: where it says what was perhaps paid."""


async def settled(record: AgentRecord, handle: ActivityHandle[ResultT]) -> ResultT:
    """The result of a model call, which is given up when the turn is to end.

    Waits for the end of one that was given up: within seconds it says what it may have cost, or its worker is gone.

    Raises:
        ActivityError: it failed, or was given up.
    """
    await _until(record, lambda: handle.done() or record.stopping)
    if not handle.done():
        handle.cancel()
        if not workflow.patched(PATCH):
            # Histories of before go on at once, after the order to cancel.
            handle.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.sleep(0)
            raise _cancelled()
    while not handle.done():
        await _until(record, handle.done)
    return await handle


async def _until(record: AgentRecord, condition: Callable[[], bool]) -> None:
    """Wait. When Temporal cancels the agent it is closed, as by `AgentWorkflow.run`, but no call is left behind."""
    try:
        await workflow.wait_condition(condition)
    except asyncio.CancelledError:
        if not workflow.patched(PATCH):
            raise
        record.closing = True


def perhaps_paid(error: ActivityError) -> contracts.PerhapsPaid | None:
    """What a call that failed may have cost; None when it did not say."""
    match error.cause:
        case ApplicationError() as cause:
            found = cause.details[0] if cause.details else None
        case exceptions.TimeoutError() as cause:
            # Its worker is gone, or was not heard of again.
            noted = cause.last_heartbeat_details
            found = noted[_DETAIL] if len(noted) > _DETAIL else None
            if isinstance(found, dict):
                found = cast("dict[str, object]", found) | {"requests": noted[1]}
        case _:
            found = None
    try:
        return contracts.PerhapsPaid.model_validate(found)
    except ValidationError:
        return None


def _cancelled() -> ActivityError:
    error = ActivityError(
        "given up",
        scheduled_event_id=0,
        started_event_id=0,
        identity="",
        activity_type="",
        activity_id="",
        retry_state=None,
    )
    error.__cause__ = exceptions.CancelledError("given up")
    return error
