"""Errors of activities as Temporal failures: one place decides what is retried."""

from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities.errors import HibernautActivityError, ModelUnavailable


class ErrorInterceptor(Interceptor):
    """Turns `HibernautActivityError` into `ApplicationError` with its code and retryability."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002  # Temporal's name
        """See Temporal."""
        return _Inbound(super().intercept_activity(next))


class _Inbound(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002, ANN401  # Temporal's
        try:
            return await super().execute_activity(input)
        except HibernautActivityError as error:
            activity.logger.warning("%s: %s", error.code, error)
            # The sentence is enough for the history; the trace is in the log.
            raise as_failure(error) from None


def as_failure(error: HibernautActivityError) -> ApplicationError:
    """The failure Temporal records: type is the code, and a rate limit's own delay is honoured."""
    wait = error.retry_after if isinstance(error, ModelUnavailable) else None
    delay = timedelta(seconds=wait) if wait is not None else None
    return ApplicationError(
        str(error), *error.details, type=error.code, non_retryable=not error.retryable, next_retry_delay=delay
    )
