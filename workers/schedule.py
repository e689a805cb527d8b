"""The Temporal schedules that start housekeeping and collection: made by whichever worker starts first."""

import logging
from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
)
from temporalio.service import RPCError

from hibernaut.contracts import (
    COLLECTION_SCHEDULE,
    COLLECTION_WORKFLOW,
    HOUSEKEEPING_SCHEDULE,
    HOUSEKEEPING_WORKFLOW,
    TASK_QUEUE,
    CollectionRequest,
)

RPC_TIMEOUT = timedelta(seconds=10)
LONGEST = timedelta(hours=1)
"""A housekeeping that no worker ever takes up must not keep the next from starting for good."""
LONGEST_COLLECTION = timedelta(days=2)
"""The same; it may have a large store to read."""
CATCH_UP = timedelta(minutes=1)
"""Of runs missed while Temporal was down, none is worth making up for: the next does all."""
COLLECTION_CATCH_UP = timedelta(days=1)
"""A collection is rare enough to be made up for."""

_log = logging.getLogger(__name__)


async def ensure_housekeeping(client: Client, every: timedelta) -> None:
    """Make the schedule unless it exists; one that exists keeps its interval. A zero interval makes none.

    A failure is logged: a worker without the schedule works, and the next start tries again.
    """
    await _ensure(
        client,
        every,
        ScheduleActionStartWorkflow(
            HOUSEKEEPING_WORKFLOW,
            id=HOUSEKEEPING_SCHEDULE,
            task_queue=TASK_QUEUE,
            execution_timeout=LONGEST,
            static_summary="remove containers that no agent holds",
        ),
        CATCH_UP,
        "Hibernaut housekeeping: orphaned containers",
    )


async def ensure_collection(client: Client, every: timedelta) -> None:
    """Make the schedule that thins out snapshots and collects their packs; otherwise as `ensure_housekeeping`.

    It does not name the retention: each collection applies that of the worker that does it.
    """
    await _ensure(
        client,
        every,
        ScheduleActionStartWorkflow(
            COLLECTION_WORKFLOW,
            CollectionRequest(),
            id=COLLECTION_SCHEDULE,
            task_queue=TASK_QUEUE,
            execution_timeout=LONGEST_COLLECTION,
            static_summary="prune snapshots, collect what none of them names",
        ),
        COLLECTION_CATCH_UP,
        "Hibernaut collection: old snapshots and the packs of deleted ones",
    )


async def _ensure(
    client: Client, every: timedelta, action: ScheduleActionStartWorkflow, catch_up: timedelta, note: str
) -> None:
    if not every:
        return
    schedule = Schedule(
        action=action,
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=catch_up),
        state=ScheduleState(note=note),
    )
    try:
        await client.create_schedule(action.id, schedule, rpc_timeout=RPC_TIMEOUT)
    except ScheduleAlreadyRunningError:
        return
    except RPCError as error:
        _log.warning("no schedule %s could be made: %s", action.id, error.message)
