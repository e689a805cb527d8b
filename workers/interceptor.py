"""Errors of activities as Temporal failures: one place decides what is retried."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities.errors import HibernautActivityError, ModelUnavailable

_CAUSES = 50
"""Of an error that are looked at; a ring of them has no end."""


class ErrorInterceptor(Interceptor):
    """Turns `HibernautActivityError` into `ApplicationError` with its code and retryability."""

    def __init__(self, unseen: Callable[[str], str] = str) -> None:
        """Let every text of a failure go through this, which makes values of secrets unseen."""
        self._unseen = unseen

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002  # Temporal's name
        """See Temporal."""
        return _Inbound(super().intercept_activity(next), self._unseen)


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, unseen: Callable[[str], str]) -> None:  # noqa: A002  # the same
        super().__init__(next)
        self._unseen = unseen

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002, ANN401  # Temporal's
        try:
            return await super().execute_activity(input)
        except HibernautActivityError as error:
            activity.logger.warning("%s: %s", error.code, self._unseen(str(error)))
            # The sentence is enough for the history; the trace is in the log.
            raise as_failure(error, self._unseen) from None
        except FailureError:
            raise
        except Exception as error:
            if all(self._unseen(text) == text for text in map(str, _with_causes(error))):
                raise
            # With its trace and its causes it would be recorded as it is.
            raise ApplicationError(self._unseen(str(error)), type=type(error).__name__) from None


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """What Temporal records of an error."""
    one: BaseException | None = error
    for _ in range(_CAUSES):
        if one is None:
            return
        yield one
        one = one.__cause__


def as_failure(error: HibernautActivityError, unseen: Callable[[str], str] = str) -> ApplicationError:
    """The failure Temporal records: type is the code, and a rate limit's own delay is honoured."""
    wait = error.retry_after if isinstance(error, ModelUnavailable) else None
    delay = timedelta(seconds=wait) if wait is not None else None
    return ApplicationError(
        unseen(str(error)), *error.details, type=error.code, non_retryable=not error.retryable, next_retry_delay=delay
    )
