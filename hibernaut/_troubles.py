"""What an agent is held up by: activities that failed and are tried again."""

from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import WorkflowExecutionDescription
from temporalio.converter import DataConverter

from hibernaut._failures import message_of
from hibernaut.models import Trouble

UNTAKEN = timedelta(seconds=15)
"""An activity that waits longer than this for its first attempt has no worker, or only busy ones."""
_WAITING = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED


async def troubles_of(description: WorkflowExecutionDescription, converter: DataConverter) -> list[Trouble]:
    """The activities of a workflow that have failed at least once, or that nobody takes, and are not done."""
    found: list[Trouble] = []
    now = datetime.now(UTC)
    for pending in description.raw_description.pending_activities:
        waiting = pending.state == _WAITING
        due = pending.scheduled_time.ToDatetime(UTC) if waiting else None
        if pending.HasField("last_failure"):
            said = await message_of(pending.last_failure, converter)
            reason = f"tried again after: {said.rstrip('. ')}"
        elif due is not None and now - due > UNTAKEN:
            reason = "no worker has taken it yet; is one running for its task queue?"
        else:
            continue
        found.append(
            Trouble(activity=pending.activity_type.name, attempt=pending.attempt, reason=reason, next_attempt_at=due)
        )
    return found
