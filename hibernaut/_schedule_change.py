"""Changing a schedule in place, without undoing what others change at the same time."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import Any, Literal, TypeAlias, cast

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import ScheduleOverlapPolicy
from temporalio.api.schedule.v1 import Schedule
from temporalio.api.workflowservice.v1 import UpdateScheduleRequest
from temporalio.client import Client, ScheduleDescription
from temporalio.service import RPCError, RPCStatusCode

from hibernaut._explain import parse_spec
from hibernaut._schedule_errors import InvalidSchedule, ScheduleError
from hibernaut._schedules import (
    KEEP,
    OVERLAPS,
    check_keep,
    check_limits,
    check_room,
    check_times,
    cron_line,
    cron_of,
    policy_of,
    request_of,
    summary_of,
)
from hibernaut._temporal import ATTEMPT, Workflows
from hibernaut.contracts.schedules import MEMO_AGENT, ScheduledMessage, schedule_id
from hibernaut.models import AgentSpec
from hibernaut.models.schedules import OverlapPolicy

TRIES = 8
UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "\u00b5s": 1e-6, "ns": 1e-9}
"""Seconds of the units that the server knows."""
SPAN = re.compile(rf"([\d.]+)({'|'.join(sorted(UNITS, key=len, reverse=True))})")


class _Mark(Enum):
    UNCHANGED = "unchanged"


UNCHANGED = _Mark.UNCHANGED
"""Stands for what is left as it is, where None has a meaning of its own."""
Unchanged: TypeAlias = Literal[_Mark.UNCHANGED]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be different; the rest is None, or UNCHANGED."""

    cron: str | None = None
    message: str | None = None
    agent: str | None = None
    spec: AgentSpec | Mapping[str, Any] | None = None
    timezone: str | None = None
    overlap: OverlapPolicy | str | None = None
    catchup_window: timedelta | None = None
    jitter: timedelta | None = None
    keep: int | Unchanged | None = UNCHANGED
    run_timeout: timedelta | Unchanged | None = UNCHANGED
    note: str | None = None


async def change_schedule(workflows: Workflows, name: str, change: Change) -> None:
    """See `ScheduleHandle.update`.

    Raises:
        RPCError: of Temporal.
    """
    _check(change)
    if change.agent is not None:
        await workflows.raise_if_closed(change.agent)
    client = workflows.client
    handle = client.get_schedule_handle(schedule_id(name))
    good = before = await handle.describe(rpc_timeout=ATTEMPT)
    for _ in range(TRIES):
        good = before if before.info.next_action_times else good
        await _write(client, name, await _edited(client, name, before, change), before)
        after = await handle.describe(rpc_timeout=ATTEMPT)
        # The server says nothing of a change that it drops because another one came first.
        if await _holds(client, name, after, change) and _rescheduled(after, change):
            break
        before = after
    else:
        raise ScheduleError(f"Others changed schedule {name} at the same time, {TRIES} times.", hint="Try again.")
    if (change.cron or change.timezone) and not after.info.next_action_times:
        await _put_back(client, name, good, after, change)
        raise InvalidSchedule(f"The cron expression {cron_of(after.schedule.spec)!r} never comes true.")


def _check(change: Change) -> None:
    """Raise InvalidSchedule, or InvalidSpec, for what can be told without asking anybody."""
    if change == Change():
        raise InvalidSchedule("Nothing is to be changed.", hint="Say what: the cron expression, the message, ...")
    if change.agent is not None and change.spec is not None:
        raise InvalidSchedule("A schedule has an agent or a spec: one of the two, and not both.")
    check_times(
        "* * * * *" if change.cron is None else change.cron, "UTC" if change.timezone is None else change.timezone
    )
    check_limits(
        "x" if change.message is None else change.message,
        catchup_window=change.catchup_window,
        jitter=change.jitter,
        run_timeout=None if change.run_timeout is UNCHANGED else change.run_timeout,
    )
    if change.overlap is not None:
        policy_of(change.overlap)
    if change.keep is not UNCHANGED:
        check_keep(change.keep)
    if change.spec is not None:
        _spec(change.spec)


def _spec(spec: AgentSpec | Mapping[str, Any]) -> dict[str, Any]:
    valid = spec if isinstance(spec, AgentSpec) else parse_spec(spec)
    return valid.model_dump(mode="json", exclude_unset=True)


