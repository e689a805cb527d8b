"""The command that runs right now, as its activity's heartbeats tell it: no history, no worker needed."""

from pydantic import ValidationError

from hibernaut._temporal import Workflows
from hibernaut.contracts import SHELL_EXEC, LiveOutput


async def live_output(workflows: Workflows, agent_id: str) -> LiveOutput | None:
    """What runs and the newest of what it wrote; None when no command runs, or nothing was heard of it yet."""
    description = await workflows.describe(agent_id)
    for pending in description.raw_description.pending_activities:
        if pending.activity_type.name != SHELL_EXEC.name:
            continue
        details = await workflows.client.data_converter.decode(list(pending.heartbeat_details.payloads)[:1])
        try:
            return LiveOutput.model_validate(details[0]) if details else None
        except ValidationError:
            # A worker of another release tells it in other words; the store has all that matters.
            return None
    return None
