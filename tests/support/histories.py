"""The histories of all runs of an agent."""

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHistory


def started(history: WorkflowHistory) -> HistoryEvent:
    """The first event of a run."""
    return next(iter(history.events))


def size(history: WorkflowHistory) -> int:
    """Bytes of a run's history."""
    return sum(event.ByteSize() for event in history.events)


async def chain(client: Client, agent_id: str) -> list[WorkflowHistory]:
    """Every run from the first to the newest."""
    run_id = (await client.get_workflow_handle(agent_id).describe()).run_id
    found: list[WorkflowHistory] = []
    while run_id:
        history = await client.get_workflow_handle(agent_id, run_id=run_id).fetch_history()
        found.insert(0, history)
        run_id = started(history).workflow_execution_started_event_attributes.continued_execution_run_id
    return found
