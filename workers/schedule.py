"""The Temporal schedule that starts housekeeping: made by whichever worker starts first."""

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

from hibernaut.contracts import HOUSEKEEPING_SCHEDULE, HOUSEKEEPING_WORKFLOW, TASK_QUEUE

RPC_TIMEOUT = timedelta(seconds=10)
LONGEST = timedelta(hours=1)
"""A housekeeping that no worker ever takes up must not keep the next from starting for good."""
CATCH_UP = timedelta(minutes=1)
"""Of runs missed while Temporal was down, none is worth making up for: the next does all."""

_log = logging.getLogger(__name__)


async def ensure_housekeeping(client: Client, every: timedelta) -> None:
    """Make the schedule unless it exists; one that exists keeps its interval. A zero interval makes none.

    A failure is logged: a worker without the schedule works, and the next start tries again.
    """
    if not every:
        return
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(
            HOUSEKEEPING_WORKFLOW,
            id=HOUSEKEEPING_SCHEDULE,
            task_queue=TASK_QUEUE,
            execution_timeout=LONGEST,
            static_summary="remove containers that no agent holds",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
        state=ScheduleState(note="Hibernaut housekeeping: orphaned containers"),
    )
    try:
        await client.create_schedule(HOUSEKEEPING_SCHEDULE, schedule, rpc_timeout=RPC_TIMEOUT)
    except ScheduleAlreadyRunningError:
        return
    except RPCError as error:
        _log.warning("no housekeeping schedule could be made: %s", error.message)
