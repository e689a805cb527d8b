"""Names of workflows, task queues and the errors that workflows act on; limits of what the history carries."""

AGENT_WORKFLOW = "AgentWorkflow"
DELETE_WORKFLOW = "DeleteAgentWorkflow"
DELETION_PREFIX = "delete-"
"""Begins the ids of the workflows that delete agents."""
HOUSEKEEPING_WORKFLOW = "HousekeepingWorkflow"
HOUSEKEEPING_SCHEDULE = "hibernaut-housekeeping"
"""Id of the schedule that starts it; also the prefix of its workflow ids."""
VERIFY_WORKFLOW = "VerifyWorkflow"
PRUNE_WORKFLOW = "PruneWorkflow"
COLLECTION_WORKFLOW = "CollectionWorkflow"
NAME_SNAPSHOT_WORKFLOW = "NameSnapshotWorkflow"
COLLECTION_SCHEDULE = "hibernaut-collection"
"""Id of the schedule that starts `CollectionWorkflow`; also the prefix of its workflow ids."""
RESERVED_PREFIXES = (DELETION_PREFIX, HOUSEKEEPING_SCHEDULE, COLLECTION_SCHEDULE, "hibernaut-audit-")
"""What no agent's id may begin with: workflows of the engine's own have such ids."""
SCHEDULED_MESSAGE_WORKFLOW = "ScheduledMessageWorkflow"
FORK_WORKFLOW = "ForkAgentWorkflow"
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
SNAPSHOT_TOO_LARGE = "SnapshotTooLarge"
"""The files are more than the spec allows a snapshot; the model is told, and may delete some."""
BUDGET_USED_UP = "the budget is used up"
"""Begins the reason of a pause that ends when a limit is raised; to resume the agent alone does not end it."""
MODEL_UNPRICED = "ModelUnpriced"
"""Money is limited and the worker knows no price of the model; a budget that is changed goes on."""
CONTEXT_OVERFLOW = "ContextOverflow"
"""The conversation is longer than the model's window: it is compacted, and the model asked once more."""
AGENT_EXISTS = "AgentAlreadyExists"
"""Another agent, running or closed, has the id that a fork was to have."""
INVALID_COMMAND = "InvalidCommand"
"""The command cannot be handed to a shell; the model is told."""
MCP_UNAVAILABLE = "McpUnavailable"
"""The MCP server does not answer; nothing was sent to it."""
MCP_REJECTED = "McpRejected"
"""The worker knows no MCP server of that name."""
MCP_CALL_UNKNOWN = "McpCallUnknown"
"""A call was sent to an MCP server, and its end was not seen."""
NOT_YET = "NotYet"
"""What is waited for has not happened; the activity is tried again."""
