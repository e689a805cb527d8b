"""From what a caller says to a schedule of Temporal's, and back."""

import difflib
import re
import zoneinfo
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleDescription,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
)
from temporalio.service import RPCError, RPCStatusCode

from hibernaut._connect import translate
from hibernaut._fresh_agents import fresh_agents
from hibernaut._schedule_errors import InvalidSchedule, ScheduleNotFound
from hibernaut.contracts.names import SCHEDULED_MESSAGE_WORKFLOW, TASK_QUEUE
from hibernaut.contracts.schedules import MEMO_AGENT, ScheduledMessage, schedule_id
from hibernaut.errors import HibernautError
from hibernaut.models.schedules import Firing, OverlapPolicy, ScheduleStatus, ScheduleSummary

NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
KEEP = 10
"""Of fresh agents, how many are kept unless somebody says otherwise."""
MAX_MESSAGE = 100_000
"""Bytes of UTF-8: the server carries the message in the schedule itself."""
LEAST_WINDOW = timedelta(seconds=10)
"""Temporal takes a shorter catch-up window for this."""
MAX_TIMES = 1_000
"""The server tells no more times at once, and buffers no more firings."""
HEAD = 200
CRON_HINT = (
    "Five fields: minute, hour, day of month, month, day of week; with a sixth, the year; with seven, seconds first. "
    "Or @hourly, @daily, @weekly, @monthly, @yearly, @every 90m."
)
OVERLAPS = {
    OverlapPolicy.SKIP: ScheduleOverlapPolicy.SKIP,
    OverlapPolicy.BUFFER_ONE: ScheduleOverlapPolicy.BUFFER_ONE,
    OverlapPolicy.BUFFER_ALL: ScheduleOverlapPolicy.BUFFER_ALL,
    OverlapPolicy.CANCEL_OTHER: ScheduleOverlapPolicy.CANCEL_OTHER,
    OverlapPolicy.TERMINATE_OTHER: ScheduleOverlapPolicy.TERMINATE_OTHER,
    OverlapPolicy.ALLOW_ALL: ScheduleOverlapPolicy.ALLOW_ALL,
}
_POLICIES = {theirs: ours for ours, theirs in OVERLAPS.items()}


def check_name(name: str) -> None:
    """Raise InvalidSchedule unless the name can begin the ids of agents."""
    if NAME.fullmatch(name) is None or set(name) == {"."}:
        raise InvalidSchedule(
            f"{name[:120]!r} is no name of a schedule.",
            hint="Use 1 to 100 of the characters A-Z a-z 0-9 . _ - and not dots alone.",
        )


def check_times(cron: str, timezone: str) -> None:
    """Raise InvalidSchedule for what can be told without the server, which judges the rest."""
    fields = cron.split()
    if not fields or "#" in cron or "\n" in cron:
        raise InvalidSchedule(f"{cron!r} is no cron expression.", hint=CRON_HINT)
    if fields[0].startswith(("CRON_TZ=", "TZ=")):
        raise InvalidSchedule("A cron expression here has no time zone of its own.", hint="Say it as the time zone.")
    known = zoneinfo.available_timezones()
    # A machine without a time zone database leaves the judgement to the server; its own "Local" is nobody's zone.
    if (known and timezone not in known) or timezone in {"", "Local"}:
        near = difflib.get_close_matches(timezone, known, n=1, cutoff=0.6)
        hint = f"Did you mean {near[0]}?" if near else "Use a name such as Europe/Berlin or UTC."
        raise InvalidSchedule(f"There is no time zone {timezone!r}.", hint=hint)


def check_limits(message: str, **limits: timedelta | None) -> None:
    """Raise InvalidSchedule for a message that is too long or a time that is negative."""
    try:
        size = len(message.encode())
    except UnicodeEncodeError as error:
        raise InvalidSchedule("The message holds bytes that are not UTF-8.", hint="Send text.") from error
    if not 1 <= size <= MAX_MESSAGE:
        raise InvalidSchedule(
            f"The message of a schedule has 1 to {MAX_MESSAGE:,} bytes, not {size:,}.",
            hint="Put the content into a file of the agent's computer and name the file in the message.",
        )
    for name, limit in limits.items():
        if limit is not None and not timedelta(0) <= limit <= timedelta(days=3650):
            raise InvalidSchedule(f"The {name.replace('_', ' ')} cannot be {limit}.", hint="It is 0 to 3,650 days.")
    window, longest = limits.get("catchup_window"), limits.get("run_timeout")
    if window is not None and window < LEAST_WINDOW:
        raise InvalidSchedule("The catch-up window is 10 seconds at least, as the server has it.")
    if longest is not None and longest < timedelta(seconds=1):
        raise InvalidSchedule("The run timeout is a second at least.")


def policy_of(overlap: OverlapPolicy | str) -> OverlapPolicy:
    """The policy of this name, or InvalidSchedule."""
    try:
        return OverlapPolicy(overlap)
    except ValueError as error:
        hint = f"It is {', '.join(OverlapPolicy)}."
        raise InvalidSchedule(f"{overlap!r} is no overlap policy.", hint=hint) from error


def check_keep(keep: int | None) -> None:
    """Raise InvalidSchedule for a number of agents that cannot be kept."""
    if keep is not None and keep < 1:
        raise InvalidSchedule(f"Of the agents of a schedule 1 or more are kept, not {keep}.")


