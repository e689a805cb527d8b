"""Names of workflows, task queues and the errors that workflows act on; limits of what the history carries."""

AGENT_WORKFLOW = "AgentWorkflow"
DELETE_WORKFLOW = "DeleteAgentWorkflow"
HOUSEKEEPING_WORKFLOW = "HousekeepingWorkflow"
HOUSEKEEPING_SCHEDULE = "hibernaut-housekeeping"
"""Id of the schedule that starts it; also the prefix of its workflow ids."""
TASK_QUEUE = "hibernaut"
PLACEMENT_QUEUE = "hibernaut-placement"


def host_queue(host_id: str) -> str:
    """The task queue of one sandbox host alone."""
    return f"hibernaut-host-{host_id}"


def control_queue(host_id: str) -> str:
    """The queue of a sandbox host for `host.ping` alone: a host that is full still answers there."""
    return f"hibernaut-control-{host_id}"


INLINE_TEXT = 4_000
"""Characters of a text carried in the history; what is longer is kept in the store and carried as a reference."""

# Error types (ApplicationError.type) that workflows act on; activities raise them.
SANDBOX_LOST = "SandboxLost"
"""The sandbox of the lease is gone or was stopped."""
SANDBOX_NOT_FRESH = "SandboxNotFresh"
"""An earlier attempt began to restore another snapshot in the container: a new one is needed."""
IMAGE_NOT_FOUND = "ImageNotFound"
"""The image is neither on the host nor to be pulled; the object store may hold it."""
SNAPSHOT_FENCED = "SnapshotFenced"
"""A later generation of the agent's sandbox has taken over: what this one changed since is refused."""
SNAPSHOT_FAILED = "snapshot failed"
"""Begins the reason of a pause that keeps an agent from giving its container up."""
INVALID_COMMAND = "InvalidCommand"
"""The command cannot be handed to a shell; the model is told."""
