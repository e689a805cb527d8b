"""Names of workflows, task queues and the errors that workflows act on; limits of what the history carries."""

AGENT_WORKFLOW = "AgentWorkflow"
DELETE_WORKFLOW = "DeleteAgentWorkflow"
TASK_QUEUE = "hibernaut"
PLACEMENT_QUEUE = "hibernaut-placement"


def host_queue(host_id: str) -> str:
    """The task queue of one sandbox host alone."""
    return f"hibernaut-host-{host_id}"


INLINE_TEXT = 4_000
"""Characters of a text carried in the history; what is longer is kept in the store and carried as a reference."""

# Error types (ApplicationError.type) that workflows act on; activities raise them.
SANDBOX_LOST = "SandboxLost"
"""The sandbox of the lease is gone or was stopped."""
SANDBOX_NOT_FRESH = "SandboxNotFresh"
"""An earlier attempt began to restore another snapshot in the container: a new one is needed."""
SNAPSHOT_FAILED = "snapshot failed"
"""Begins the reason of a pause that keeps an agent from giving its container up."""
INVALID_COMMAND = "InvalidCommand"
"""The command cannot be handed to a shell; the model is told."""