async def check_room(client: Client, name: str, keep: int | None) -> None:
    """Raise InvalidSchedule when agents of an earlier schedule of this name would be deleted by the first firing."""
    there = 0 if keep is None else len(await fresh_agents(client, name))
    if keep is not None and there > keep:
        raise InvalidSchedule(
            f"{there:,} agents of an earlier schedule {name!r} are there: to keep {keep:,} would delete the others.",
            hint=f"Keep all of them (--keep-all), or take another name; `hibernaut schedule update {name} --keep N` "
            "deletes them at the next firing.",
        )


def cron_line(cron: str) -> str:
    """A cron expression for the server, which turns it into calendars: of the text it keeps what comes after the #."""
    return f"{cron.strip()} # {cron.strip()}"


def summary_of(request: ScheduledMessage) -> str:
    """What the web UI shows of each firing."""
    return f"schedule {request.schedule}: message to {request.agent_id or 'a fresh agent'}"[:HEAD]


def schedule_of(
    request: ScheduledMessage,
    *,
    cron: str,
    timezone: str,
    overlap: OverlapPolicy,
    catchup_window: timedelta,
    jitter: timedelta,
    state: ScheduleState,
) -> Schedule:
    """What the server is asked to keep."""
    return Schedule(
        action=ScheduleActionStartWorkflow(
            SCHEDULED_MESSAGE_WORKFLOW,
            request,
            id=schedule_id(request.schedule),
            task_queue=TASK_QUEUE,
            static_summary=summary_of(request),
            # An empty one says that there is nothing more to be looked for in its argument.
            memo={MEMO_AGENT: request.agent_id or ""},
        ),
        spec=ScheduleSpec(cron_expressions=[cron_line(cron)], time_zone_name=timezone, jitter=jitter or None),
        policy=SchedulePolicy(overlap=OVERLAPS[overlap], catchup_window=catchup_window),
        state=state,
    )


def translated(error: RPCError, name: str, namespace: str) -> HibernautError:
    """The error of ours that says what an RPC error means for a schedule."""
    if error.status is RPCStatusCode.NOT_FOUND and "amespace" not in error.message:
        return not_found(name)
    if error.status is RPCStatusCode.INVALID_ARGUMENT:
        said = error.message.removeprefix("Invalid schedule spec: ")
        return InvalidSchedule(f"Temporal does not take the schedule {name}: {said}.", hint=CRON_HINT)
    return translate(error, namespace)


def not_found(name: str) -> ScheduleNotFound:
    """The error for a name that no schedule has."""
    return ScheduleNotFound(f"There is no schedule {name!r}.", hint="`hibernaut schedule ls` lists them.")


async def request_of(name: str, description: ScheduleDescription) -> ScheduledMessage:
    """What its firings do.

    Raises:
        ScheduleNotFound: a schedule of somebody else's.
    """
    action = description.schedule.action
    if not isinstance(action, ScheduleActionStartWorkflow) or action.workflow != SCHEDULED_MESSAGE_WORKFLOW:
        raise not_found(name)
    args: Sequence[Any] = action.args
    decoded: list[Any] = await description.data_converter.decode(args, [ScheduledMessage])
    return ScheduledMessage.model_validate(decoded[0])


def cron_of(spec: ScheduleSpec) -> str:
    """The cron expression, as somebody wrote it where that is known."""
    comments = [calendar.comment for calendar in spec.calendars if calendar.comment]
    if comments:
        return comments[0]
    if spec.intervals:
        return f"@every {spec.intervals[0].every.total_seconds():g}s"
    return "?"


def summary_line(request: ScheduledMessage, description: ScheduleDescription) -> ScheduleSummary:
    """A schedule as a line of the list."""
    schedule, info = description.schedule, description.info
    upcoming = () if schedule.state.paused else info.next_action_times
    return ScheduleSummary(
        name=request.schedule,
        cron=cron_of(schedule.spec),
        timezone=schedule.spec.time_zone_name or "UTC",
        agent_id=request.agent_id,
        paused=schedule.state.paused,
        note=schedule.state.note or "",
        next_at=min(upcoming, default=None),
        last_at=max((action.started_at for action in info.recent_actions), default=None),
    )


def status_of(
    request: ScheduledMessage, description: ScheduleDescription, recent: tuple[Firing, ...]
) -> ScheduleStatus:
    """A schedule as the server describes it."""
    schedule, info = description.schedule, description.info
    return ScheduleStatus(
        name=request.schedule,
        cron=cron_of(schedule.spec),
        timezone=schedule.spec.time_zone_name or "UTC",
        message=request.message,
        agent_id=request.agent_id,
        spec=request.spec,
        keep=request.keep,
        overlap=_POLICIES.get(schedule.policy.overlap, OverlapPolicy.SKIP),
        catchup_window=schedule.policy.catchup_window or timedelta(days=365),
        jitter=schedule.spec.jitter or timedelta(0),
        run_timeout=request.run_timeout,
        paused=schedule.state.paused,
        note=schedule.state.note or "",
        created_at=info.created_at,
        next=() if schedule.state.paused else tuple(info.next_action_times),
        recent=recent,
        firings=info.num_actions,
        waiting=description.raw_description.info.buffer_size,
        skipped=info.num_actions_skipped_overlap,
        missed=info.num_actions_missed_catchup_window,
    )
