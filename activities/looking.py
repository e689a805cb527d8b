"""What activities share that look at an agent through the SDK, once an attempt, until something has happened."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.heartbeat import beating
from hibernaut.contracts.names import NOT_YET
from hibernaut.errors import HibernautError
from hibernaut.models import Answer, AnswerState

SHOWN = 500
"""Characters of what an agent waits for, and of an answer that the history of a firing keeps."""
OPEN = frozenset({AnswerState.QUEUED, AnswerState.RUNNING})


def held_up(agent_id: str, answer: Answer) -> str:
    """Why a message is not answered yet."""
    if answer.paused_reason is not None:
        return f"{agent_id} is paused: {answer.paused_reason}"
    if answer.waiting is not None:
        return f"{agent_id} waits: {answer.waiting.kind.replace('_', ' ')}: {answer.waiting.text[:SHOWN]}"
    if answer.state is AnswerState.QUEUED:
        return f"the message waits in the inbox of {agent_id}"
    return f"the turn of {agent_id} runs, {answer.steps} steps so far"


def not_yet(reason: str) -> ApplicationError:
    """What is neither logged as an error nor counted as one."""
    return ApplicationError(reason, type=NOT_YET, category=ApplicationErrorCategory.BENIGN)


@asynccontextmanager
async def trying() -> AsyncGenerator[None]:
    """With heartbeats; the SDK's errors as failures that are retried where they say that this may help."""
    try:
        async with beating():
            yield
    except HibernautError as error:
        raise ApplicationError(error.message, type=type(error).__name__, non_retryable=not error.retryable) from None
