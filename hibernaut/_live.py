"""What goes on right now, as activities' heartbeats tell it: no history, no worker needed."""

from typing import Any

from pydantic import ValidationError
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import WorkflowExecutionDescription
from temporalio.converter import DataConverter

from hibernaut._temporal import Workflows
from hibernaut.contracts import SHELL_EXEC, SNAPSHOT_RESTORE, SNAPSHOT_TAKE, LiveOutput, LiveProgress


async def live_output(workflows: Workflows, agent_id: str) -> LiveOutput | None:
    """What runs and the newest of what it wrote; None when no command runs, or nothing was heard of it yet."""
    for pending in _pending(await workflows.describe(agent_id), SHELL_EXEC.name):
        details = await _details(pending, workflows.client.data_converter)
        try:
            return LiveOutput.model_validate(details[0]) if details else None
        except ValidationError:
            # A worker of another release tells it in other words; the store has all that matters.
            return None
    return None


async def live_progress(workflows: Workflows, agent_id: str) -> LiveProgress | None:
    """How far a restore or a snapshot has come; None when there is none, or nothing was heard of it yet."""
    description = await workflows.describe(agent_id)
    return await progress_of(description, workflows.client.data_converter)


async def progress_of(description: WorkflowExecutionDescription, converter: DataConverter) -> LiveProgress | None:
    """The same, of what a server said."""
    for name in (SNAPSHOT_RESTORE.name, SNAPSHOT_TAKE.name):
        for pending in _pending(description, name):
            details = await _details(pending, converter) if _is_heard(pending) else []
            try:
                if details:
                    return LiveProgress.model_validate(details[0])
            except ValidationError:
                # A worker of another release: nothing to show.
                continue
    return None


def _pending(description: WorkflowExecutionDescription, name: str) -> list[PendingActivityInfo]:
    return [one for one in description.raw_description.pending_activities if one.activity_type.name == name]


def _is_heard(pending: PendingActivityInfo) -> bool:
    """Whether the attempt under way sent a heartbeat: details outlive the attempt that failed."""
    running = pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    return running and pending.last_heartbeat_time.ToNanoseconds() >= pending.last_started_time.ToNanoseconds()


async def _details(pending: PendingActivityInfo, converter: DataConverter) -> list[Any]:
    """The first detail of an activity's newest heartbeat."""
    return await converter.decode(list(pending.heartbeat_details.payloads)[:1])
