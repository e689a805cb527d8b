"""What people say to an agent that waits for them: approve, deny, answer."""

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from hibernaut.models import AgentStatus, ApproveRequest, DenyRequest, RespondRequest, Waiting, WaitKind
from workflows.approvals import KEPT_CONSENTS, key_of
from workflows.parts import Parts
from workflows.record import Decision


class People(Parts):
    """Handlers that decide what waits; the turn goes on by itself."""

    @workflow.update
    async def approve(self, request: ApproveRequest) -> AgentStatus:
        """Let the call that waits for consent run."""
        opened = self._record.open
        if request.always and opened is not None:
            self._record.consented.append(key_of(opened.reply.tool_calls[opened.done]))
            del self._record.consented[:-KEPT_CONSENTS]
        return self._decide(Decision(by=request.by))

    @approve.validator
    def _check_approve(self, request: ApproveRequest) -> None:
        self._check(WaitKind.APPROVAL, request.call_id)
        opened = self._record.open
        if request.always and opened is not None and not key_of(opened.reply.tool_calls[opened.done]):
            raise ApplicationError(
                "a call that is too long to be shown whole cannot be approved for good; approve it once",
                type="InvalidRequest",
                non_retryable=True,
            )

    @workflow.update
    async def deny(self, request: DenyRequest) -> AgentStatus:
        """Refuse the call that waits for consent; the model is told why."""
        return self._decide(Decision(approved=False, text=request.reason, by=request.by))

    @deny.validator
    def _check_deny(self, request: DenyRequest) -> None:
        self._check(WaitKind.APPROVAL, request.call_id)

    @workflow.update
    async def respond(self, request: RespondRequest) -> AgentStatus:
        """Answer the question that the model asked."""
        return self._decide(Decision(text=request.text, by=request.by))

    @respond.validator
    def _check_respond(self, request: RespondRequest) -> None:
        self._check(WaitKind.QUESTION, request.call_id)

    def _decide(self, decision: Decision) -> AgentStatus:
        if self._record.open is not None:
            self._record.open.decision = decision
        return self._context.status()

    def _check(self, kind: WaitKind, call_id: str | None) -> None:
        problem = self._refusal()
        if problem is not None:
            raise problem
        waiting = self._record.waiting
        if waiting is None or waiting.kind is not kind or (call_id is not None and call_id != waiting.call_id):
            raise ApplicationError(
                _nothing(self._context.agent_id, kind, call_id, waiting), type="NothingWaits", non_retryable=True
            )


def _nothing(agent_id: str, kind: WaitKind, call_id: str | None, waiting: Waiting | None) -> str:
    wanted = "waits for consent" if kind is WaitKind.APPROVAL else "asks anything"
    which = f" under the call id {call_id}" if call_id is not None else ""
    if waiting is None:
        return f"agent {agent_id} has no call that {wanted}{which}; somebody may have decided it already"
    return (
        f"agent {agent_id} has no call that {wanted}{which}; it waits for {waiting.kind.value} (call {waiting.call_id})"
    )
