"""What a failed activity means to a workflow."""

from temporalio.exceptions import ActivityError, ApplicationError, FailureError


def code_of(error: ActivityError) -> str:
    """The stable code of the error that ended an activity (its `ApplicationError.type`)."""
    cause = error.cause
    if isinstance(cause, ApplicationError):
        return cause.type or "Unknown"
    return type(cause).__name__ if cause is not None else "Unknown"


def reason_of(error: ActivityError) -> str:
    """A sentence for people: what the activity raised, without Temporal's wrapping."""
    cause = error.cause
    message = cause.message if isinstance(cause, FailureError) and cause.message else str(error)
    return message.rstrip(". \n")
