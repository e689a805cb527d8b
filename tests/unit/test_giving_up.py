"""What a workflow reads from the failure of a model call."""

import pytest
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, TimeoutError as Expired, TimeoutType

from hibernaut.contracts import PerhapsPaid
from hibernaut.models import Usage
from workflows.giving_up import perhaps_paid

EACH = Usage(total_tokens=7)
PAID = {"requests": 2, "each": {"total_tokens": 7}}


def ended(cause: BaseException | None) -> ActivityError:
    error = ActivityError(
        "ended",
        scheduled_event_id=1,
        started_event_id=2,
        identity="",
        activity_type="model.call",
        activity_id="1",
        retry_state=None,
    )
    error.__cause__ = cause
    return error


def expired(*details: object) -> Expired:
    return Expired("no heartbeat", type=TimeoutType.HEARTBEAT, last_heartbeat_details=details)


def test_a_failure_says_it_in_its_details() -> None:
    assert perhaps_paid(ended(ApplicationError("no", PAID))) == PerhapsPaid(requests=2, each=EACH)


def test_a_dead_worker_has_said_it_in_its_heartbeat() -> None:
    # The request that is under way is in the second detail alone.
    assert perhaps_paid(ended(expired("text", 3, PAID))) == PerhapsPaid(requests=3, each=EACH)
    assert perhaps_paid(ended(expired("text", 1, {}))) == PerhapsPaid(requests=1)


@pytest.mark.parametrize(
    "cause",
    [
        None,
        CancelledError("given up"),
        ApplicationError("no"),
        ApplicationError("no", "text"),
        ApplicationError("no", {"requests": "many"}),
        expired(),
        expired("text", 3),
        expired("text", "many", {}),
        expired("text", 3, None),
    ],
)
def test_what_says_nothing_is_none(cause: BaseException | None) -> None:
    assert perhaps_paid(ended(cause)) is None
