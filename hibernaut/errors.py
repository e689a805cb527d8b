"""Every error this package raises. Each is a sentence that says what went wrong, where, and how to mend it.

HibernautError
├── InvalidRequest            what was asked cannot be, whatever the state of the world
│   ├── InvalidSpec           a field of the spec, named, with the values it may have
│   ├── InvalidSettings       environment, connection.json or Temporal's own configuration file
│   └── InvalidAgentId, InvalidPath, MessageTooLarge
├── AgentError                about one agent, named by `agent_id`
│   ├── AgentNotFound, AgentAlreadyExists, InboxFull, MessageUnknown
│   ├── AgentClosed           it ended: closed, terminated or failed
│   ├── AgentPaused           it waits for a person; `reason` says why
│   ├── OutputMissing         no such command, or what it wrote is not all there
│   ├── RequestRejected       the agent refused for another reason; `reason_code` is its stable name
│   └── DeletionFailed
├── TurnError                 a message got no answer; `message_id` and `text` say which and why
│   └── ModelRefused, TurnFailed, TurnInterrupted
├── FileError                 about one path of an agent's computer
│   ├── FileMissing, FileTooLarge, SnapshotMissing
│   ├── FileUnsuitable        a directory where a file is needed, a FIFO, ...
│   └── SandboxAsleep         only the running computer has it: wake the agent
├── WaitTimeout               the caller's own time limit; what was waited for goes on
└── Unavailable               a server does not answer, or not us
    ├── TemporalUnreachable, NamespaceNotFound, NotAuthorized, GatewayUnreachable, GatewayNotConfigured
    ├── NamespaceNotPrepared  its search attributes are not registered
    ├── NoWorker              nobody works on the task queue
    └── GatewayRefused, GatewayFailed   wrong or missing token; an error of its own
"""

from typing import ClassVar


class HibernautError(Exception):
    """The root: catch this to catch all.

    Attributes:
        message: What went wrong, and where.
        hint: How to mend it; empty when the message says all there is to say.
        code: Stable name for programs, the same in the gateway's JSON errors and in `-o json`.
        retryable: Whether the same call may succeed later without a change.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message} {hint}".strip())


class InvalidRequest(HibernautError):
    """What was asked cannot be."""

    code = "invalid_request"


class InvalidSpec(InvalidRequest):
    """A spec with fields that are wrong; `problems` has a line for each."""

    code = "invalid_spec"

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), hint: str = "") -> None:
        self.problems = problems
        super().__init__(message, hint=hint)


class InvalidAgentId(InvalidRequest):
    """An agent id with characters or of a length that is not allowed."""

    code = "invalid_agent_id"


class InvalidSettings(InvalidRequest):
    """A setting that cannot be used."""

    code = "invalid_settings"


class InvalidPath(InvalidRequest):
    """A path that is not absolute, or that leaves its root."""

    code = "invalid_path"


class MessageTooLarge(InvalidRequest):
    """A message over the limit."""

    code = "message_too_large"


class AgentError(HibernautError):
    """An error about one agent."""

    code = "agent_error"

    def __init__(self, message: str, *, agent_id: str = "", hint: str = "") -> None:
        self.agent_id = agent_id
        super().__init__(message, hint=hint)


class AgentNotFound(AgentError):
    """No agent has this id."""

    code = "agent_not_found"


class AgentAlreadyExists(AgentError):
    """An agent, running or closed, has this id already."""

    code = "agent_already_exists"


class AgentClosed(AgentError):
    """The agent ended and takes nothing any more."""

    code = "agent_closed"


class AgentPaused(AgentError):
    """The agent is paused with the message pending; nothing is lost, and `resume` goes on with it."""

    code = "agent_paused"

    def __init__(self, message: str, *, reason: str, agent_id: str = "", hint: str = "") -> None:
        self.reason = reason
        super().__init__(message, agent_id=agent_id, hint=hint)


class InboxFull(AgentError):
    """Too many messages wait already."""

    code = "inbox_full"
    retryable = True


class MessageUnknown(AgentError):
    """The agent has no such message, or answered it too long ago to remember."""

    code = "message_unknown"


class OutputMissing(AgentError):
    """No such command, or what it wrote is not all in the store."""

    code = "output_not_found"


class RequestRejected(AgentError):
    """The agent refused a request."""

    code = "request_rejected"

    def __init__(self, message: str, *, reason_code: str = "", agent_id: str = "", hint: str = "") -> None:
        self.reason_code = reason_code
        super().__init__(message, agent_id=agent_id, hint=hint)


class DeletionFailed(AgentError):
    """An agent could not be deleted, or not wholly."""

    code = "deletion_failed"
    retryable = True


class TurnError(HibernautError):
    """A message got no answer."""

    code = "turn_error"

    def __init__(self, message: str, *, message_id: str = "", text: str = "", hint: str = "") -> None:
        self.message_id = message_id
        self.text = text
        super().__init__(message, hint=hint)


class ModelRefused(TurnError):
    """The model declined; `text` has its words."""

    code = "model_refused"


class TurnFailed(TurnError):
    """The turn ended without an answer; `text` says why."""

    code = "turn_failed"


class TurnInterrupted(TurnError):
    """Somebody interrupted the turn."""

    code = "turn_interrupted"


class FileError(HibernautError):
    """An error about one path."""

    code = "file_error"


class FileMissing(FileError):
    """No such path."""

    code = "file_not_found"


class FileUnsuitable(FileError):
    """The path is of a type for which this cannot be done."""

    code = "file_unsuitable"


class FileTooLarge(FileError):
    """More bytes than the gateway takes in one upload."""

    code = "file_too_large"


class SnapshotMissing(FileError):
    """The store has no such snapshot of the agent."""

    code = "snapshot_not_found"


class SandboxAsleep(FileError):
    """What is asked for is in the image or the running computer alone, and the agent sleeps."""

    code = "sandbox_asleep"


class WaitTimeout(HibernautError):
    """The caller's time limit passed; what was waited for goes on."""

    code = "wait_timeout"
    retryable = True


class Unavailable(HibernautError):
    """A server does not answer, or refuses us."""

    code = "unavailable"
    retryable = True


class TemporalUnreachable(Unavailable):
    """Nothing that speaks Temporal answers at the address."""

    code = "temporal_unreachable"


class NamespaceNotFound(Unavailable):
    """The Temporal server has no such namespace."""

    code = "namespace_not_found"
    retryable = False


class NamespaceNotPrepared(Unavailable):
    """The namespace lacks the search attributes."""

    code = "namespace_not_prepared"
    retryable = False


class NotAuthorized(Unavailable):
    """Temporal refuses these credentials."""

    code = "not_authorized"
    retryable = False


class NoWorker(Unavailable):
    """No worker answers on the task queue."""

    code = "no_worker"


class GatewayUnreachable(Unavailable):
    """The HTTP gateway does not answer."""

    code = "gateway_unreachable"


class GatewayNotConfigured(Unavailable):
    """What is asked for needs the gateway, and no address is known."""

    code = "gateway_not_configured"
    retryable = False


class GatewayRefused(Unavailable):
    """The gateway refuses the token."""

    code = "gateway_refused"
    retryable = False


class GatewayFailed(Unavailable):
    """The gateway answered with an error of its own."""

    code = "gateway_failed"
