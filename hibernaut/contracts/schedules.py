"""Schedules: the ids they use, the argument and result of `ScheduledMessageWorkflow`, its activities' requests."""

from datetime import UTC, datetime, timedelta

from pydantic import JsonValue

from hibernaut.models.base import Open
from hibernaut.models.messages import AnswerState

SCHEDULE_PREFIX = "hibernaut-schedule:"
"""Begins the ids of our schedules and of the workflows they start; no agent's id can have a colon."""
MESSAGE_PREFIX = "schedule:"
MEMO_SCHEDULE = "hibernaut_schedule"
"""The memo in which an agent that a firing started bears the name of the schedule."""
MEMO_FIRED = "hibernaut_fired_at"
"""The memo in which it bears the time at which it was started, as ISO 8601."""
MEMO_AGENT = "hibernaut_agent"
"""The memo in which a firing bears the id of the agent it is for; none when it starts one of its own."""
SENDING = timedelta(minutes=1)
"""What the sending gets at least, however short the run timeout is."""
STAMP = "%Y%m%dT%H%M%SZ"
"""How ids spell a nominal time, in UTC."""


class ScheduledMessage(Open):
    """The argument of `ScheduledMessageWorkflow`: the same for every firing."""

    schedule: str
    """Its name."""
    message: str
    agent_id: str | None = None
    """The agent it is for; else `spec` is that of a fresh one."""
    spec: dict[str, JsonValue] | None = None
    keep: int | None = None
    """How many of the fresh agents are kept; None: all of them."""
    run_timeout: timedelta | None = None
    """How long a firing may take; None: as long as the agent does."""


class FiringResult(Open):
    """The result of `ScheduledMessageWorkflow`."""

    agent_id: str
    message_id: str
    scheduled_at: datetime
    state: AnswerState
    """`done`; or `unknown`: an earlier firing of the same nominal time sent the message, and nothing is known of its
    answer any more."""
    text: str = ""
    """The answer's beginning."""
    turn: int = 0
    steps: int = 0
    duplicate: bool = False
    """Whether the message had been sent: by an earlier firing of the same nominal time, or by an attempt whose result
    was lost."""


class ScheduleSendRequest(Open):
    """Sends the message of a firing, once whatever happens."""

    schedule: str
    agent_id: str
    message_id: str
    message: str
    spec: dict[str, JsonValue] | None = None
    """Starts the agent with it."""


class ScheduleSendResult(Open):
    """The message is durable."""

    duplicate: bool = False


class ScheduleWaitRequest(Open):
    """Asks what became of a message; fails, to be tried again, while it is not answered."""

    agent_id: str
    message_id: str


class ScheduleStopRequest(Open):
    """Withdraws a message: its turn is interrupted, one that waits gets none."""

    agent_id: str
    message_id: str


class ScheduleStopResult(Open):
    """Whether its turn ran or was to come."""

    interrupted: bool


class ScheduleFinishRequest(Open):
    """Closes the agent of a firing, and deletes those of the schedule's older ones that are beyond `keep`."""

    schedule: str
    agent_id: str
    keep: int | None = None


class ScheduleFinishResult(Open):
    """Agents whose deletion has begun."""

    deleted: tuple[str, ...] = ()


def schedule_id(name: str) -> str:
    """The id of a schedule in Temporal; also what the ids of its workflows begin with."""
    return f"{SCHEDULE_PREFIX}{name}"


def firing_message_id(schedule: str, nominal: datetime) -> str:
    """The id of the message of a firing: the same for a retried and for a doubled one."""
    return f"{MESSAGE_PREFIX}{schedule}:{nominal.astimezone(UTC).strftime(STAMP)}"


def firing_agent_id(schedule: str, nominal: datetime) -> str:
    """The id of the agent that a firing starts."""
    return f"{schedule}-{nominal.astimezone(UTC).strftime(STAMP)}"


def firing_workflow_id(schedule: str, nominal: datetime) -> str:
    """The id that Temporal gives the workflow of a firing."""
    return f"{schedule_id(schedule)}-{nominal.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def nominal_of(schedule: str, agent_id: str) -> datetime | None:
    """The nominal time of the firing that started an agent; None when the id is none of this schedule's."""
    return _stamped(agent_id, f"{schedule}-")


def nominal_of_message(schedule: str, message_id: str) -> datetime | None:
    """The nominal time of the firing that sent a message; None when the id is none of this schedule's."""
    return _stamped(message_id, f"{MESSAGE_PREFIX}{schedule}:")


def _stamped(text: str, prefix: str) -> datetime | None:
    stamp = text.removeprefix(prefix)
    if stamp == text:
        return None
    try:
        return datetime.strptime(stamp, STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
