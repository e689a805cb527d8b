"""The inbox: messages taken once, kept, and asked about."""

import hashlib

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from hibernaut import contracts
from hibernaut.contracts.children import RESULT_PREFIX
from hibernaut.models import Answer, AnswerState, EventKind, SendRequest, Ticket
from hibernaut.models.messages import MAX_MESSAGE_BYTES
from workflows import options
from workflows.context import Context
from workflows.record import INLINE_MESSAGES, MAX_INBOX

MAX_STEERING = 20
"""Messages that one turn takes up while it runs; their answers are remembered beside each other."""
EVENT_TEXT = 400
"""Characters of a message shown in events and carried beside a reference."""


def from_a_child(message: contracts.UserMessage) -> bool:
    """Whether it tells of a child agent that has ended."""
    return message.message_id.startswith(RESULT_PREFIX)


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
        record = self._record
        if request.delivery == "steer" and record.current is not None:
            steering = len(record.steering) + len(record.current.joined)
            if steering >= MAX_STEERING:
                return ApplicationError(
                    f"{MAX_STEERING} messages steer this turn already; queue this one, or interrupt the turn",
                    type="InboxFull",
                    non_retryable=True,
                )
        if len(record.inbox) + len(record.steering) >= MAX_INBOX:
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
        waiting = len(record.inbox) + len(record.steering)
        if len(request.text) > contracts.INLINE_TEXT or waiting >= INLINE_MESSAGES:
            message = message.model_copy(
                update={"text": request.text[:EVENT_TEXT], "text_ref": await self._keep_text(message_id, request.text)}
            )
        position = self._place(message, request)
        self._context.journal.add(
            EventKind.MESSAGE, request.text[:EVENT_TEXT], message_id=message_id, characters=len(request.text)
        )
        return Ticket(message_id=message_id, position=position)

    def _place(self, message: contracts.UserMessage, request: SendRequest) -> int:
        """Put a message where its delivery wants it; how many are before it."""
        record = self._record
        running = record.current is not None
        if request.delivery == "steer" and running:
            record.steering.append(message)
            return 0
        if request.delivery == "interrupt" and running:
            record.inbox.insert(0, message)
            record.interrupt = True
            return 1
        record.inbox.append(message)
        return len(record.inbox) - 1 + running

    async def withdraw(self, message_id: str) -> Answer:
        """Take a message back; what has become of it."""
        record = self._record
        await workflow.wait_condition(lambda: message_id not in self._keeping)
        waits = [message for message in record.inbox if message.message_id == message_id]
        if record.current is not None and record.current.message_id == message_id:
            record.interrupt = True
        elif waits or record.remember(message_id):
            # One that has not come yet may be on its way: remembered, it is a duplicate when it does.
            for message in waits:
                record.inbox.remove(message)
            record.answer(
                Answer(message_id=message_id, state=AnswerState.INTERRUPTED, text="It was withdrawn before its turn.")
            )
            self._context.journal.add(
                EventKind.INTERRUPTED,
                "message withdrawn before its turn",
                message_id=message_id,
                state=AnswerState.INTERRUPTED.value,
                steps=0,
            )
        return self.answer(message_id)

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
        joined = [message.message_id for message in record.steering]
        if record.current is not None and message_id in (record.current.message_id, *record.current.joined, *joined):
            return Answer(
                message_id=message_id,
                state=AnswerState.RUNNING,
                paused_reason=reason,
                turn=record.turn,
                steps=record.current.steps,
                waiting=record.waiting,
            )
        waiting = message_id in self._keeping or any(message.message_id == message_id for message in record.inbox)
        return Answer(
            message_id=message_id,
            state=AnswerState.QUEUED if waiting else AnswerState.UNKNOWN,
            paused_reason=reason if waiting else None,
        )
