"""What is sent to an agent and what comes back, on the caller's side."""

import uuid

from hibernaut.errors import (
    InvalidRequest,
    MessageTooLarge,
    MessageUnknown,
    ModelRefused,
    TurnFailed,
    TurnInterrupted,
)
from hibernaut.models import Answer, AnswerState, SendRequest
from hibernaut.models.base import Open
from hibernaut.models.messages import MAX_MESSAGE_BYTES, MAX_MESSAGE_ID, Delivery


class Reply(Open):
    """The answer to a message."""

    message_id: str
    text: str
    turn: int
    steps: int
    """Model calls the turn took."""

    def __str__(self) -> str:
        """The words alone."""
        return self.text


def compose(text: str, message_id: str | None, delivery: Delivery = "queue") -> SendRequest:
    """A request of which it is certain that the agent can take it.

    Raises:
        MessageTooLarge: more than 1,000,000 bytes of UTF-8.
        InvalidRequest: an empty text, one that is no Unicode, or a message id of more than 200 characters.
    """
    if not text:
        raise InvalidRequest("The message is empty.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequest("The message holds bytes that are not UTF-8.", hint="Send text.") from error
    if message_id is not None:
        check_message_id(message_id)
    if size > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            f"The message has {size:,} bytes; at most {MAX_MESSAGE_BYTES:,} are taken.",
            hint="Put the content into a file of the agent's computer and name the file in the message.",
        )
    return SendRequest(text=text, message_id=message_id or f"m-{uuid.uuid4().hex}", delivery=delivery)


def check_message_id(message_id: str) -> None:
    """Raise InvalidRequest unless a message can have this id."""
    if not 1 <= len(message_id) <= MAX_MESSAGE_ID:
        raise InvalidRequest(f"A message id has 1 to {MAX_MESSAGE_ID} characters, not {len(message_id)}.")


def reply_of(agent_id: str, answer: Answer) -> Reply:
    """The reply that a settled answer is; what is none raises the error that says why."""
    known = {"message_id": answer.message_id, "text": answer.text}
    match answer.state:
        case AnswerState.DONE:
            return Reply(message_id=answer.message_id, text=answer.text, turn=answer.turn, steps=answer.steps)
        case AnswerState.REFUSED:
            raise ModelRefused(f"The model declined: {answer.text}", **known)
        case AnswerState.INTERRUPTED:
            raise TurnInterrupted(f"The turn of agent {agent_id} was interrupted. {answer.text}".strip(), **known)
        case AnswerState.UNKNOWN:
            raise MessageUnknown(
                f"Agent {agent_id} knows no message {answer.message_id}, or answered it too long ago to remember.",
                agent_id=agent_id,
                hint=f"`hibernaut follow {agent_id} --no-follow` shows what it did.",
            )
        case _:
            raise TurnFailed(f"The turn of agent {agent_id} failed: {answer.text}", **known)