async def _edited(client: Client, name: str, before: ScheduleDescription, change: Change) -> Schedule:
    """The schedule as it is to be."""
    request = await _request(client, name, before, change)
    wanted = Schedule()
    wanted.CopyFrom(before.raw_description.schedule)
    if change.cron is not None:
        # In these the server keeps what it made of cron expressions.
        for field in ("structured_calendar", "calendar", "interval", "cron_string"):
            wanted.spec.ClearField(field)
        wanted.spec.cron_string.append(cron_line(change.cron))
    if change.timezone is not None:
        wanted.spec.timezone_name = change.timezone
    if change.jitter is not None:
        wanted.spec.ClearField("jitter")
        if change.jitter:
            wanted.spec.jitter.FromTimedelta(change.jitter)
    if change.overlap is not None:
        policy = OVERLAPS[policy_of(change.overlap)].value
        wanted.policies.overlap_policy = cast("ScheduleOverlapPolicy.ValueType", policy)
    if change.catchup_window is not None:
        wanted.policies.catchup_window.FromTimedelta(change.catchup_window)
    if change.note is not None:
        wanted.state.notes = change.note
    start = wanted.action.start_workflow
    said = await _said(client, request, list(start.input.payloads))
    start.input.ClearField("payloads")
    start.input.payloads.extend(said)
    noted = [start.memo.fields[MEMO_AGENT]] if MEMO_AGENT in start.memo.fields else []
    (noted_anew,) = await _said(client, request.agent_id or "", noted)
    start.memo.fields[MEMO_AGENT].CopyFrom(noted_anew)
    (summary,) = await _said(client, summary_of(request), [start.user_metadata.summary])
    start.user_metadata.summary.CopyFrom(summary)
    return wanted


async def _said(client: Client, value: object, before: list[Payload]) -> list[Payload]:
    """A value as Temporal is to keep it: what it has, if that says the same. Sealed anew, it would look changed."""
    converter = client.data_converter
    opened = await converter.payload_codec.decode(before) if converter.payload_codec else before
    same = opened == converter.payload_converter.to_payloads([value])
    return before if same else await converter.encode([value])


async def _request(client: Client, name: str, before: ScheduleDescription, change: Change) -> ScheduledMessage:
    old = await request_of(name, before)
    given: dict[str, Any] = {}
    if change.message is not None:
        given["message"] = change.message
    if change.agent is not None:
        given |= {"agent_id": change.agent, "spec": None, "keep": None}
    if change.spec is not None:
        given |= {"agent_id": None, "spec": _spec(change.spec)}
        if old.spec is None and change.keep is UNCHANGED:
            await check_room(client, name, KEEP)
            given["keep"] = KEEP
    if change.keep is not UNCHANGED:
        given["keep"] = change.keep
    if change.run_timeout is not UNCHANGED:
        given["run_timeout"] = change.run_timeout
    new = old.model_copy(update=given)
    if new.spec is None and change.keep is not UNCHANGED:
        raise InvalidSchedule(
            f"Schedule {name} sends to agent {new.agent_id}: there are no agents of its own to keep.",
            hint="Give a spec, and each firing starts an agent.",
        )
    return new


async def _write(client: Client, name: str, wanted: Schedule, seen: ScheduleDescription) -> None:
    """Put a schedule in the place of the one that was seen, unless somebody has changed it since."""
    request = UpdateScheduleRequest(
        namespace=client.namespace,
        schedule_id=schedule_id(name),
        schedule=wanted,
        conflict_token=seen.raw_description.conflict_token,
        identity=client.identity,
        request_id=uuid.uuid4().hex,
    )
    try:
        await client.workflow_service.update_schedule(request, timeout=ATTEMPT)
    except RPCError as error:
        # How newer servers say that somebody has.
        if error.status is not RPCStatusCode.FAILED_PRECONDITION:
            raise


async def _put_back(
    client: Client, name: str, good: ScheduleDescription, now: ScheduleDescription, change: Change
) -> None:
    """Make a schedule what it was; a pause that others begin or end meanwhile is theirs."""
    was = good.raw_description.schedule
    for _ in range(TRIES):
        state = now.raw_description.schedule.state
        wanted = Schedule()
        wanted.CopyFrom(was)
        wanted.state.CopyFrom(state)
        if state.notes == change.note:
            wanted.state.notes = was.state.notes
        await _write(client, name, wanted, now)
        now = await client.get_schedule_handle(schedule_id(name)).describe(rpc_timeout=ATTEMPT)
        if now.raw_description.schedule.spec == was.spec:
            return


async def _holds(client: Client, name: str, seen: ScheduleDescription, change: Change) -> bool:
    """Whether a schedule is as it should be, the cron expression left aside."""
    return await _edited(client, name, seen, replace(change, cron=None)) == seen.raw_description.schedule


def _rescheduled(seen: ScheduleDescription, change: Change) -> bool:
    """Whether it has the cron expression."""
    spec = seen.schedule.spec
    if change.cron is None or cron_of(spec) == change.cron.strip():
        return True
    # Of `@every` the server keeps no text.
    name, _, length = change.cron.strip().partition(" ")
    every, _, phase = length.partition("/")
    kept = [(interval.every, interval.offset or timedelta(0)) for interval in spec.intervals]
    return name == "@every" and kept == [(_span(every), _span(phase))]


def _span(text: str) -> timedelta:
    """What the server makes of `1h30m` or `1.5h`."""
    return sum((timedelta(seconds=float(number) * UNITS[unit]) for number, unit in SPAN.findall(text)), timedelta(0))
