"""What every set of an agent's handlers works on."""

from temporalio.exceptions import ApplicationError

from hibernaut.models import AgentState, EventKind, WaitKind
from workflows.children import Children
from workflows.context import Context
from workflows.inbox import Inbox
from workflows.lease import Lease
from workflows.record import AgentRecord
from workflows.turn import Turn
from workflows.uploads import Uploads


class Parts:
    """The parts of one agent, made by `AgentWorkflow` before any handler runs."""

    _invalid: str | None
    _record: AgentRecord
    _context: Context
    _inbox: Inbox
    _lease: Lease
    _uploads: Uploads
    _turn: Turn
    _children: Children

    def _refusal(self) -> ApplicationError | None:
        """Why this agent takes nothing any more."""
        if self._invalid is not None:
            return ApplicationError(self._invalid, type="InvalidSpec", non_retryable=True)
        if self._record.closing or self._record.closed:
            return ApplicationError(
                f"agent {self._context.agent_id} is closed; start another one", type="AgentClosed", non_retryable=True
            )
        return None


def go_on(context: Context, told: str) -> None:
    """End a pause."""
    record = context.record
    record.paused = False
    record.paused_reason = None
    context.journal.add(EventKind.RESUMED, told)
    resting = resting_state(record, held=record.lease is not None)
    context.show(AgentState.RUNNING if record.current else resting)


def resting_state(record: AgentRecord, *, held: bool) -> AgentState:
    """What an agent that does nothing is shown as."""
    if record.paused:
        return AgentState.PAUSED
    if record.waiting is not None and record.waiting.kind in {WaitKind.APPROVAL, WaitKind.QUESTION}:
        return AgentState.WAITING_APPROVAL
    return AgentState.HIBERNATED if not held and record.generation > 0 else AgentState.IDLE
