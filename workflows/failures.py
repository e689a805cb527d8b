"""What a failed activity means to a workflow."""

from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, FailureError


def code_of(error: ActivityError) -> str:
    """The stable code of the error that ended an activity (its `ApplicationError.type`)."""
    cause = error.cause
    if isinstance(cause, ApplicationError):
        return cause.type or "Unknown"
    return type(cause).__name__ if cause is not None else "Unknown"


def reason_of(error: ActivityError) -> str:
    """A sentence for people: the innermost message, without the wrapping."""
    cause: BaseException | None = error
    message = str(error)
    while cause is not None:
        if isinstance(cause, FailureError) and cause.message:
            message = cause.message
        cause = cause.__cause__
    return message.rstrip(". \n")


def is_cancelled(error: ActivityError) -> bool:
    """Whether the activity ended because the workflow asked it to."""
    return isinstance(error.cause, CancelledError)
