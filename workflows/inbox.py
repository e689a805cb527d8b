"""The inbox: messages taken once, kept, and asked about."""

import hashlib

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from hibernaut import contracts
from hibernaut.models import Answer, AnswerState, EventKind, SendRequest, Ticket
from hibernaut.models.messages import MAX_MESSAGE_BYTES
from workflows import options
from workflows.context import Context
from workflows.record import INLINE_MESSAGES, MAX_INBOX

EVENT_TEXT = 400
"""Characters of a message shown in events and carried beside a reference."""


class Inbox:
    """Works on the record's inbox."""

    def __init__(self, context: Context) -> None:
        """Share the agent's context."""
        self._context = context
        self._record = context.record
        self._keeping: set[str] = set()

    def refusal(self, request: SendRequest) -> ApplicationError | None:
        """Why a message cannot be taken."""
        size = len(request.text.encode("utf-8", "replace"))
        if size > MAX_MESSAGE_BYTES:
            return ApplicationError(
                f"the message has {size} bytes and the limit is {MAX_MESSAGE_BYTES}; put the text into a file of the "
                "agent (`hibernaut files put`) and name it in the message",
                type="MessageTooLarge",
                non_retryable=True,
            )
        if len(self._record.inbox) >= MAX_INBOX:
            return ApplicationError(
                f"{MAX_INBOX} messages wait already; send again when some are answered",
                type="InboxFull",
                non_retryable=True,
            )
        return None

    async def accept(self, request: SendRequest) -> Ticket:
        """Take a message into the inbox, once per message id."""
        record = self._record
        message_id = request.message_id or workflow.uuid4().hex
        while not record.remember(message_id):
            if message_id not in self._keeping:
                return Ticket(message_id=message_id, duplicate=True)
            # The first copy is on its way into the store: no ticket before it is there.
            await workflow.wait_condition(lambda: message_id not in self._keeping)
        message = contracts.UserMessage(message_id=message_id, text=request.text)
        if len(request.text) > contracts.INLINE_TEXT or len(record.inbox) >= INLINE_MESSAGES:
            message = message.model_copy(
                update={"text": request.text[:EVENT_TEXT], "text_ref": await self._keep_text(message_id, request.text)}
            )
        position = len(record.inbox) + (1 if record.current is not None else 0)
        record.inbox.append(message)
        self._context.journal.add(
            EventKind.MESSAGE, request.text[:EVENT_TEXT], message_id=message_id, characters=len(request.text)
        )
        return Ticket(message_id=message_id, position=position)

    async def _keep_text(self, message_id: str, text: str) -> str:
        self._keeping.add(message_id)
        try:
            kept = await options.call(
                contracts.TRANSCRIPT_KEEP,
                contracts.KeepTextRequest(
                    agent_uid=self._record.uid,
                    message_id=hashlib.sha256(message_id.encode()).hexdigest(),
                    text=text,
                ),
                summary=f"message of {len(text)} characters",
            )
        except ActivityError:
            self._record.forget(message_id)
            raise
        finally:
            self._keeping.discard(message_id)
        return kept.ref

    def answer(self, message_id: str) -> Answer:
        """What became of a message."""
        record = self._record
        reason = record.paused_reason or "by request" if record.paused else None
        known = {answer.message_id: answer for answer in record.answers}
        if message_id in known:
            return known[message_id]
        if record.current is not None and record.current.message_id == message_id:
            return Answer(
                message_id=message_id,
                state=AnswerState.RUNNING,
                paused_reason=reason,
                turn=record.turn,
                steps=record.current.steps,
            )
        waiting = message_id in self._keeping or any(message.message_id == message_id for message in record.inbox)
        return Answer(
            message_id=message_id,
            state=AnswerState.QUEUED if waiting else AnswerState.UNKNOWN,
            paused_reason=reason if waiting else None,
        )
