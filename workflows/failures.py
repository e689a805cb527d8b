"""What a failed activity means to a workflow."""

from temporalio import exceptions
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, TimeoutType

from hibernaut import contracts
from workflows.ladder import Finding

_LOST = frozenset({contracts.SANDBOX_LOST, contracts.SANDBOX_NOT_FRESH})
"""Failures of a container that another one may be spared."""


def code_of(error: ActivityError) -> str:
    """The stable code of the error that ended an activity (its `ApplicationError.type`)."""
    cause = error.cause
    if isinstance(cause, ApplicationError):
        return cause.type or "Unknown"
    return type(cause).__name__ if cause is not None else "Unknown"


def reason_of(error: ActivityError) -> str:
    """A sentence for people: what the activity raised, without Temporal's wrapping."""
    if unclaimed(error):
        return "the sandbox's host does not answer"
    cause = error.cause
    message = cause.message if isinstance(cause, FailureError) and cause.message else str(error)
    return message.rstrip(". \n")


def unclaimed(error: ActivityError) -> bool:
    """Whether no worker took the task in time."""
    cause = error.cause
    return isinstance(cause, exceptions.TimeoutError) and cause.type is TimeoutType.SCHEDULE_TO_START


def finding_of(error: ActivityError) -> Finding:
    """The error as what a rung found."""
    if unclaimed(error):
        return Finding.UNCLAIMED
    return Finding.LOST if code_of(error) in _LOST else Finding.FAILED
